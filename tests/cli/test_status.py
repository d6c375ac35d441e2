"""How ``ssmtunneld status`` writes what it was told."""

import pytest

from ssmtunneld.cli.status import _duration, _lines, _size


def mapping(**changes):
    """Return the status of a mapping as the daemon sends it."""
    return {
        "name": "db",
        "state": "ready",
        "reason": "",
        "advice": "",
        "listen": ["127.0.0.1:5432"],
        "target": "i-0123456789abcdef0",
        "destination": "orders:5432",
        "connections": 2,
        "sent": 2048,
        "received": 5,
        "sessions": [{}],
        **changes,
    }


def document(*mappings):
    """Return a status document."""
    return {
        "program": "1.0",
        "pid": 7,
        "uptime": 61,
        "config": "/etc/c.toml",
        "mappings": mappings,
    }


def test_a_tunnel_is_one_line_with_its_way_and_its_traffic():
    head, line = _lines(document(mapping()))
    assert head == "ssmtunneld 1.0, pid 7, up 1m 1s, /etc/c.toml: 1 of 1 tunnels ready"
    assert "127.0.0.1:5432 -> i-0123456789abcdef0 -> orders:5432" in line
    assert line.endswith("1 session, 2 connected, up 2.0 KiB, down 5 B")


def test_trouble_is_a_second_line_with_what_to_do():
    broken = mapping(
        state="waiting", reason="no", advice="do it", listen=[], sessions=[]
    )
    lines = _lines(document(broken))
    assert "-> i-0123456789abcdef0" in lines[1]
    assert lines[2].strip() == "no; do it"
    lines = _lines(document(mapping(state="retrying", reason="no")))
    assert lines[2].strip() == "no"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (3600, "1h"), (93784, "1d 2h"), (3661, "1h 1m")],
)
def test_a_duration_has_two_units_at_most(seconds, text):
    assert _duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 40, "3072.0 GiB")],
)
def test_sizes_are_powers_of_1024(count, text):
    assert _size(count) == text
