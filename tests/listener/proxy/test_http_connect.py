"""HTTP CONNECT, byte by byte."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.config.destinations import Destination
from ssmtunneld.listener.proxy.http_connect import HttpConnect
from ssmtunneld.listener.proxy.protocol import SPEECH_LIMIT, ProxyProtocolError, Refusal

REQUEST = b"CONNECT db.local:5432 HTTP/1.1\r\nHost: elsewhere\r\nX: y\r\n\r\n"


def spoken(*pieces):
    protocol = HttpConnect()
    assert all(protocol.hear(piece) == b"" for piece in pieces)
    return protocol


def refused(*pieces):
    """Return the status, and the reason for the log."""
    with pytest.raises(ProxyProtocolError) as caught:
        spoken(*pieces)
    return status(caught.value.reply), str(caught.value)


def status(answer):
    head, body = answer.split(b"\r\n\r\n", 1)
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head
    return int(head.split()[1])


@pytest.mark.parametrize(
    ("target", "destination"),
    [
        (b"db.local:5432", Destination("db.local", 5432)),
        (b"DB.Local:5432", Destination("db.local", 5432)),
        (b"10.0.0.1:1", Destination("10.0.0.1", 1)),
        (b"[fd00:0::1]:1", Destination("fd00::1", 1)),
    ],
)
def test_a_destination_is_understood(target, destination):
    protocol = spoken(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\nearly")
    assert protocol.destination == destination
    assert protocol.remainder == b"early"


def test_a_client_may_say_everything_byte_by_byte():
    protocol = spoken(*(bytes([byte]) for byte in REQUEST))
    assert protocol.destination == Destination("db.local", 5432)
    assert protocol.remainder == b""


def test_the_header_is_waited_for():
    assert spoken(REQUEST[:-1]).destination is None


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_lines_may_end_without_a_carriage_return(version):
    protocol = spoken(b"CONNECT a:1 HTTP/" + version + b"\n\nrest")
    assert protocol.destination == Destination("a", 1)
    assert protocol.remainder == b"rest"


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"OPTIONS", b"connect"])
def test_any_other_method_is_refused_without_waiting_for_its_header(method):
    code, reason = refused(method + b" http://db.local/ HTTP/1.1\r\n")
    assert code == 405
    assert "CONNECT" in reason


def test_a_refused_method_is_told_what_is_allowed():
    with pytest.raises(ProxyProtocolError) as caught:
        spoken(b"GET / HTTP/1.1\r\n\r\n")
    assert b"\r\nAllow: CONNECT\r\n" in caught.value.reply
    assert b"Access-Control" not in caught.value.reply


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\x05\x01\x00",
        b"CONNECT",
        b"CONNECT a:1",
        b"CONNECT  a:1 HTTP/1.1",
        b"CONNECT a:1 HTTP/1.1 ",
        b"CONNECT a:1 FTP/1.1",
        b"CONNECT a HTTP/1.1",
        b"CONNECT a: HTTP/1.1",
        b"CONNECT :1 HTTP/1.1",
        b"CONNECT a:0 HTTP/1.1",
        b"CONNECT a:65536 HTTP/1.1",
        b"CONNECT a:1:2 HTTP/1.1",
        b"CONNECT fd00::1:1 HTTP/1.1",
        b"CONNECT [a]:1 HTTP/1.1",
        b"CONNECT a%20b:1 HTTP/1.1",
        b"CONNECT http://a:1 HTTP/1.1",
        b"CONNECT user@a:1 HTTP/1.1",
        b"CONNECT b\xc3\xbccher:1 HTTP/1.1",
    ],
)
def test_what_is_no_request_for_a_destination_is_bad(line):
    code, _ = refused(line + b"\r\n\r\n")
    assert code == 400


@pytest.mark.parametrize("line", [b"CONNECT a:1 HTTP/1.1\r\n", b""])
def test_a_long_header_is_refused(line):
    code, _ = refused(line + b"X: " + b"y" * SPEECH_LIMIT)
    assert code == 431
    code, _ = refused(*([line] if line else []), *[b"y" * 1000] * 9)
    assert code == 431


def test_a_header_may_be_as_long_as_the_limit():
    line = b"CONNECT a:1 HTTP/1.1\r\nX: "
    whole = line + b"y" * (SPEECH_LIMIT - len(line) - 4) + b"\r\n\r\n"
    assert spoken(whole + b"z" * SPEECH_LIMIT).remainder == b"z" * SPEECH_LIMIT
    code, _ = refused(line + b"y" + whole[len(line) :])
    assert code == 431


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal.FORBIDDEN, 403),
        (Refusal.CROWDED, 503),
        (Refusal.REFUSED, 502),
        (Refusal.LATE, 504),
        (Refusal.FAILED, 502),
    ],
)
def test_a_refusal_has_its_status(refusal, code):
    assert status(HttpConnect().refuse(refusal)) == code


def test_success_has_no_body_and_lateness_has_a_status():
    answer = HttpConnect().accept()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in answer
    assert b"Transfer-Encoding" not in answer
    assert status(HttpConnect().late()) == 408


@given(st.lists(st.binary(max_size=4000), max_size=6), st.booleans())
def test_noise_is_refused_or_waited_for_and_never_kept(pieces, begins):
    protocol = HttpConnect()
    for piece in ([b"CONNECT a:1 HTTP/1.1\r\n"] if begins else []) + pieces:
        try:
            protocol.hear(piece)
        except ProxyProtocolError as error:
            answer = error.reply
            break
        assert len(protocol._heard) <= SPEECH_LIMIT
        if protocol.destination is not None:
            return
    else:
        return
    assert status(answer) in {400, 405, 431}


@given(st.lists(st.integers(1, len(REQUEST) - 1), max_size=8), st.binary(max_size=20))
def test_however_it_is_cut_a_request_means_the_same(cuts, rest):
    edges = sorted({0, *cuts, len(REQUEST)})
    pieces = [REQUEST[a:b] for a, b in pairwise(edges)]
    protocol = spoken(*pieces[:-1], pieces[-1] + rest)
    assert protocol.destination == Destination("db.local", 5432)
    assert protocol.remainder == rest
