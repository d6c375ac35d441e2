"""Conversations of probes, and answers that are signs of life; in memory."""

import asyncio
import struct

import pytest

from ssmtunneld.config.probes import parse_probe
from ssmtunneld.errors import StreamReset
from ssmtunneld.observe.probe_protocols import LONGEST_ANSWER, converse
from tests.support.memory import memory_pair


async def ask(probe, *pieces, end=True):
    """Let a destination say ``pieces``; return what is wrong, and what it was told."""
    ours, theirs = memory_pair(1 << 20)
    for piece in pieces:
        await theirs.send(piece)
    if end:
        await theirs.send_eof()
    fault = await converse(parse_probe(probe), ours, "db.internal")
    await ours.send_eof()
    told = b""
    while data := await theirs.receive():
        told += data
    return fault.reason if fault else "", told


@pytest.mark.parametrize("greeting", [(), (b"220 hello\r\n",)])
async def test_tcp_is_content_with_any_end_or_word(greeting):
    assert await ask("tcp", *greeting) == ("", b"")


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([b"SSH-2.0-OpenSSH_9.6\r\n"], ""),
        ([b"S", b"SH", b"-"], ""),
        ([b"S"], "its first bytes are not 'SSH-'"),
        ([b"SSL"], "its first bytes are not 'SSH-'"),
        ([b"HTTP/1.1 400 secret\r\n"], "its first bytes are not 'SSH-'"),
        ([], "it closed the connection without an answer"),
    ],
)
async def test_a_banner_is_compared_with_the_first_bytes(pieces, reason):
    assert await ask("banner:SSH-", *pieces) == (reason, b"")


async def test_a_wrong_banner_is_known_by_its_first_byte():
    reason, _ = await ask("banner:SSH-", b"2", end=False)
    assert reason == "its first bytes are not 'SSH-'"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"S", ""),
        (b"N", ""),
        (b"E\0\0\0\x20SFATAL", "PostgreSQL refuses connections"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "it does not speak PostgreSQL's protocol"),
        (b"HTTP/1.1 400", "it does not speak PostgreSQL's protocol"),
        (b"", "it closed the connection without an answer"),
    ],
)
async def test_postgresql_answers_a_request_for_tls(answer, reason):
    found, told = await ask("postgres", *([answer] if answer else []))
    assert found == reason
    assert struct.unpack("!IHH", told) == (8, 1234, 5679)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"+PONG\r\n", ""),
        (b"-NOAUTH Authentication required.\r\n", ""),
        (b"-ERR unknown command\r\n", ""),
        (b"-NOPERM no permissions\r\n", ""),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading its data"),
        (b"-MASTERDOWN Link with MASTER is down\r\n", "lost its master"),
        (b"-MISCONF cannot persist\r\n", "cannot save its data"),
        (b"-BUSY running a script\r\n", "busy with a script"),
        (b"-DENIED Redis is running in protected mode\r\n", "refuses the target"),
        (b"-ERR max number of clients reached\r\n", "as many clients as it takes"),
        (b"+PON", "does not speak Redis's protocol"),
        (b"-ERR", ""),
        (b"-", "does not speak Redis's protocol"),
        (b"\x15\x03\x01\0\x02\x02\x50", "does not speak Redis's protocol"),
        (b"", "closed the connection without an answer"),
    ],
)
async def test_redis_answers_a_ping(answer, reason):
    found, told = await ask("redis", *([answer] if answer else []))
    assert (reason in found) if reason else not found
    assert told == b"PING\r\n"


def packet(number, payload):
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def error(number, code, words=b"#28000secret words"):
    return packet(number, b"\xff" + code.to_bytes(2, "little") + words)


def switch(number, plugin):
    return packet(number, b"\xfe" + plugin + b"\0" + bytes(20) + b"\0")


GREETING = packet(0, b"\x0a5.5.5-10.11.19-MariaDB\0" + bytes(70))
LOGIN = packet(
    1,
    struct.pack("<IIB23x", 0x88201, 1 << 24, 45)
    + b"ssmtunneld-probe\0\0mysql_native_password\0",
)
DENIED = 1045


@pytest.mark.parametrize(
    ("pieces", "answers"),
    [
        ([GREETING, error(2, DENIED)], b""),
        ([bytes([byte]) for byte in GREETING + error(2, DENIED)], b""),
        ([GREETING + error(2, 3159)], b""),
        (
            [GREETING, switch(2, b"caching_sha2_password"), error(4, DENIED)],
            packet(3, b"\0"),
        ),
        (
            [GREETING, switch(2, b"client_ed25519"), error(4, DENIED)],
            packet(3, bytes(64)),
        ),
        (
            [GREETING, switch(2, b"mysql_native_password"), error(4, DENIED)],
            packet(3, b""),
        ),
        # A server where everybody may log in.
        ([GREETING, packet(2, b"\0\0\0\2\0\0\0")], packet(0, b"\x01")),
    ],
)
async def test_mysql_ends_the_handshake_and_the_conversation(pieces, answers):
    assert await ask("mysql", *pieces) == ("", LOGIN + answers)


@pytest.mark.parametrize("code", [1040, 1053, 1129, 1130])
async def test_mysql_that_serves_nobody_from_there_says_so(code):
    for pieces in ([error(0, code, b"Host 'x'")], [GREETING, error(2, code)]):
        reason, told = await ask("mysql", *pieces)
        assert f"({code})" in reason
        assert told == (LOGIN if len(pieces) == 2 else b"")


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([], "it closed the connection without an answer"),
        ([GREETING], "it closed the connection without an answer"),
        ([b"SSH-2.0-OpenSSH_9.6\r\n"], "it does not speak MySQL's protocol"),
        ([b"x"], "it closed the connection without an answer"),
        ([GREETING, packet(2, b"\x09")], "it does not speak MySQL's protocol"),
        ([GREETING, switch(2, b"parsec")], "a way to log in that this probe"),
        (
            [GREETING, *[switch(2, b"dialog")] * 9],
            "it does not speak MySQL's protocol",
        ),
        ([b"\xff\xff\xff\0" + b"x" * 9000], "it does not speak MySQL's protocol"),
    ],
)
async def test_anything_else_is_no_mysql(pieces, reason):
    found, _ = await ask("mysql", *pieces)
    assert reason in found


async def test_a_locked_out_target_is_told_how_to_be_let_in_again():
    ours, theirs = memory_pair()
    await theirs.send(error(0, 1129, b"Host 'x' is blocked"))
    fault = await converse(parse_probe("mysql"), ours, "h")
    assert "FLUSH HOSTS" in fault.advice
    assert "mysqladmin flush-hosts" in fault.advice


async def test_a_banner_probe_of_mysql_ends_the_handshake_all_the_same():
    for greeting, told in ((GREETING, LOGIN), (error(0, 1129, b"no"), b"")):
        found = await ask("banner:SSH-", greeting + error(2, DENIED))
        assert found == ("it is MySQL or MariaDB", told)


async def test_a_tcp_probe_that_meets_mysql_says_so():
    assert await ask("tcp", GREETING) == ("it is MySQL or MariaDB", b"")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n", ""),
        (b"HTTP/1.0 404 Not Found\r\nServer: x\r\n", ""),
        (b"HTTP/1.1 499 Odd\n", ""),
        (b"HTTP/1.1 503 Service Unavailable\r\n", "it answered with HTTP 503"),
        (b"HTTP/1.1 2000 OK\r\n", "it does not speak HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "it does not speak HTTP"),
        (b"", "it closed the connection without an answer"),
    ],
)
async def test_http_answers_with_a_status(answer, reason):
    found, told = await ask("http:/health?x=1", *([answer] if answer else []))
    assert found == reason
    lines = told.decode().split("\r\n")
    assert lines[:3] == [
        "GET /health?x=1 HTTP/1.1",
        "Host: db.internal",
        "Connection: close",
    ]
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize("probe", ["redis", "http:/"])
async def test_an_answer_without_end_is_read_no_further_than_needed(probe):
    async with asyncio.timeout(30):
        flood = [b"x" * 1024] * 64
        reason, _ = await ask(probe, *flood, end=False)
    assert "does not speak" in reason
    assert LONGEST_ANSWER < 64 * 1024


async def test_no_word_of_a_destination_is_in_a_reason():
    secret = b"tell-nobody"
    for probe in ("banner:SSH-", "postgres", "mysql", "redis", "http:/"):
        reason, _ = await ask(probe, secret + b"\r\n")
        assert reason
        assert "tell-nobody" not in reason


async def test_a_stream_that_is_cut_is_no_answer():
    ours, theirs = memory_pair()
    theirs.abort()
    with pytest.raises(StreamReset):
        await converse(parse_probe("redis"), ours, "h")
