"""Names and ports of what was found."""

import pytest

from ssmtunneld.importing.found import Found, local_address, short, slug, unique


def test_names_and_ports_that_clash_get_others():
    found = Found()
    for listen in (5432, "127.0.0.1:5432", "localhost:80", "[::1]:5432", "unix:/x", 0):
        found.add("Orders DB", {"listen": listen, "host": None}, 7)
    found.add("odd", {"listen": "nonsense"})
    settled = found.settled(["orders-db"], [80])
    assert [(t.name, t.settings["listen"]) for t in settled.tunnels] == [
        ("orders-db-2", 5432),
        ("orders-db-3", "127.0.0.1:5433"),
        ("orders-db-4", "localhost:81"),
        ("orders-db-5", "[::1]:5432"),
        ("orders-db-6", "unix:/x"),
        ("orders-db-7", 0),
        ("odd", "nonsense"),
    ]
    assert all("host" not in tunnel.settings for tunnel in settled.tunnels)
    assert [note.line for note in settled.notes] == [7, 7]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Orders DB!", "orders-db"), ("--", "tunnel"), ("x" * 99, "x" * 50)],
)
def test_anything_becomes_a_name(text, expected):
    assert slug(text) == expected


def test_short_forms():
    assert short("orders.internal") == "orders"
    assert short("10.0.0.5") == "10.0.0.5"
    assert local_address("[::1]", 1) == "[::1]:1"
    assert local_address("0.0.0.0", 1) == "0.0.0.0:1"
    assert local_address("", 1) == 1
    assert unique("a", ["a", "a-2"]) == "a-3"
