import pytest

from ssmtunneld.config import parse_config
from ssmtunneld.config.probes import LONGEST_BANNER, Probe, parse_probe, speaks_mysql
from ssmtunneld.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "probe"),
    [
        ("tcp", Probe("tcp")),
        ("postgres", Probe("postgres")),
        ("redis", Probe("redis")),
        ("mysql", Probe("mysql")),
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


MYSQL = """
    [tunnels.db]
    listen = 1
    target = "i-0182d91e85d69cf00"
    {}
"""


@pytest.mark.parametrize(
    "settings",
    [
        'port = 3306\nprobe = "tcp"',
        'port = 3306\nprobe = "banner:x"',
        'port = 3306\nprobe = "postgres"',
        'port = 3307\nprobe = "tcp"\ndb_engine = "mysql"',
        'document = "Doc"\nparameters = { portNumber = "3306" }\nprobe = "tcp"',
    ],
)
def test_a_probe_that_mysql_counts_as_an_attack_is_refused(settings):
    with pytest.raises(ConfigError, match='probe: should be "mysql", not'):
        parse_config(MYSQL.format(settings), "c.toml", {})


@pytest.mark.parametrize(
    "settings",
    [
        'port = 3306\nprobe = "mysql"',
        "port = 3306\nprobe = false",
        'port = 3306\nprobe = "postgres"\ndb_engine = "postgres"',
        'port = 3307\nprobe = "tcp"',
    ],
)
def test_other_probes_are_taken(settings):
    assert parse_config(MYSQL.format(settings), "c.toml", {}).tunnels


@pytest.mark.parametrize(
    ("port", "engine", "expected"),
    [
        (3306, None, True),
        (3306, "mysql", True),
        (3306, "redis", False),
        (1, "mysql", True),
        (None, None, False),
    ],
)
def test_mysql_is_known_by_its_port_unless_the_engine_says_otherwise(
    port, engine, expected
):
    assert speaks_mysql(port, engine) is expected


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
