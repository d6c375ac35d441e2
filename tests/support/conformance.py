"""Tests of the promises of every ``Duplex``, whatever carries its bytes.

Subclass ``DuplexConformance`` in a test module, override ``pair``, and say with the
class attributes what the carrier cannot do.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ssmtunneld.errors import StreamError
from tests.support.turns import turns, until

if TYPE_CHECKING:
    from ssmtunneld.base.duplex import Duplex

PIECE = 16 * 1024
# More than any carrier here may hold: kernel buffers of two sockets and our own.
UNREASONABLE = 64 * 1024 * 1024
# Loop turns after which a `send` that has not returned counts as waiting for room.
WAITING = 200


async def receive_all(stream: Duplex) -> bytes:
    """Receive to the end of file."""
    received = bytearray()
    while data := await stream.receive():
        received += data
    return bytes(received)


async def receive_exactly(stream: Duplex, size: int) -> bytes:
    """Receive ``size`` bytes; more in the same piece is an error of the test."""
    received = bytearray()
    while len(received) < size:
        data = await stream.receive()
        assert data, f"ended after {len(received)} of {size} bytes"
        received += data
    assert len(received) == size
    return bytes(received)


class DuplexConformance:
    """Inherit as ``class TestSomething(DuplexConformance)``."""

    half_closes = True
    """True if one direction can end and the other go on (protocol 6.6)."""
    aborts_visibly = True
    """True if the far end can tell ``abort`` from an orderly end."""

    @pytest.fixture
    async def pair(self) -> tuple[Duplex, Duplex]:
        """Return both ends of a new connection, and release them after the test."""
        raise NotImplementedError

    async def test_bytes_arrive_in_order(self, pair):
        near, far = pair
        pieces = [os.urandom(size) for size in (1, 1016, 1, 40_000, 7)]
        async with asyncio.TaskGroup() as tasks:
            arriving = tasks.create_task(receive_exactly(far, sum(map(len, pieces))))
            for piece in pieces:
                await near.send(piece)
        assert arriving.result() == b"".join(pieces)

    async def test_both_directions_flow_at_once(self, pair):
        near, far = pair
        up, down = os.urandom(300_000), os.urandom(300_000)

        async def send(stream, data):
            for start in range(0, len(data), 1016):
                await stream.send(data[start : start + 1016])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send(near, up))
            tasks.create_task(send(far, down))
            at_far = tasks.create_task(receive_exactly(far, len(up)))
            at_near = tasks.create_task(receive_exactly(near, len(down)))
        assert (at_far.result(), at_near.result()) == (up, down)

    async def test_what_was_sent_before_the_end_arrives_before_the_end(self, pair):
        near, far = pair
        await near.send(b"last words")
        await near.send_eof()
        assert await receive_all(far) == b"last words"

    async def test_the_end_stays_the_end(self, pair):
        near, far = pair
        await near.send_eof()
        assert await far.receive() == b""
        assert await far.receive() == b""

    async def test_the_end_may_be_sent_twice(self, pair):
        near, far = pair
        await near.send_eof()
        await near.send_eof()
        assert await far.receive() == b""

    async def test_the_end_of_one_direction_leaves_the_other_or_ends_it(self, pair):
        near, far = pair
        await near.send_eof()
        assert await far.receive() == b""
        if self.half_closes:
            await far.send(b"answer")
            await far.send_eof()
            assert await receive_all(near) == b"answer"
        else:
            assert await near.receive() == b""

    async def test_an_end_wakes_who_waits_for_data(self, pair):
        near, far = pair
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(far.receive())
            await turns()
            await near.send_eof()
        assert waiting.result() == b""

    async def test_sending_waits_while_nobody_receives_and_loses_nothing(self, pair):
        near, far = pair
        piece = os.urandom(PIECE)
        async with asyncio.TaskGroup() as tasks:
            count, stuck = await self._fill(near, piece, tasks)
            data = await receive_exactly(far, count * PIECE)
            await stuck
        assert data == piece * count

    async def test_a_cancelled_receive_loses_nothing(self, pair):
        near, far = pair
        sent = os.urandom(2000)
        received = bytearray()
        for start in range(0, len(sent), 100):
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(far.receive())
                await turns()
                await near.send(sent[start : start + 100])
                waiting.cancel()
            with suppress(asyncio.CancelledError):
                received += waiting.result()
        received += await receive_exactly(far, len(sent) - len(received))
        assert bytes(received) == sent

    async def test_a_cancelled_send_still_goes_out(self, pair):
        near, far = pair
        piece = os.urandom(PIECE)
        async with asyncio.TaskGroup() as tasks:
            count, stuck = await self._fill(near, piece, tasks)
            stuck.cancel()
            await turns()
            assert await receive_exactly(far, count * PIECE) == piece * count

    async def test_an_abort_reaches_the_far_end(self, pair):
        near, far = pair
        near.abort()
        if self.aborts_visibly:
            with pytest.raises(StreamError):
                await far.receive()
        else:
            with suppress(StreamError):
                assert await far.receive() == b""

    async def test_after_an_abort_nothing_works_and_another_is_harmless(self, pair):
        near, _ = pair
        near.abort()
        near.abort()
        with pytest.raises(StreamError):
            await near.send(b"too late")
        with pytest.raises(StreamError):
            await near.receive()
        await near.send_eof()
        await near.aclose()

    async def test_an_abort_wakes_who_waits_for_data(self, pair):
        near, _ = pair
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(_outcome(near.receive()))
            await turns()
            near.abort()
        assert isinstance(waiting.result(), StreamError)

    async def test_an_abort_wakes_who_waits_for_room(self, pair):
        near, _ = pair
        async with asyncio.TaskGroup() as tasks:
            _, stuck = await self._fill(near, bytes(PIECE), tasks)
            near.abort()
            assert isinstance(await stuck, StreamError)

    async def test_closing_lets_what_was_sent_go_out(self, pair):
        near, far = pair
        sent = os.urandom(PIECE)
        await near.send(sent)
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(near.aclose())
            assert await receive_all(far) == sent
            await far.aclose()
            await closing
        await near.aclose()

    async def test_sending_to_a_closed_end_fails_at_last(self, pair):
        near, far = pair
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(far.aclose())
            assert await near.receive() == b""
            await near.send_eof() if not self.half_closes else None
            failure = None
            while failure is None:
                failure = await _outcome(near.send(b"anybody there?"))
                await turns()
            near.abort()
        assert isinstance(failure, StreamError)

    async def _fill(self, stream, piece, tasks):
        """Send until it waits; return how many pieces, and the task that waits."""
        for count in range(1, UNREASONABLE // len(piece)):
            sending = tasks.create_task(_outcome(stream.send(piece)))
            for _ in range(WAITING):
                if sending.done():
                    break
                await turns()
            else:
                return count, sending
            assert sending.result() is None
        pytest.fail("sending never waits")


async def _outcome(awaitable) -> StreamError | None:
    """Return the error that ``awaitable`` ends with, if any."""
    try:
        await awaitable
    except StreamError as error:
        return error
    return None


__all__ = ["DuplexConformance", "receive_all", "receive_exactly", "turns", "until"]
