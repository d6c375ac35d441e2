"""What a probe says, and which answers are signs of life; over a stream in memory."""

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
    reason = await converse(parse_probe(probe), ours, "db.internal")
    await ours.send_eof()
    told = b""
    while data := await theirs.receive():
        told += data
    return reason, told


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
    for probe in ("banner:SSH-", "postgres", "redis", "http:/"):
        reason, _ = await ask(probe, secret + b"\r\n")
        assert reason
        assert "tell-nobody" not in reason


async def test_a_stream_that_is_cut_is_no_answer():
    ours, theirs = memory_pair()
    theirs.abort()
    with pytest.raises(StreamReset):
        await converse(parse_probe("redis"), ours, "h")
