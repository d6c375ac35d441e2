"""P14: the relay conserves bytes, for any chunking and either order of endings."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import Enum

from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.errors import StreamError
from ssmtunneld.listener.relay import ConnectionOutcome, Meter, relay
from tests.support.clockwork import run_virtual
from tests.support.memory import memory_pair
from tests.support.turns import elapse

# Longer than any script takes: lingering is not what is looked at here.
LINGER = 10_000.0


class Last(Enum):
    """The last act of a party that has sent everything."""

    END = "end"
    ABORT = "abort"
    WAIT = "wait"


@dataclass(frozen=True)
class Part:
    """A party's script: pauses and chunks, then its last act; how slowly it reads.

    It says nothing before it has heard ``patience`` bytes.
    """

    lines: list[tuple[int, bytes]]
    last: Last
    reading_pause: int
    patience: int = 0

    @property
    def said(self):
        return b"".join(chunk for _, chunk in self.lines)


parts = st.builds(
    Part,
    lines=st.lists(
        st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=30)), max_size=8
    ),
    last=st.sampled_from([Last.END, Last.ABORT]),
    reading_pause=st.integers(0, 3),
)
orderly = parts.filter(lambda part: part.last is Last.END)


class Party:
    """Plays a part, and remembers what it heard and how that ended."""

    def __init__(self, stream, part):
        self._stream = stream
        self._part = part
        self.heard = bytearray()
        self.heard_end = False
        self._heard_more = asyncio.Event()

    async def play(self):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._speak())

    async def _speak(self):
        while len(self.heard) < self._part.patience:
            self._heard_more.clear()
            await self._heard_more.wait()
        try:
            for pause, chunk in self._part.lines:
                await elapse(pause)
                await self._stream.send(chunk)
        except StreamError:
            return  # nobody listens any more
        if self._part.last is Last.END:
            await self._stream.send_eof()
        elif self._part.last is Last.ABORT:
            self._stream.abort()

    async def _read(self):
        try:
            while data := await self._stream.receive():
                self.heard += data
                self._heard_more.set()
                await elapse(self._part.reading_pause)
        except StreamError:
            return
        self.heard_end = True


def perform(client_part, server_part, capacity):
    async def main():
        client_end, local = memory_pair(capacity)
        remote, server_end = memory_pair(capacity, half_close=False)
        client, server = Party(client_end, client_part), Party(server_end, server_part)
        meter = Meter()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.play())
            tasks.create_task(server.play())
            relaying = tasks.create_task(
                relay(local, remote, linger=LINGER, meter=meter)
            )
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for end in (local, remote):
            assert end.closed or end.aborted
        return client, server, relaying.result()

    return run_virtual(main())


@given(parts, parts, st.integers(0, 60))
def test_nothing_is_invented_reordered_or_miscounted(client, server, capacity):
    at_client, at_server, transfer = perform(client, server, capacity)
    assert client.said.startswith(bytes(at_server.heard))
    assert server.said.startswith(bytes(at_client.heard))
    assert len(at_server.heard) <= transfer.sent <= len(client.said)
    assert len(at_client.heard) <= transfer.received <= len(server.said)


@given(parts, orderly, st.integers(0, 60))
def test_an_orderly_answer_arrives_whole_or_the_client_broke_off(
    client, server, capacity
):
    at_client, _, transfer = perform(client, server, capacity)
    if client.last is Last.END:
        assert at_client.heard == server.said
        assert at_client.heard_end
        assert transfer.ending is ConnectionOutcome.COMPLETED


@given(orderly, parts, st.integers(0, 60))
def test_a_broken_answer_never_looks_whole(client, server, capacity):
    at_client, _, transfer = perform(client, replace(server, last=Last.ABORT), capacity)
    assert not at_client.heard_end
    assert transfer.ending is ConnectionOutcome.REMOTE_RESET


@given(orderly, orderly, st.integers(0, 60))
def test_a_request_and_its_answer_arrive_whole(client, server, capacity):
    server = replace(server, patience=len(client.said))
    at_client, at_server, _ = perform(client, server, capacity)
    assert (at_client.heard, at_server.heard) == (server.said, client.said)
    assert at_client.heard_end


@given(orderly, orderly, st.integers(0, 60))
def test_a_remote_that_never_ends_hears_everything_and_then_the_end(
    client, server, capacity
):
    server = replace(server, last=Last.WAIT)
    at_client, at_server, transfer = perform(client, server, capacity)
    assert (at_client.heard, at_server.heard) == (server.said, client.said)
    assert at_client.heard_end
    assert at_server.heard_end
    assert transfer.ending is ConnectionOutcome.LINGERED
