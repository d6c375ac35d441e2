"""Promises of every link: the real one, and the one in memory that tests use."""

import asyncio
import contextlib

import pytest
from websockets.asyncio.server import serve

from ssmtunneld.errors import LinkLost
from ssmtunneld.transport.websocket import Liveness, dial
from tests.support.memory_link import MemoryLink
from tests.support.turns import turns

PATIENCE = 10.0


class Receiver:
    """Notes what it is told."""

    def __init__(self):
        self.messages = []
        self.lost = []
        self.hook = lambda: None

    def on_messages(self, messages):
        self.messages += messages
        self.hook()

    def on_writable(self):
        """Nothing here is congested."""

    def on_lost(self, error):
        self.lost.append(error)


class MemoryService:
    """The far end of a link in memory."""

    def __init__(self, link):
        self._link = link

    async def say(self, *messages):
        self._link.arrive(*messages)

    async def heard(self):
        return self._link.texts + [m for write in self._link.writes for m in write]

    async def hang_up(self):
        self._link.lose(LinkLost("Bye", 1000))


class WebSocketService:
    """The far end of a websocket."""

    def __init__(self, link, connection):
        self._link = link
        self._connection = connection

    async def say(self, *messages):
        for message in messages:
            await self._connection.send(message)
        # A pong comes behind everything that was sent before its ping.
        if self._link._scheduler._transport_reads:
            async with asyncio.timeout(PATIENCE):
                await (await self._connection.ping())

    async def heard(self):
        async with asyncio.timeout(PATIENCE):
            await (await self._connection.ping())
        heard = []
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0):
                    heard.append(await self._connection.recv())
        return heard

    async def hang_up(self):
        await self._connection.close(1000, "Bye")
        await self._link._connection.wait_closed()


@contextlib.asynccontextmanager
async def _memory():
    link = MemoryLink()
    yield link, MemoryService(link)


@contextlib.asynccontextmanager
async def _websocket():
    connections, over = asyncio.Queue(), asyncio.Event()

    async def handler(connection):
        connections.put_nowait(connection)
        await over.wait()

    async with serve(handler, "127.0.0.1", 0, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        link = await dial(f"ws://127.0.0.1:{port}/", {}, liveness=Liveness())
        try:
            yield link, WebSocketService(link, await connections.get())
        finally:
            link.abort()
            over.set()


@pytest.fixture(params=[_memory, _websocket], ids=["memory", "websocket"])
async def ends(request, monkeypatch):
    """Return a link that has not started, and the service at its other end."""
    for name in ("http_proxy", "https_proxy", "socks_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    async with request.param() as both:
        yield both


async def test_what_came_before_the_start_is_delivered_first(ends):
    link, service = ends
    await service.say(b"a")
    receiver = Receiver()
    link.start(receiver)
    await service.say(b"b", b"c")
    assert receiver.messages == [b"a", b"b", b"c"]


async def test_what_is_sent_arrives_in_order(ends):
    link, service = ends
    link.start(Receiver())
    link.send_text("introduction")
    link.send([b"a", b"b"])
    assert await service.heard() == ["introduction", b"a", b"b"]
    assert not link.congested


async def test_a_paused_link_delivers_nothing_until_it_is_resumed(ends):
    link, service = ends
    receiver = Receiver()
    link.start(receiver)
    link.pause()
    await service.say(b"a")
    assert receiver.messages == []
    link.resume()
    await service.say()
    assert receiver.messages == [b"a"]


async def test_the_end_is_told_once_and_nothing_after_it(ends):
    link, service = ends
    receiver = Receiver()
    link.start(receiver)
    await service.hang_up()
    assert [(error.reason, error.code) for error in receiver.lost] == [("Bye", 1000)]
    link.send_text("nobody hears it")
    link.send([b"nobody hears it"])
    link.abort()
    assert len(receiver.lost) == 1


async def test_an_end_before_the_start_is_told_after_it(ends):
    link, service = ends
    await service.say(b"a")
    receiver = Receiver()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.hang_up())
        await turns(10)
        link.start(receiver)
    assert receiver.messages == [b"a"]
    assert len(receiver.lost) == 1


async def test_after_an_abort_nothing_is_told(ends):
    link, service = ends
    receiver = Receiver()
    link.start(receiver)
    link.abort()
    link.abort()
    link.send([b"nobody hears it"])
    await service.hang_up()
    assert receiver.lost == []
    assert receiver.messages == []


async def test_an_abort_inside_a_delivery_ends_the_deliveries(ends):
    link, service = ends
    receiver = Receiver()
    receiver.hook = link.abort
    await service.say(b"a")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.hang_up())
        await turns(10)
        link.start(receiver)
    assert receiver.messages == [b"a"]
    assert receiver.lost == []
