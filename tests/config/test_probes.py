import pytest

from ssmtunneld.config import parse_config
from ssmtunneld.config.probes import LONGEST_BANNER, Probe, parse_probe


@pytest.mark.parametrize(
    ("written", "probe"),
    [
        ("tcp", Probe("tcp")),
        ("postgres", Probe("postgres")),
        ("redis", Probe("redis")),
        ("banner:SSH-", Probe("banner", "SSH-")),
        ("banner:220 mail: ready", Probe("banner", "220 mail: ready")),
        ("http:/", Probe("http", "/")),
        ("http:/health?deep=1", Probe("http", "/health?deep=1")),
    ],
)
def test_a_probe_is_read_and_spelled_again(written, probe):
    assert parse_probe(written) == probe
    assert str(probe) == written
    assert parse_probe(probe) is probe


@pytest.mark.parametrize("written", [False, None])
def test_a_probe_can_be_switched_off(written):
    assert parse_probe(written) is None


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("postgre", "did you mean postgres"),
        ("https:/", "did you mean http"),
        ("tcp:5432", "is not a probe: write"),
        ("", "is not a probe: write"),
        (True, "is not a probe: write"),
        (17, "is not a probe: write"),
        ("banner:", "first bytes"),
        ("banner", "first bytes"),
        ("banner:" + "ä" * LONGEST_BANNER, "first bytes"),
        ("http:", "a path"),
        ("http:health", "a path"),
        ("http:/a b", "a path"),
        ("http:/a\r\nHost: evil", "a path"),
        ("http:/" + "a" * 2048, "a path"),
    ],
)
def test_anything_else_is_refused_with_how_to_write_it(written, words):
    with pytest.raises(ValueError, match=words):
        parse_probe(written)


def test_a_tunnel_may_do_without_the_probe_of_the_defaults():
    text = """
        [defaults]
        target = "i-0182d91e85d69cf00"
        probe = "tcp"
        [tunnels.one]
        listen = 1
        port = 1
        [tunnels.two]
        listen = 2
        port = 2
        probe = false
    """
    one, two = parse_config(text, "c.toml", {}).tunnels
    assert (one.probe, two.probe) == (Probe("tcp"), None)
