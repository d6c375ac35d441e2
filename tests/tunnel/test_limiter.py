import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.tunnel.limiter import MOST_CALLS, StartLimiter
from tests.support.clockwork import run_virtual
from tests.support.fake_control import elapse


async def acquired_at(limiter: StartLimiter, times: list[float]) -> None:
    await limiter.acquire()
    times.append(asyncio.get_running_loop().time())


async def crowd(limiter: StartLimiter, count: int) -> list[float]:
    times: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(acquired_at(limiter, times), name=f"start {number}")
    return times


def test_a_burst_comes_at_once_and_the_rest_in_single_file():
    times = run_virtual(crowd(StartLimiter(rate=2.0, burst=3), 6))
    assert times == pytest.approx([0, 0, 0, 0.5, 1.0, 1.5])


def test_after_a_quiet_time_there_is_one_burst_and_no_more():
    async def main() -> list[float]:
        limiter = StartLimiter(rate=2.0, burst=3)
        await crowd(limiter, 3)
        await elapse(3600)
        return await crowd(limiter, 5)

    times = run_virtual(main())
    assert times == pytest.approx([3600, 3600, 3600, 3600.5, 3601])


def test_a_cancelled_start_loses_its_place_and_nobody_starts_earlier_for_it():
    async def main() -> list[float]:
        limiter = StartLimiter(rate=1.0, burst=1)
        await limiter.acquire()
        times: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(limiter.acquire(), name="cancelled")
            tasks.create_task(acquired_at(limiter, times), name="next")
            await asyncio.sleep(0)
            waiting.cancel()
        return times

    assert run_virtual(main()) == pytest.approx([2.0])


def test_only_as_many_calls_are_under_way_as_there_are_threads_for_them():
    async def call(limiter: StartLimiter, times: list[float]) -> None:
        await acquired_at(limiter, times)
        with limiter.calling():
            await elapse(100)

    async def main() -> list[float]:
        limiter = StartLimiter(rate=1000.0, burst=100)
        times: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            for number in range(2 * MOST_CALLS + 1):
                tasks.create_task(call(limiter, times), name=f"call {number}")
        return times

    times = run_virtual(main())
    rounds = [0] * MOST_CALLS + [100] * MOST_CALLS + [200]
    assert times == pytest.approx(rounds, abs=0.1)


def test_a_call_that_fails_makes_room_too():
    async def main() -> None:
        limiter = StartLimiter(rate=1000.0, burst=100)
        for _ in range(2 * MOST_CALLS):
            await limiter.acquire()
            with pytest.raises(ValueError, match="refused"), limiter.calling():
                raise ValueError("refused")

    run_virtual(main())


@given(
    st.floats(0.1, 20),
    st.integers(1, 10),
    st.lists(st.floats(0, 5), min_size=1, max_size=30),
)
def test_no_window_of_time_sees_more_than_the_burst_and_the_rate(rate, burst, gaps):
    async def main() -> list[float]:
        limiter = StartLimiter(rate, burst)
        times: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            for number, gap in enumerate(gaps):
                await elapse(gap)
                tasks.create_task(acquired_at(limiter, times), name=str(number))
        return times

    times = run_virtual(main())
    assert times == sorted(times)
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            allowed = burst + (times[last] - start) * rate
            assert last - first + 1 <= allowed + 1e-6
