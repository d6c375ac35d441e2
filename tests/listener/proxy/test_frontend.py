"""Asking a client where it wants to go, over streams in memory and real sockets."""

import asyncio
import socket

import pytest

from ssmtunneld.config.destinations import Destination, parse_pattern
from ssmtunneld.errors import NoSessionReady, StreamError
from ssmtunneld.listener.connection import Connection
from ssmtunneld.listener.proxy import frontend
from ssmtunneld.listener.proxy.frontend import ProxyFrontend, ProxyFrontendSettings
from ssmtunneld.listener.proxy.protocol import DestinationForbidden, ProxyProtocolError
from ssmtunneld.listener.relay import ConnectionOutcome
from tests.support.memory import memory_pair
from tests.support.sockets import read_all, reset, socket_pair
from tests.support.turns import until

REQUEST = b"CONNECT db.local:5432 HTTP/1.1\r\n\r\n"
SUCCESS = b"HTTP/1.1 200 Connection established\r\n\r\n"


class World:
    """Streams to any destination, kept for the test."""

    def __init__(self):
        self.streams = {}
        self.failure = None
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def open_stream(self, destination):
        await self.may_go_on.wait()
        if self.failure is not None:
            raise self.failure
        stream, self.streams[destination] = memory_pair()
        return stream


@pytest.fixture
def world():
    return World()


@pytest.fixture
def proxy_frontend(world):
    patterns = (parse_pattern("db.local:5432"),)
    return ProxyFrontend(
        ProxyFrontendSettings("http-connect", patterns), world.open_stream
    )


@pytest.fixture
def ends():
    """A connection that was just accepted, and its client's socket."""
    mine, theirs = socket_pair()
    connection = Connection(mine, "127.0.0.1:40000", 0.0)
    yield connection, theirs
    connection.release()
    theirs.close()


async def received(client, size):
    loop = asyncio.get_running_loop()
    client.setblocking(False)
    found = b""
    while len(found) < size:
        piece = await loop.sock_recv(client, size - len(found))
        assert piece, found
        found += piece
    return found


async def test_a_client_is_asked_answered_and_joined(world, proxy_frontend, ends):
    connection, client = ends
    client.send(REQUEST + b"early")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.join(proxy_frontend, 60))
        assert await received(client, len(SUCCESS)) == SUCCESS
        server = world.streams[Destination("db.local", 5432)]
        assert connection.destination == Destination("db.local", 5432)
        assert await server.receive() == b"early"
        client.send(b"late")
        assert await server.receive() == b"late"
        await server.send(b"answer")
        await server.send_eof()
        assert await read_all(client) == b"answer"
        client.close()
    assert connection.transfer.ending is ConnectionOutcome.COMPLETED
    assert connection.transfer.sent == 9
    assert connection.transfer.received == 6


@pytest.mark.parametrize(
    ("said", "status", "cause"),
    [
        (b"CONNECT db.local:1 HTTP/1.1\r\n\r\n", b"403", DestinationForbidden),
        (b"GET / HTTP/1.1\r\n\r\n", b"405", ProxyProtocolError),
        (REQUEST, b"504", NoSessionReady),
    ],
)
async def test_a_refusal_is_delivered_in_order(
    world, proxy_frontend, ends, said, status, cause
):
    world.failure = NoSessionReady("none")
    connection, client = ends
    client.send(said)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.join(proxy_frontend, 60))
        answer = await read_all(client)
        assert answer.startswith(b"HTTP/1.1 " + status)
        client.close()
    assert connection.transfer.ending is ConnectionOutcome.REFUSED
    assert isinstance(connection.transfer.cause, cause)
    assert not world.streams


async def test_a_client_that_goes_on_talking_still_reads_its_refusal(
    proxy_frontend, ends
):
    connection, client = ends
    client.send(b"POST / HTTP/1.1\r\n\r\n" + b"x" * 50_000)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.join(proxy_frontend, 60))
        assert (await read_all(client)).startswith(b"HTTP/1.1 405")
        client.send(b"more")
        client.close()
    assert connection.transfer.ending is ConnectionOutcome.REFUSED


async def test_a_silent_client_is_not_waited_for_for_ever(
    monkeypatch, proxy_frontend, ends
):
    monkeypatch.setattr(frontend, "HANDSHAKE_TIMEOUT", 0.05)
    connection, client = ends
    client.send(REQUEST[:10])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.join(proxy_frontend, 60))
        assert (await read_all(client)).startswith(b"HTTP/1.1 408")
        client.close()
    assert "within 0.05 s" in str(connection.transfer.cause)


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
async def test_a_client_that_leaves_before_it_has_asked_is_no_refusal(
    proxy_frontend, ends, leave
):
    connection, client = ends
    client.send(REQUEST[:10])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.join(proxy_frontend, 60))
        leave(client)
    assert connection.transfer.ending is ConnectionOutcome.LOCAL_RESET


async def test_a_client_that_leaves_while_it_waits_is_not_waited_for(
    world, proxy_frontend, ends
):
    world.may_go_on.clear()
    connection, client = ends
    client.send(REQUEST)
    async with asyncio.TaskGroup() as tasks:
        joined = tasks.create_task(connection.join(proxy_frontend, 60))
        await asyncio.sleep(0)
        reset(client)
        await until(joined.done)
    assert connection.transfer.ending is ConnectionOutcome.LOCAL_RESET
    assert not world.streams


async def test_settings_count_for_the_next_client(world, proxy_frontend):
    before = proxy_frontend.handshake()
    proxy_frontend.settings = ProxyFrontendSettings("socks5", ())
    local, client = memory_pair()
    await client.send(REQUEST)
    assert await before.open(local) is not None
    local, client = memory_pair()
    await client.send(b"\x05\x01\x00\x05\x01\x00\x03\x08db.local\x15\x38")
    with pytest.raises(DestinationForbidden):
        await proxy_frontend.handshake().open(local)
    assert await client.receive() == b"\x05\x00"


async def test_a_client_that_is_lost_as_it_is_answered_costs_its_stream(
    world, proxy_frontend
):
    world.may_go_on.clear()
    local, client = memory_pair()
    await client.send(REQUEST)
    async with asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(proxy_frontend.handshake().open(local))
        await asyncio.sleep(0)
        client.abort()
        world.may_go_on.set()
    assert opening.result() is None


async def test_a_stream_is_aborted_if_the_visit_is_cancelled_after_it(
    world, proxy_frontend
):
    class Deaf:
        """A client that reads nothing."""

        async def receive(self):
            return REQUEST

        async def send(self, data):
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(proxy_frontend.handshake().open(Deaf()))
        await until(lambda: world.streams)
        opening.cancel()
    (server,) = world.streams.values()
    with pytest.raises(StreamError):
        await server.receive()


async def test_what_was_read_too_early_is_received_first(world, proxy_frontend):
    local, client = memory_pair()
    await client.send(REQUEST + b"early")
    near, remote = await proxy_frontend.handshake().open(local)
    assert await client.receive() == SUCCESS
    assert await near.receive() == b"early"
    await client.send(b"late")
    assert await near.receive() == b"late"
    await near.send(b"back")
    assert await client.receive() == b"back"
    await near.send_eof()
    assert await client.receive() == b""
    await near.aclose()
    near.abort()
    remote.abort()
