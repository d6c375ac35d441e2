"""SOCKS 5, byte by byte."""

import ipaddress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.config.destinations import Destination
from ssmtunneld.config.parsers import spelled_out
from ssmtunneld.listener.proxy.protocol import ProxyProtocolError, Refusal
from ssmtunneld.listener.proxy.socks5 import Socks5

GREETING = b"\x05\x01\x00"
ACCEPTED = b"\x05\x00"


def reply(code):
    return bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])


def request(address, port, *, command=1, version=5):
    return bytes([version, command, 0]) + address + port.to_bytes(2)


def named(name):
    return bytes([3, len(name)]) + name


def spoken(*pieces):
    """Return a protocol that has heard ``pieces``, and what it answered."""
    protocol = Socks5()
    return protocol, [protocol.hear(piece) for piece in pieces]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (named(b"DB.local"), "db.local"),
        (named(b"10.0.0.1"), "10.0.0.1"),
        (b"\x01\x0a\x00\x00\x01", "10.0.0.1"),
        (b"\x04" + ipaddress.ip_address("fd00::1").packed, "fd00::1"),
        (b"\x04" + ipaddress.ip_address("::ffff:10.0.0.1").packed, "10.0.0.1"),
    ],
)
def test_a_destination_is_understood(address, host):
    protocol, answers = spoken(GREETING, request(address, 443) + b"early")
    assert answers == [ACCEPTED, b""]
    assert protocol.destination == Destination(host, 443)
    assert protocol.remainder == b"early"


def test_a_client_may_say_everything_at_once():
    protocol, answers = spoken(GREETING + request(named(b"a"), 1) + b"xyz")
    assert answers == [ACCEPTED]
    assert protocol.destination == Destination("a", 1)
    assert protocol.remainder == b"xyz"


def test_a_client_may_say_everything_byte_by_byte():
    whole = b"\x05\x03\x02\x01\x00" + request(named(b"long.name"), 65535)
    protocol, answers = spoken(*(bytes([byte]) for byte in whole))
    assert b"".join(answers) == ACCEPTED
    assert protocol.destination == Destination("long.name", 65535)
    assert protocol.remainder == b""


def test_hearing_nothing_changes_nothing():
    protocol, answers = spoken(b"", GREETING, b"")
    assert answers == [b"", ACCEPTED, b""]
    assert protocol.destination is None


@pytest.mark.parametrize(
    ("pieces", "answer", "reason"),
    [
        ([b"\x04\x01\x00\x50\x0a\x00\x00\x01\x00"], b"\0\x5b" + bytes(6), "SOCKS 4"),
        ([b"GET / HTTP/1.1\r\n"], b"", "HTTP client"),
        ([b"\x16\x03\x01"], b"", "does not speak SOCKS 5"),
        ([b"\x05\x01\x02"], b"\x05\xff", "authentication"),
        ([b"\x05\x00"], b"\x05\xff", "authentication"),
        ([GREETING, request(named(b"a"), 1, version=4)], b"", "not SOCKS 5"),
        ([GREETING, request(named(b"a"), 1, command=2)], reply(7), "than CONNECT"),
        ([GREETING, request(named(b"a"), 1, command=3)], reply(7), "than CONNECT"),
        ([GREETING, request(b"\x02\x00", 1)], reply(8), "type of address"),
        ([GREETING, request(named(b""), 1)], reply(1), "no host"),
        ([GREETING, request(named(b"a b"), 1)], reply(1), "no host"),
        ([GREETING, request(named(b"b\xfc"), 1)], reply(1), "no host"),
        ([GREETING, request(named(b"a"), 0)], reply(1), "no port"),
        (
            [GREETING + request(named(b"a"), 1, command=2)],
            ACCEPTED + reply(7),
            "than CONNECT",
        ),
    ],
)
def test_what_is_not_offered_is_refused(pieces, answer, reason):
    with pytest.raises(ProxyProtocolError, match=reason) as caught:
        spoken(*pieces)
    assert caught.value.reply == answer


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal.FORBIDDEN, 2),
        (Refusal.CROWDED, 1),
        (Refusal.REFUSED, 5),
        (Refusal.LATE, 4),
        (Refusal.FAILED, 1),
    ],
)
def test_a_refusal_has_its_code(refusal, code):
    assert Socks5().refuse(refusal) == reply(code)


def test_success_and_silence():
    assert Socks5().accept() == reply(0)
    assert Socks5().late() == b""


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_noise_is_refused_or_waited_for_and_never_kept(pieces):
    _survives(pieces)


@given(st.binary(max_size=40), st.lists(st.integers(0, 60), max_size=6))
def test_noise_after_a_greeting_is_too(noise, cuts):
    whole = GREETING + b"\x05\x01" + noise
    edges = sorted({0, *cuts, len(whole)})
    _survives([whole[a:b] for a, b in pairwise(edges)])


def _survives(pieces):
    protocol = Socks5()
    for piece in pieces:
        try:
            protocol.hear(piece)
        except ProxyProtocolError as error:
            answer = error.reply
            break
        assert len(protocol._heard) <= 262 + 257
        if protocol.destination is not None:
            assert piece.endswith(protocol.remainder)
            return
    else:
        return
    assert len(answer) <= 12


@given(
    # Not an address in a form of its own, such as 127.1: those are refused.
    st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?", fullmatch=True).filter(
        lambda host: spelled_out(host) is None
    ),
    st.integers(1, 65535),
    st.binary(max_size=20),
    st.lists(st.integers(0, 90), max_size=6),
)
def test_however_it_is_cut_a_request_means_the_same(host, port, rest, cuts):
    whole = GREETING + request(named(host.encode()), port)
    edges = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    pieces = [whole[a:b] for a, b in pairwise(edges)]
    protocol, answers = spoken(*pieces[:-1], pieces[-1] + rest)
    assert b"".join(answers) == ACCEPTED
    assert protocol.destination == Destination.of(host, port)
    assert protocol.remainder == rest
