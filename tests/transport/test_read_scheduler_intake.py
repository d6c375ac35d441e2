"""Reads of a transport: none while it is full, and in turns with other transports."""

import asyncio

import pytest

from ssmtunneld.base.bounded_reads import SIZE, BoundedReads
from ssmtunneld.transport.read_scheduler import (
    BUSY_BYTES,
    DELAYED_SIZE,
    PRIORITY_TIME,
    TURNS_BETWEEN_READS,
    YIELD_TIME,
    YIELDING_SIZE,
    LinkTraffic,
    ReadFairness,
    ReadScheduler,
)
from tests.support.clockwork import virtual
from tests.support.turns import turns


class Transport(asyncio.Transport):
    """Tells whether it reads; refuses to be told twice, as uvloop's does."""

    def __init__(self):
        super().__init__()
        self.reads = False
        self.closing = False

    def pause_reading(self):
        assert self.reads
        self.reads = False

    def resume_reading(self):
        assert not self.reads
        self.reads = True

    def is_closing(self):
        return self.closing


def small_reads():
    return BoundedReads(asyncio.Protocol())


def started(*arguments):
    """Return a scheduler that reads."""
    scheduler = ReadScheduler(*arguments)
    scheduler.start()
    return scheduler


@virtual
async def test_others_have_their_turns_between_two_reads():
    transport = Transport()
    scheduler = started(transport, small_reads(), ReadFairness())
    scheduler.yield_turn(SIZE - 1, 0.0)
    assert transport.reads  # the network has no more at the moment
    scheduler.yield_turn(SIZE, 0.0)
    scheduler.yield_turn(SIZE, 0.0)
    for _ in range(TURNS_BETWEEN_READS):
        assert not transport.reads
        await asyncio.sleep(0)
    await turns(2)
    assert transport.reads


@virtual
async def test_a_busy_one_waits_longer_while_another_moves_little():
    fairness, transport = ReadFairness(), Transport()
    reads = small_reads()
    scheduler = started(transport, reads, fairness)
    now = asyncio.get_running_loop().time()
    scheduler.note_read(2 * BUSY_BYTES, now)
    LinkTraffic(fairness).note_read(300, now)
    scheduler.yield_turn(300, now)
    await asyncio.sleep(YIELD_TIME / 2)
    assert not transport.reads
    assert len(reads.get_buffer(-1)) == YIELDING_SIZE
    await asyncio.sleep(YIELD_TIME)
    assert transport.reads
    scheduler.yield_turn(300, asyncio.get_running_loop().time() + PRIORITY_TIME)
    assert transport.reads
    assert len(reads.get_buffer(-1)) == SIZE


@virtual
async def test_a_rest_begins_with_the_next_turn_and_what_came_is_read_at_once():
    transport, reads = Transport(), small_reads()
    scheduler = started(transport, reads, ReadFairness())
    scheduler.delay(0.02)
    assert transport.reads
    scheduler.yield_turn(300, 0.0)
    await asyncio.sleep(0.019)
    assert not transport.reads
    assert len(reads.get_buffer(-1)) == DELAYED_SIZE
    await asyncio.sleep(0.002)
    assert transport.reads
    scheduler.yield_turn(300, 0.0)
    assert transport.reads  # one rest, unless it is asked for again
    assert len(reads.get_buffer(-1)) == SIZE


@virtual
async def test_a_rest_ends_when_it_is_told():
    transport = Transport()
    scheduler = started(transport, small_reads(), ReadFairness())
    scheduler.end_delay()  # without effect
    scheduler.delay(0.02)
    scheduler.yield_turn(300, 0.0)
    scheduler.end_delay()
    assert transport.reads
    scheduler.delay(0.02)
    scheduler.yield_turn(300, 0.0)
    await asyncio.sleep(0.015)
    assert not transport.reads  # the timer of the first rest has nothing to say


@virtual
async def test_who_has_more_to_be_read_does_not_rest():
    transport = Transport()
    scheduler = started(transport, small_reads(), ReadFairness())
    scheduler.delay(0.02)
    scheduler.yield_turn(SIZE, 0.0)
    await turns(TURNS_BETWEEN_READS + 2)
    assert transport.reads


@virtual
async def test_a_turn_does_not_read_what_nobody_takes():
    transport = Transport()
    scheduler = started(transport, small_reads(), ReadFairness())
    scheduler.yield_turn(SIZE, 0.0)
    scheduler.set_wanted(wanted=False)
    await turns(TURNS_BETWEEN_READS + 2)
    assert not transport.reads
    scheduler.yield_turn(SIZE, 0.0)
    scheduler.set_wanted(wanted=True)
    assert not transport.reads
    await turns(TURNS_BETWEEN_READS + 2)
    assert transport.reads


@pytest.mark.parametrize("wanted", [True, False])
@virtual
async def test_a_transport_that_is_closing_is_let_alone(wanted):
    transport = Transport()
    scheduler = started(transport, small_reads(), ReadFairness())
    transport.closing = True
    scheduler.yield_turn(SIZE, 0.0)
    scheduler.set_wanted(wanted=wanted)
    await turns(TURNS_BETWEEN_READS + 2)
    assert transport.reads


@virtual
@pytest.mark.parametrize("wanted", [True, False])
async def test_nothing_is_read_before_the_start_nor_what_nobody_takes_then(wanted):
    transport = Transport()
    scheduler = ReadScheduler(transport, small_reads(), ReadFairness())
    for said in (False, wanted):
        scheduler.set_wanted(wanted=said)
        assert not transport.reads
    scheduler.start()
    assert transport.reads == wanted
