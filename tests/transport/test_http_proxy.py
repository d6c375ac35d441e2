"""The way through an HTTP proxy, whatever it answers."""

import asyncio
import contextlib

import pytest
from websockets.exceptions import InvalidProxy, ProxyError

from ssmtunneld.transport.frames import HEAD_LIMIT
from ssmtunneld.transport.http_proxy import connect_through

PATIENCE = 10.0


@contextlib.asynccontextmanager
async def proxy(*answer, hang_up=False):
    """Serve on a free port; yield its URL's end and the requests that came."""
    asked, writers = [], []

    async def serve(reader, writer):
        writers.append(writer)
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        for piece in answer:
            writer.write(piece)
            await writer.drain()
        if hang_up:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
        finally:
            for writer in writers:
                writer.transport.abort()


async def through(place, *, user="", host="service.example"):
    async with asyncio.timeout(PATIENCE):
        return await connect_through(f"http://{user}{place}", host, 443, None)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 \r\nVia: x\r\n\r\n",
        b"HTTP/1.0 204 OK\r\n\r\nwhat nobody asked for",
    ],
)
async def test_a_proxy_may_leave_out_the_reason(answer):
    async with proxy(answer) as (place, asked):
        (await through(place)).abort()
    assert asked == [
        b"CONNECT service.example:443 HTTP/1.1\r\nHost: service.example:443\r\n\r\n"
    ]


async def test_a_proxy_answers_in_pieces():
    pieces = [bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"]
    async with proxy(*pieces) as (place, _):
        (await through(place)).abort()


async def test_a_user_and_password_are_given_and_an_address_has_brackets():
    async with proxy(b"HTTP/1.1 200\r\n\r\n") as (place, asked):
        (await through(place, user="me:p%40ss@", host="::1")).abort()
    assert asked[0].startswith(b"CONNECT [::1]:443 HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n" in asked[0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Who?\r\n\r\n" + b"<html>" * 100_000, "HTTP 407"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "HTTP 100"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "not HTTP"),
        (b"\x1b[2J\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 " + b"x" * HEAD_LIMIT, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * HEAD_LIMIT, "not HTTP"),
    ],
)
async def test_any_other_answer_is_a_refusal_at_once(answer, reason):
    async with proxy(answer) as (place, _):
        with pytest.raises(ProxyError, match=reason):
            await through(place)


async def test_a_proxy_that_hangs_up_refuses():
    async with proxy(hang_up=True) as (place, _):
        with pytest.raises(ProxyError, match="without an answer"):
            await through(place)


async def test_a_url_that_is_no_proxys_is_refused():
    with pytest.raises(InvalidProxy):
        await connect_through("http://u:p@h/path", "service.example", 443, None)


async def test_cancelling_hangs_up():
    gone = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asking.cancel()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        gone.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        asking = tasks.create_task(through(place))
        await gone.wait()
    assert asking.cancelled()
