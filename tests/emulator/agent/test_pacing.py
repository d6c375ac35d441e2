"""The rest of a millisecond: never less, and everybody is woken."""

import asyncio
import time

import pytest

from ssmtunneld.emulator.agent.pacing import Pacer


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.003])
async def test_a_rest_is_never_shorter_than_asked(seconds):
    with Pacer() as pacer:
        for _ in range(20):
            before = time.perf_counter()
            await pacer.rest(seconds)
            assert time.perf_counter() - before >= seconds


async def test_rests_end_in_their_order_whoever_asked_first():
    ended = []

    async def rest(seconds):
        await pacer.rest(seconds)
        ended.append(seconds)

    with Pacer() as pacer:
        async with asyncio.TaskGroup() as tasks:
            for seconds in (0.05, 0.03, 0.01):
                tasks.create_task(rest(seconds))
    assert ended == [0.01, 0.03, 0.05]


async def test_a_rest_can_be_cancelled_and_others_go_on():
    with Pacer() as pacer:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await pacer.rest(0.005)
        await pacer.rest(0.01)


async def test_the_thread_ends_with_its_context_and_begins_with_a_rest():
    with Pacer() as idle:
        pass
    assert not idle.is_alive()
    assert idle.ident is None
    with Pacer() as pacer:
        await pacer.rest(0.0)
        assert pacer.is_alive()
    assert not pacer.is_alive()
