"""An event that behaves as asyncio's, and is smaller."""

import asyncio
import sys

import pytest

from ssmtunneld.base.small_event import SmallEvent
from tests.support.clockwork import turns, virtual


async def waiting(event, count=1):
    tasks = [asyncio.get_running_loop().create_task(event.wait()) for _ in range(count)]
    await turns()
    return tasks


@virtual
async def test_who_waits_is_woken_and_who_comes_later_does_not_wait():
    event = SmallEvent()
    tasks = await waiting(event, 3)
    assert not event.is_set()
    assert not any(task.done() for task in tasks)
    event.set()
    assert event.is_set()
    await asyncio.gather(*tasks)
    await asyncio.wait_for(event.wait(), 1)


@virtual
async def test_whoever_waited_is_woken_even_if_it_is_cleared_at_once():
    event = SmallEvent()
    tasks = await waiting(event, 2)
    event.set()
    event.clear()
    assert not event.is_set()
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(event.wait(), 1)


@virtual
async def test_one_that_is_cancelled_does_not_disturb_the_others():
    event = SmallEvent()
    left, stays = await waiting(event, 2)
    left.cancel()
    await turns()
    assert left.cancelled()
    event.set()
    await asyncio.wait_for(stays, 1)


@virtual
async def test_one_that_is_woken_and_cancelled_in_one_turn_ends_cancelled():
    event = SmallEvent()
    (task,) = await waiting(event)
    event.set()
    task.cancel()
    await turns()
    assert task.cancelled()
    event.set()  # nobody is left to be woken


@virtual
async def test_it_is_as_small_again_once_nobody_waits():
    event = SmallEvent()
    (task,) = await waiting(event)
    event.set()
    await task
    assert event._waiters is None
    assert sys.getsizeof(event) < 100
