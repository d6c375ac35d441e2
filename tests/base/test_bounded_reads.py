"""Small reads: what a protocol gets, and that it gets everything."""

import asyncio
import socket

import pytest

from ssmtunneld.base.bounded_reads import BoundedReads


class Recorder(asyncio.Protocol):
    def __init__(self):
        self.pieces = []
        self.events = []
        self.arrived = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.pieces.append(data)
        self.arrived.set()

    async def until(self, size):
        while sum(map(len, self.pieces)) < size:
            self.arrived.clear()
            await self.arrived.wait()

    def eof_received(self):
        self.events.append("eof")
        return False

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@pytest.fixture
async def connection():
    """A transport with small reads, its recorder, and the other end's socket."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    transport.set_protocol(BoundedReads(recorder, 100))
    yield transport, recorder, theirs
    transport.abort()
    theirs.close()


async def test_everything_arrives_in_pieces_of_at_most_the_size(connection):
    _, recorder, theirs = connection
    sent = bytes(range(256)) * 4
    theirs.send(sent)
    theirs.close()
    assert await recorder.lost is None
    assert b"".join(recorder.pieces) == sent
    assert max(map(len, recorder.pieces)) == 100
    assert recorder.events == ["eof"]


async def test_a_piece_stays_what_it_was_when_the_next_one_comes(connection):
    _, recorder, theirs = connection
    theirs.send(b"a" * 100 + b"b" * 100)
    theirs.close()
    await recorder.lost
    assert recorder.pieces == [b"a" * 100, b"b" * 100]


async def test_the_size_of_the_next_read_may_be_changed(connection):
    transport, recorder, theirs = connection
    reads = transport.get_protocol()
    for limit in (200, 50):
        reads.limit = limit
        theirs.send(bytes(limit + 1))
        await recorder.until(limit + 1)
        assert max(map(len, recorder.pieces)) == limit
        recorder.pieces.clear()


async def test_the_protocol_is_told_when_to_stop_writing_and_to_go_on(connection):
    transport, recorder, theirs = connection
    transport.set_write_buffer_limits(high=0)
    transport.write(bytes(1 << 22))
    assert recorder.events == ["pause"]
    loop = asyncio.get_running_loop()
    left = 1 << 22
    while left:
        left -= len(await loop.sock_recv(theirs, 1 << 20))
    theirs.close()
    await recorder.lost
    assert recorder.events[:2] == ["pause", "resume"]
