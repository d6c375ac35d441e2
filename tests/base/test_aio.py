"""Work that an event cuts short."""

import asyncio

import pytest

from ssmtunneld.base.aio import run_until


class Work:
    """Does what it is told to, and notes how it went."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = False

    async def run(self):
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "done"


async def test_work_that_comes_to_its_end_has_a_result():
    work = Work()
    work.go_on.set()
    assert await run_until(work.run(), asyncio.Event()) == "done"


async def test_an_event_cancels_the_work():
    work, event = Work(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        racing = tasks.create_task(run_until(work.run(), event))
        await work.begun.wait()
        event.set()
    assert racing.result() is None
    assert work.cancelled


async def test_after_the_event_work_does_not_begin():
    work, event = Work(), asyncio.Event()
    event.set()
    assert await run_until(work.run(), event) is None
    assert not work.begun.is_set()


async def test_an_error_comes_out_as_it_is():
    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        await run_until(fail(), asyncio.Event())


async def test_cancelling_cancels_the_work_and_leaves_nothing():
    tasks_before = asyncio.all_tasks()
    work, event = Work(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        racing = tasks.create_task(run_until(work.run(), event))
        await work.begun.wait()
        racing.cancel()
    assert racing.cancelled()
    assert work.cancelled
    assert asyncio.all_tasks() == tasks_before
