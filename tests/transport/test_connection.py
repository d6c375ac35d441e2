"""A connection, whatever the network cuts the beginning of its stream into."""

import asyncio
import collections
import contextlib

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from ssmtunneld.errors import LinkRefused
from ssmtunneld.transport.connection import Connection
from ssmtunneld.transport.websocket import Liveness, dial

FRAMES = b"".join(
    Frame(opcode, data).serialize(mask=False)
    for opcode, data in [
        (Opcode.BINARY, b"plain"),
        (Opcode.PING, b"\r\n\r\n"),
        (Opcode.TEXT, b"text"),
        (Opcode.BINARY, b"\r\n\r\n" * 50),
    ]
)
MESSAGES = [b"plain", b"text", b"\r\n\r\n" * 50]


class Receiver:
    """Waits for as many messages as it is told."""

    def __init__(self, count):
        self.messages = []
        self.all = asyncio.Event()
        self._count = count

    def on_messages(self, messages):
        self.messages += messages
        if len(self.messages) >= self._count:
            self.all.set()

    def on_writable(self):
        """Nothing here is ever congested."""

    def on_lost(self, error):
        raise error


def _key(request):
    for line in request.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name.lower() == b"sec-websocket-key":
            return value.decode()
    raise AssertionError(request)


@contextlib.asynccontextmanager
async def answering(answer):
    """Serve on a free port: ``answer(key)`` to each upgrade."""
    writers = []

    async def serve(reader, writer):
        writers.append(writer)
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(_key(request)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        try:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        finally:
            for writer in writers:
                writer.close()


@pytest.fixture
def cut_at(monkeypatch):
    """Return a function that has each connection's stream read up to a place first."""
    receive = Connection.data_received
    seen = collections.Counter()

    def choose(place):
        def data_received(connection, data):
            before = place(connection) - seen[connection]
            seen[connection] += len(data)
            for piece in (data[: max(0, before)], data[max(0, before) :]):
                if piece:
                    receive(connection, piece)

        monkeypatch.setattr(Connection, "data_received", data_received)

    return choose


def _head(key):
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("place", [-30, -4, -3, -2, -1, 0, 1, 2, 6, 9])
async def test_what_comes_with_the_answer_to_the_upgrade_is_read(place, cut_at):
    heads = []

    def answer(key):
        heads.append(_head(key))
        return heads[0] + FRAMES

    cut_at(lambda _: len(heads[0]) + place)
    async with answering(answer) as url, asyncio.timeout(20):
        link = await dial(url, {}, liveness=Liveness())
        receiver = Receiver(len(MESSAGES))
        link.start(receiver)
        await receiver.all.wait()
        link.abort()
    assert receiver.messages == MESSAGES


@pytest.mark.parametrize("place", [10, 48, 51, 60])
async def test_a_refusal_may_have_a_body_that_looks_like_anything(place, cut_at):
    body = b"\r\n\r\n" + FRAMES
    refusal = f"HTTP/1.1 403 No\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    cut_at(lambda _: place)
    async with answering(lambda _: refusal) as url:
        with pytest.raises(LinkRefused) as caught:
            await dial(url, {}, liveness=Liveness())
    assert caught.value.status == 403


async def test_plain_frames_do_without_the_library(monkeypatch):
    parsed = []
    receive = ClientProtocol.receive_data

    def receive_data(protocol, data):
        parsed.append(data)
        receive(protocol, data)

    monkeypatch.setattr(ClientProtocol, "receive_data", receive_data)
    async with answering(lambda key: _head(key) + FRAMES) as url, asyncio.timeout(20):
        link = await dial(url, {}, liveness=Liveness())
        receiver = Receiver(len(MESSAGES))
        link.start(receiver)
        await receiver.all.wait()
        link.abort()
    head, *others = parsed
    assert head.startswith(b"HTTP/1.1 101 ")
    assert [data[2:] for data in others] == [b"\r\n\r\n", b"text"]
