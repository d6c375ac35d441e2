"""Standard streams as one connection: pipes, sockets, files, the null device."""

import asyncio
import os
import socket
from contextlib import ExitStack, contextmanager

import pytest

from ssmtunneld.errors import StreamReset
from ssmtunneld.listener.relay import ClientClose
from ssmtunneld.ssh.stdio import PIECE, Stdio

PATIENCE = 30


class Pipes:
    """The pipes that ssh gives its ProxyCommand, and ssh's ends of them."""

    def __init__(self, stack):
        self.source, self.feed = os.pipe()
        self.drain, self.sink = os.pipe()
        self._open = {self.source, self.feed, self.drain, self.sink}
        stack.callback(self.close_all)

    def close(self, *descriptors):
        for descriptor in descriptors:
            self._open.discard(descriptor)
            os.close(descriptor)

    def close_all(self):
        self.close(*tuple(self._open))


@contextmanager
def pipes():
    with ExitStack() as stack:
        yield Pipes(stack)


async def test_bytes_arrive_and_then_the_end():
    with pipes() as ends:
        stdio = Stdio(ends.source, ends.sink)
        os.write(ends.feed, b"words")
        assert await stdio.receive() == b"words"
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(stdio.receive())
            await asyncio.sleep(0)
            os.write(ends.feed, b"more")
        assert waiting.result() == b"more"
        ends.close(ends.feed)
        assert await stdio.receive() == b""
        await stdio.aclose()


async def test_a_slow_reader_holds_the_writer_back_and_gets_everything():
    with pipes() as ends:
        stdio = Stdio(ends.source, ends.sink)
        data = os.urandom(5 * PIECE)
        got = bytearray()
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(stdio.send(data))
            await asyncio.sleep(0)
            assert not sending.done()
            while len(got) < len(data):
                got += await asyncio.to_thread(os.read, ends.drain, PIECE)
        assert bytes(got) == data
        await stdio.send_eof()
        await stdio.aclose()


async def test_what_a_cancelled_send_left_goes_out_at_the_end():
    with pipes() as ends:
        stdio = Stdio(ends.source, ends.sink)
        data = os.urandom(3 * PIECE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await stdio.send(data)
        got = bytearray()
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(stdio.aclose())
            while len(got) < len(data):
                got += await asyncio.to_thread(os.read, ends.drain, PIECE)
            await closing
        assert bytes(got) == data


async def test_descriptors_block_again_afterwards():
    with pipes() as ends:
        stdio = Stdio(ends.source, ends.sink)
        assert not os.get_blocking(ends.source)
        stdio.abort()
        stdio.abort()
        assert os.get_blocking(ends.source)
        assert os.get_blocking(ends.sink)


async def test_a_reader_that_left_is_noticed_by_writing():
    with pipes() as ends:
        stdio = Stdio(ends.source, ends.sink)
        ends.close(ends.drain)
        with pytest.raises(StreamReset, match="standard output: Broken pipe"):
            await stdio.send(b"anybody?")
        assert stdio.client_left.result() is ClientClose.CLOSED
        with pytest.raises(StreamReset):
            await stdio.receive()
        await stdio.aclose()


@pytest.mark.parametrize("first", ["reader", "input"])
async def test_a_reader_that_left_is_noticed_once_the_input_has_ended(first):
    with pipes() as ends:
        stdio = Stdio(ends.source, ends.sink)
        if first == "reader":
            ends.close(ends.drain)
        ends.close(ends.feed)
        assert await stdio.receive() == b""
        if first == "input":
            assert not stdio.client_left.done()
            ends.close(ends.drain)
        async with asyncio.timeout(PATIENCE):
            assert await stdio.client_left is ClientClose.CLOSED
        stdio.leave()
        assert await stdio.receive() == b""
        stdio.abort()


async def test_an_abort_ends_whoever_waits():
    with pipes() as ends:
        stdio = Stdio(ends.source, ends.sink)

        async def reset(work):
            with pytest.raises(StreamReset, match="it was closed here"):
                await work

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(reset(stdio.receive()))
            tasks.create_task(reset(stdio.send(bytes(5 * PIECE))))
            await asyncio.sleep(0)
            stdio.abort()


async def test_an_input_that_cannot_be_read_is_a_reset():
    with pipes() as ends:
        stdio = Stdio(ends.feed, ends.sink)  # the wrong end of a pipe
        with pytest.raises(StreamReset, match="standard input"):
            await stdio.receive()
        stdio.abort()


async def test_one_socket_serves_both_ways():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stdio = Stdio(ours.fileno(), ours.fileno())
        theirs.sendall(b"in")
        assert await stdio.receive() == b"in"
        await stdio.send(b"out")
        assert theirs.recv(10) == b"out"
        await stdio.aclose()


async def test_files_are_read_and_written_aside(tmp_path):
    (tmp_path / "in").write_bytes(b"from a file")
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        stdio = Stdio(source.fileno(), sink.fileno())
        async with asyncio.timeout(PATIENCE):
            assert await stdio.receive() == b"from a file"
            assert await stdio.receive() == b""
            data = os.urandom(5 * PIECE)
            await stdio.send(data)
            await stdio.aclose()
    assert (tmp_path / "out").read_bytes() == data


async def test_the_null_device_has_nothing_to_say():
    with open(os.devnull, "r+b", buffering=0) as null:  # noqa: ASYNC230, PTH123 - a device does not block
        stdio = Stdio(null.fileno(), null.fileno())
        async with asyncio.timeout(PATIENCE):
            assert await stdio.receive() == b""
            await stdio.send(b"nobody")
            await stdio.aclose()
