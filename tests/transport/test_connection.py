"""A connection, whatever the network cuts the beginning of its stream into."""

import asyncio
import collections
import contextlib

import pytest
import uvloop
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from ssmtunneld.errors import LinkError, LinkLost, LinkRefused, LinkUnreachable
from ssmtunneld.transport.connection import (
    MAX_MESSAGE,
    RARE_BURST,
    RARE_RATE,
    Connection,
    _Budget,
)
from ssmtunneld.transport.unsent import WRITE_BUFFER
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


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_is_cut_at_once_is_no_defect(loop, monkeypatch):
    made = Connection.connection_made

    def connection_made(connection, transport):
        made(connection, transport)
        transport.abort()

    async def run():
        async with answering(_head) as url, asyncio.timeout(20):
            with pytest.raises(LinkUnreachable):
                await dial(url, {}, liveness=Liveness())

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


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
    assert [data[2:] for data in others] == [b"\r\n\r\n"]


# A peer that is hostile before the upgrade is complete.


@contextlib.asynccontextmanager
async def talking(write):
    """Serve on a free port: ``write`` to each connection until it is gone."""
    over = asyncio.Event()

    async def serve(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await write(writer, _key(request))
        over.set()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with asyncio.timeout(20):
            await over.wait()


def _endless(start, piece):
    async def write(writer, _):
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()

    return write


FLOODS = {
    "status line": (b"HTTP/1.1 101 ", b"x" * 65536),
    "headers": (b"HTTP/1.1 101 Go\r\n", b"A: b\r\n" * 8192),
    "nothing": (b"", b"\0" * 65536),
    "lines": (b"", b"\n" * 65536),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "a refusal's body": (
        b"HTTP/1.1 403 No\r\nContent-Length: 999999999\r\n\r\n",
        b"x" * 65536,
    ),
    "chunks": (
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n" * 8192,
    ),
    "a body without a length": (b"HTTP/1.1 500 Oh\r\n\r\n", b"x" * 65536),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_before_the_upgrade_is_left_at_once(flood):
    """Long before ``open_timeout``, and with no more read than a head may have."""
    calm = Liveness(open_timeout=300)
    async with asyncio.timeout(20), talking(_endless(*FLOODS[flood])) as url:
        with pytest.raises(LinkError):
            await dial(url, {}, liveness=calm)


@pytest.mark.parametrize("line", [b"HTTP/1.1 403", b"HTTP/1.1 403 \xff\x00"])
async def test_a_refusal_needs_no_reason(line):
    async with answering(lambda _: line + b"\r\n\r\n") as url:
        with pytest.raises(LinkRefused) as caught:
            await dial(url, {}, liveness=Liveness())
    assert caught.value.status == 403


async def test_an_upgrade_needs_no_reason():
    def answer(key):
        return _head(key).replace(b" Switching Protocols", b"")

    async with answering(answer) as url:
        (await dial(url, {}, liveness=Liveness())).abort()


async def test_a_refusal_is_told_in_one_short_line():
    head = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: " + b"\x9b" * 9000
    async with answering(lambda _: head + b"\r\n\r\n") as url:
        with pytest.raises(LinkUnreachable) as caught:
            await dial(url, {}, liveness=Liveness())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


# A peer that is hostile after it.


class Losing(Receiver):
    """Waits for the end of a link."""

    def __init__(self):
        super().__init__(1)
        self.lost = asyncio.get_running_loop().create_future()

    def on_lost(self, error):
        self.lost.set_result(error)


def _after_upgrade(piece, *, start=b""):
    async def write(writer, key):
        writer.write(_head(key) + start)
        while True:
            writer.write(piece)
            await writer.drain()

    return write


def _frame(opcode, data=b"", *, fin=True):
    return Frame(opcode, data, fin=fin).serialize(mask=False)


CONT, BINARY = Opcode.CONT, Opcode.BINARY
BEGUN = _frame(BINARY, b"x", fin=False)

ABUSES = {
    "pings": (b"", _frame(Opcode.PING, b"x" * 125) * 500, "too many frames"),
    "empty pings": (b"", _frame(Opcode.PING) * 9000, "too many frames"),
    "pongs": (b"", _frame(Opcode.PONG) * 9000, "too many frames"),
    "empty fragments": (BEGUN, _frame(CONT, fin=False) * 9000, "without data"),
    "small fragments": (BEGUN, _frame(CONT, b"x", fin=False) * 9000, "more than 16"),
    "messages in fragments": (
        b"",
        (BEGUN + _frame(CONT, b"x") + _frame(Opcode.PING)) * 3000,
        "too many frames",
    ),
    "lengths that are too long": (b"", b"\x82\x7f" + bytes(8), "too many frames"),
    "a large message": (b"", b"\x82\x7f" + (1 << 20).to_bytes(8), "limit"),
    "large fragments": (
        _frame(BINARY, bytes(MAX_MESSAGE // 2), fin=False),
        _frame(CONT, bytes(MAX_MESSAGE // 2), fin=False),
        "limit",
    ),
    "words": (b"", _frame(Opcode.CLOSE, b"\x03\xe8\x1b[2J\xe2\x80\xae!"), "!"),
}


@pytest.mark.parametrize("abuse", ABUSES)
async def test_a_peer_that_abuses_frames_is_left(abuse):
    """Also one that reads nothing, so that what it is answered would pile up."""
    start, piece, reason = ABUSES[abuse]
    async with asyncio.timeout(20), talking(_after_upgrade(piece, start=start)) as url:
        link = await dial(url, {}, liveness=Liveness())
        receiver = Losing()
        link.start(receiver)
        error = await receiver.lost
        assert link._connection.transport.get_write_buffer_size() < WRITE_BUFFER
    assert isinstance(error, LinkLost)
    assert reason in str(error)
    assert str(error).isprintable()


async def test_a_peer_may_ping_now_and_then():
    """As many at once as an outage lets pile up."""
    pings = _frame(Opcode.PING, b"keepalive") * (RARE_BURST - 1)
    plain = _frame(BINARY, b"plain")
    async with answering(lambda key: _head(key) + pings + plain) as url:
        link = await dial(url, {}, liveness=Liveness())
        receiver = Receiver(1)
        link.start(receiver)
        async with asyncio.timeout(20):
            await receiver.all.wait()
        link.abort()
    assert receiver.messages == [b"plain"]


def test_the_budget_of_rare_frames_fills_again():
    budget = _Budget(0.0)
    assert all(budget.take(0.0) for _ in range(RARE_BURST))
    assert not budget.take(0.0)
    assert budget.take(2 / RARE_RATE)
    assert not budget.take(2 / RARE_RATE)
    assert all(budget.take(1e6) for _ in range(RARE_BURST))
    assert not budget.take(1e6)
