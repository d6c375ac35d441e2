"""Tunnels from words on a command line."""

import errno
import re
import socket

import pytest

from ssmtunneld.cli.ad_hoc import (
    Forward,
    configure,
    is_free,
    looks_like_destination,
    parse_destination,
    parse_forward,
    parse_tunnel,
    socks_address,
    with_addresses,
)
from ssmtunneld.errors import ConfigError
from tests.support.ports import free_port

TARGET = "i-0123456789abcdef0"


@pytest.fixture
def taken():
    """A port of 127.0.0.1 on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("5432", None, 5432),
        ("localhost:80", None, 80),
        ("127.0.0.1:80", None, 80),
        ("[::1]:80", None, 80),
        ("db.internal:5432", "db.internal", 5432),
        ("10.0.0.5:1", "10.0.0.5", 1),
        ("[fd00::5]:65535", "fd00::5", 65535),
    ],
)
def test_a_destination_is_a_port_and_perhaps_a_host(text, host, port):
    assert parse_destination(text) == Forward(host, port)


@pytest.mark.parametrize(
    "text", ["", "0", "65536", "db", "db:", ":1", "a:b:1", "99999:a:1"]
)
def test_what_is_no_destination_is_refused_with_what_to_write(text):
    with pytest.raises(ValueError, match=r"write a port such as 5432, or HOST:PORT"):
        parse_destination(text)


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("127.1:18080", "127.1 is read as 127.0.0.1, the target itself: write only"),
        ("[::]:80", ":: is the address of no host"),
        ("10.5:80", "10.5 is read as 10.0.0.5: write it so"),
        ("15432:80", "write the local port as --listen 15432, and the destin"),
        ("a b:80", "a b is not a host: write only a name or an IP address"),
    ],
)
def test_a_destination_that_can_never_be_reached_is_refused(text, cure):
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is not a dest")) as found:
        parse_destination(text)
    assert cure in str(found.value)
    with pytest.raises(ValueError, match=re.escape(cure)):
        parse_forward(f"1:{text}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5432", Forward(None, 5432)),
        ("db.internal:5432", Forward("db.internal", 5432)),
        ("15432:5432", Forward(None, 5432, "15432")),
        ("15432:db.internal:5432", Forward("db.internal", 5432, "15432")),
        ("15432:[fd00::5]:5432", Forward("fd00::5", 5432, "15432")),
        ("0:10.0.0.5:80", Forward("10.0.0.5", 80, "0")),
    ],
)
def test_a_local_port_can_stand_in_front_of_a_destination(text, expected):
    assert parse_tunnel(text) == expected
    assert looks_like_destination(text)


def test_where_a_local_port_cannot_stand_in_front_it_is_said_how_to_write_it():
    with pytest.raises(ValueError, match="--listen 15432, and the destination as db:8"):
        parse_destination("15432:db:80")
    with pytest.raises(ValueError, match="70000 in front of it is no local port"):
        parse_tunnel("70000:5432")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("fd00::5:1", "[fd00::5]:1"),
        ("2001:db8::1:5432", "[2001:db8::1]:5432"),
        ("2001:db8::1", "[2001:db8::1]:5432"),
        ("fe80::1%eth0:80", "[fe80::1]:80"),
        ("::1:80", "[::1]:80"),
    ],
)
def test_an_ipv6_address_is_told_from_a_local_port_and_gets_its_brackets(text, meant):
    said = f"{text!r} is not a destination: write IPv6 addresses in brackets, as in "
    for parse in (parse_destination, parse_tunnel):
        with pytest.raises(ValueError, match=re.escape(said + meant)):
            parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("15432:10.5:80", "10.5 is read as 10.0.0.5: write it so"),
        ("15432:127.1:80", "127.1 is read as 127.0.0.1, the target itself"),
        ("1:2:3", "2 is no host"),
        ("1:2:3:4", "write a port such as 5432, or HOST:PORT"),
        ("5432:db:99999", "write a port such as 5432, or HOST:PORT"),
    ],
)
def test_behind_a_local_port_the_whole_word_is_quoted(text, why):
    said = f"{text!r} is not a destination: {why}"
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_tunnel(text)


def test_an_address_from_a_variable_that_is_not_set_is_not_taken_for_none():
    with pytest.raises(ValueError, match="--listen is empty: write a port, or leave"):
        with_addresses([Forward(None, 80), Forward(None, 81)], ["1", ""])


@pytest.mark.parametrize("text", ["99999:80", "15432:", "1:2:3", "15432:db", "a:1:2"])
def test_what_has_no_destination_behind_it_is_refused(text):
    with pytest.raises(ValueError, match="is not a destination: "):
        parse_tunnel(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080:localhost:80", Forward(None, 80, "127.0.0.1:8080")),
        ("8080:db.internal:80", Forward("db.internal", 80, "127.0.0.1:8080")),
        ("127.0.0.2:1:a:2", Forward("a", 2, "127.0.0.2:1")),
        ("[::1]:1:[fd00::5]:2", Forward("fd00::5", 2, "[::1]:1")),
        ("*:1:a:2", Forward("a", 2, "0.0.0.0:1")),
        (":1:a:2", Forward("a", 2, "0.0.0.0:1")),
        ("localhost:1:a:2", Forward("a", 2, "localhost:1")),
    ],
)
def test_a_forward_is_spelled_as_in_ssh(text, expected):
    assert parse_forward(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "1:a", "1::2", "a:1:b:2:3", "1:a:b", "[::1:1:a:2", "[::1]x:1:a:2"]
)
def test_what_is_no_forward_is_refused(text):
    with pytest.raises(ValueError, match=r"write a port|is not a forward"):
        parse_forward(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5432", True),
        ("db.internal:5432", True),
        (TARGET, False),
        ("name:80", False),
        ("web-1", False),
    ],
)
def test_a_destination_is_told_from_a_target(text, expected):
    assert looks_like_destination(text) is expected


def test_the_port_of_the_destination_is_taken_where_it_is_free(taken):
    free = free_port()
    wanted = [Forward(None, taken), Forward(None, free), Forward("db", free)]
    given = with_addresses(wanted, [])
    found = [forward.listen for forward in given]
    assert found == ["127.0.0.1:0", f"127.0.0.1:{free}", "127.0.0.1:0"]
    first, second, third = (forward.note for forward in given)
    assert first.startswith(f"{taken} is ")
    assert second == ""
    assert third == f"{free} is another tunnel's"
    assert (is_free(free), is_free(taken)) == (True, False)


def test_a_tunnel_to_this_machine_does_not_take_the_port_of_its_destination():
    free = free_port()
    wanted = [
        Forward(None, free),
        Forward("localhost", free),
        Forward(None, free, "1"),
        Forward("db", free),
    ]
    found = with_addresses(wanted, [], at_home=True)
    own = f"127.0.0.1:{free}"
    places = [forward.listen for forward in found]
    assert places == ["127.0.0.1:0", "127.0.0.1:0", "1", own]
    assert [bool(forward.note) for forward in found] == [True, True, False, False]
    found = with_addresses(wanted, [str(free)], at_home=True)
    assert found[0].listen == str(free), "whoever says so wants it"


def test_a_port_that_needs_a_privilege_is_not_called_taken(monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    class Unprivileged(socket.socket):
        bind = refuse

    monkeypatch.setattr(socket, "socket", Unprivileged)
    (found,) = with_addresses([Forward(None, 80)], [])
    assert (found.listen, found.note) == ("127.0.0.1:0", "80 needs a privilege")


def test_addresses_are_given_in_the_order_of_the_destinations():
    wanted = [Forward(None, 1), Forward(None, 2, "127.0.0.1:9"), Forward(None, 3)]
    found = with_addresses(wanted, ["18000", "unix:/tmp/x"])
    assert [f.listen for f in found] == ["18000", "127.0.0.1:9", "unix:/tmp/x"]


def test_an_address_too_many_is_a_mistake():
    with pytest.raises(ValueError, match="--listen 2 has no destination of its own"):
        with_addresses([Forward(None, 1)], ["1", "2"])


def test_a_proxy_listens_where_it_is_told_to():
    assert socks_address("127.0.0.1:9") == ("127.0.0.1:9", "")
    address, note = socks_address("")
    assert address in {"127.0.0.1:1080", "127.0.0.1:0"}
    assert bool(note) is (address == "127.0.0.1:0")


def test_the_configuration_names_tunnels_as_people_would():
    forwards = [
        Forward(None, 8000, "18000"),
        Forward(None, 8000, "18001"),
        Forward("orders.Cluster.example.com", 5432, "15432"),
        Forward("10.0.0.5", 1, "127.0.0.1:0"),
        Forward("_srv", 1, "127.0.0.1:0"),
        Forward("x" * 63 + ".example", 65535, "127.0.0.1:0"),
    ]
    proxy = {"listen": "127.0.0.1:0", "destinations": ["*:*"]}
    settings = {"region": "eu-west-1", "profile": None, "max_sessions": 2}
    config = configure("tag:Role=bastion", forwards, settings, proxy)
    assert [tunnel.name for tunnel in config.tunnels] == [
        *("port-8000", "port-8000-2", "orders-5432", "10-0-0-5-1", "srv-1"),
        *("x" * 53 + "-65535", "socks"),
    ]
    assert {tunnel.target for tunnel in config.tunnels} == {"tag:Role=bastion"}
    assert {tunnel.max_sessions for tunnel in config.tunnels} == {2}
    assert config.tunnels[-1].is_dynamic
    assert config.daemon.drain_timeout == 0


def test_what_is_wrong_is_said_without_a_file():
    with pytest.raises(ConfigError) as caught:
        configure("web-1", [Forward(None, 1, "nonsense")], {"region": "nowhere"})
    text = " | ".join(caught.value.problems)
    assert "target: 'web-1' is not a target" in text
    assert "; did you mean name:web-1?" in text
    assert "region: 'nowhere' is not a region" in text
    assert "command line" not in text
