import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from ssmtunneld.sessions.start_queue import (
    FIRST_PAUSE,
    MOST_CALLS,
    RECOVERY,
    StartQueue,
    Urgency,
)
from tests.support.clockwork import run_virtual, virtual
from tests.support.fake_control import elapse


@dataclass(frozen=True)
class Plan:
    """One call: when it is wanted, how long it takes, when it is at the service."""

    wanted: float
    """Seconds after the one before."""
    latency: float
    arrives: float
    """The fraction of the latency that has passed when the call is at the service."""
    cancelled: float | None = None
    """Seconds that the caller waits, from when the call is wanted; None for ever."""


class Caller:
    """Makes calls through a limiter, and notes when they are at the service."""

    def __init__(self, limiter: StartQueue) -> None:
        self.limiter = limiter
        self.granted: list[float] = []
        self.arrivals: list[float] = []

    async def call(self, plan: Plan) -> None:
        """Wait for a place, and make the call."""
        place = await self.limiter.place()
        loop = asyncio.get_running_loop()
        self.granted.append(loop.time())
        # As a thread does: it goes on when nobody waits for it any more.
        arrival = loop.time() + plan.arrives * plan.latency
        loop.call_at(arrival, self.arrivals.append, arrival)
        answered = asyncio.Event()
        loop.call_later(plan.latency, place.free)
        loop.call_later(plan.latency, answered.set)
        await answered.wait()

    async def make(self, *plans: Plan) -> None:
        """Make all of ``plans``, and wait until even the abandoned ones are over."""
        async with asyncio.TaskGroup() as tasks:
            loop = asyncio.get_running_loop()
            for number, plan in enumerate(plans):
                if plan.wanted:
                    await elapse(plan.wanted)
                task = tasks.create_task(self.call(plan), name=f"call {number}")
                if plan.cancelled is not None:
                    loop.call_later(plan.cancelled, task.cancel)
        await elapse(60)


def calls(
    rate: float, burst: int, *plans: Plan, quiet: float | None = None
) -> tuple[list[float], list[float]]:
    """Return when calls were granted, and when they were at the service.

    With ``quiet``, all of them are made twice, and not before that moment again.
    """

    async def main() -> Caller:
        caller = Caller(StartQueue(rate, burst))
        await caller.make(*plans)
        if quiet is not None:
            await elapse(quiet - asyncio.get_running_loop().time())
            await caller.make(*plans)
        return caller

    caller = run_virtual(main())
    return caller.granted, sorted(caller.arrivals)


def assert_conforms(arrivals: list[float], rate: float, burst: int) -> None:
    for first, start in enumerate(arrivals):
        for last in range(first, len(arrivals)):
            allowed = burst + (arrivals[last] - start) * rate
            assert last - first + 1 <= allowed + 1e-6


SWIFT = Plan(0, 0, 0)


def test_a_burst_comes_at_once_and_the_rest_in_single_file():
    granted, _ = calls(2.0, 3, *[SWIFT] * 6)
    assert granted == pytest.approx([0, 0, 0, 0.5, 1.0, 1.5])


def test_after_a_quiet_time_there_is_one_burst_and_no_more():
    granted, _ = calls(2.0, 3, *[SWIFT] * 5, quiet=3600)
    assert granted[5:] == pytest.approx([3600, 3600, 3600, 3600.5, 3601])


def test_a_call_under_way_may_still_arrive_and_so_counts_until_its_answer():
    late, soon = Plan(0, 10, 1.0), Plan(0, 0.1, 0.0)
    granted, arrivals = calls(1.0, 2, late, soon, soon, soon, soon)
    assert granted == pytest.approx([0, 0, 1.1, 2.2, 3.3])
    assert arrivals == pytest.approx([0, 1.1, 2.2, 3.3, 10])
    slow = Plan(0, 10, 1.0)
    granted, arrivals = calls(1.0, 2, slow, slow, slow, slow)
    assert granted == pytest.approx([0, 0, 11, 12])
    assert arrivals == pytest.approx([10, 10, 21, 22])


def test_without_a_burst_the_next_call_waits_for_the_answer_and_its_turn():
    granted, _ = calls(2.0, 1, *[Plan(0, 3, 0.5)] * 3)
    assert granted == pytest.approx([0, 3.5, 7])


def test_whoever_is_cancelled_while_it_waits_takes_no_place():
    leaves = Plan(0, 0, 0, cancelled=0.3)
    granted, _ = calls(1.0, 1, SWIFT, leaves, leaves, SWIFT, SWIFT)
    assert granted == pytest.approx([0, 1, 2])


def test_whoever_is_cancelled_while_it_waits_for_an_answer_lets_the_next_one_in():
    leaves = Plan(0, 0, 0, cancelled=0.3)
    granted, _ = calls(1.0, 1, Plan(0, 5, 1), leaves, SWIFT)
    assert granted == pytest.approx([0, 6])


def test_a_call_whose_caller_has_gone_counts_until_it_is_over():
    granted, arrivals = calls(1.0, 1, Plan(0, 9, 1, cancelled=1), SWIFT)
    assert granted == pytest.approx([0, 10])
    assert arrivals == pytest.approx([9, 10])


def test_only_as_many_calls_are_under_way_as_there_are_threads_for_them():
    granted, _ = calls(1000.0, 100, *[Plan(0, 100, 0.5)] * (2 * MOST_CALLS + 1))
    rounds = [0] * MOST_CALLS + [100] * MOST_CALLS + [200]
    assert granted == pytest.approx(rounds, abs=0.1)


def test_a_call_that_fails_makes_room_too_and_no_more_than_once():
    async def main() -> list[float]:
        limiter = StartQueue(rate=2.0, burst=1)
        times: list[float] = []
        for _ in range(3):
            place = await limiter.place()
            times.append(asyncio.get_running_loop().time())
            with pytest.raises(ValueError, match="refused"), place:
                raise ValueError("refused")
            place.free()
        return times

    assert run_virtual(main()) == pytest.approx([0, 0.5, 1])


def test_another_rate_and_burst_apply_to_whoever_waits_already():
    async def main() -> list[float]:
        limiter = StartQueue(rate=0.001, burst=1)
        caller = Caller(limiter)
        asyncio.get_running_loop().call_later(10, limiter.adjust, 1.0, 2)
        await caller.make(*[Plan(0, 20, 0)] * 4)
        return caller.granted

    assert run_virtual(main()) == pytest.approx([0, 10, 21, 31])


def test_a_faster_rate_does_not_wait_for_what_the_slow_one_owes():
    async def main() -> list[float]:
        limiter = StartQueue(rate=0.001, burst=1)
        caller = Caller(limiter)
        asyncio.get_running_loop().call_later(10, limiter.adjust, 1.0, 1)
        await caller.make(*[Plan(0, 0, 0)] * 3)
        return caller.granted

    # At 10 s, 0.99 calls are still owed: 990 s at the rate before, 0.99 s at this one.
    assert run_virtual(main()) == pytest.approx([0, 10.99, 11.99])


def test_a_slower_rate_keeps_what_is_owed_in_calls():
    async def main() -> list[float]:
        limiter = StartQueue(rate=1.0, burst=1)
        caller = Caller(limiter)
        asyncio.get_running_loop().call_later(0.5, limiter.adjust, 0.1, 1)
        await caller.make(*[Plan(0, 0, 0)] * 2)
        return caller.granted

    assert run_virtual(main()) == pytest.approx([0, 5.5])


latencies = st.one_of(st.just(0.0), st.floats(0, 1), st.floats(0, 30))
plans = st.builds(
    Plan,
    wanted=st.one_of(st.just(0.0), st.floats(0, 5)),
    latency=latencies,
    arrives=st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1)),
    cancelled=st.one_of(st.none(), st.none(), st.floats(0, 20)),
)


@given(st.floats(0.1, 20), st.integers(1, 10), st.lists(plans, min_size=1, max_size=30))
def test_whatever_a_call_takes_no_window_sees_more_than_burst_and_rate(
    rate, burst, wanted
):
    granted, arrivals = calls(rate, burst, *wanted)
    event("some gave up" if len(granted) < len(wanted) else "all were made")
    assert len(arrivals) == len(granted)
    assert len(granted) >= sum(plan.cancelled is None for plan in wanted)
    assert_conforms(arrivals, rate, burst)


@given(st.floats(0.5, 20), st.integers(2, MOST_CALLS), st.floats(0, 1), st.floats(0, 1))
def test_the_rate_is_reached_if_the_burst_covers_what_is_under_way(
    rate, burst, share, arrives
):
    latency = share * (burst - 1) / rate
    count = 60
    granted, _ = calls(rate, burst, *[Plan(0, latency, arrives)] * count)
    # The burst at once, then all others at the rate, from the first answer on.
    assert granted[-1] <= latency + (count - burst) / rate + 1e-6


def always(urgency):
    return lambda: urgency


async def ask(limiter, urgency, order, name, tasks):
    """Ask for a place in a task of its own; note ``name`` when it was granted."""

    async def wait():
        place = await limiter.place(urgency)
        order.append(name)
        return place

    task = tasks.create_task(wait(), name=name)
    await asyncio.sleep(0)
    return task


@virtual
async def test_who_waits_is_not_held_by_the_rate():
    limiter = StartQueue(0.1, 1)
    places = [await limiter.place(always(Urgency.CLIENT)) for _ in range(MOST_CALLS)]
    assert asyncio.get_running_loop().time() == 0
    assert limiter.urgent == MOST_CALLS == len(places)


@virtual
async def test_no_more_than_some_calls_are_under_way_whoever_waits():
    limiter = StartQueue(2.0, 4)
    places = [await limiter.place(always(Urgency.CLIENT)) for _ in range(MOST_CALLS)]
    order = []
    async with asyncio.TaskGroup() as tasks:
        await ask(limiter, always(Urgency.CLIENT), order, "next", tasks)
        await elapse(5)
        assert order == []
        places[0].free()
        await elapse(0.01)
        assert order == ["next"]


@virtual
async def test_calls_are_made_by_urgency_and_then_as_they_came():
    limiter = StartQueue(1.0, 1)
    place = await limiter.place()
    order = []
    async with asyncio.TaskGroup() as tasks:
        asked = [
            ("spare", Urgency.SPARE),
            ("first", Urgency.FIRST),
            ("first too", Urgency.FIRST),
            ("required", Urgency.REQUIRED),
        ]
        granted = [
            await ask(limiter, always(urgency), order, name, tasks)
            for name, urgency in asked
        ]
        place.free()
        for number in (3, 1, 2, 0):
            (await granted[number]).free()
    assert order == ["required", "first", "first too", "spare"]


@virtual
async def test_a_call_that_somebody_begins_to_wait_for_passes_the_others():
    limiter = StartQueue(0.1, 1)
    place = await limiter.place()
    place.free()
    urgency = {"b": Urgency.SPARE}
    order = []
    async with asyncio.TaskGroup() as tasks:
        first = await ask(limiter, always(Urgency.FIRST), order, "a", tasks)
        second = await ask(limiter, lambda: urgency["b"], order, "b", tasks)
        assert limiter.reason_for(always(Urgency.SPARE)) == ""
        urgency["b"] = Urgency.CLIENT
        limiter.reconsider()
        await elapse(0.01)
        assert order == ["b"]
        second.result().free()
        (await first).free()
    assert order == ["b", "a"]


@virtual
async def test_who_waits_behind_others_is_told_how_many():
    limiter = StartQueue(0.5, 1)
    await limiter.place()
    order = []
    mine = always(Urgency.SPARE)
    async with asyncio.TaskGroup() as tasks:
        others = [
            await ask(limiter, always(Urgency.FIRST), order, str(n), tasks)
            for n in range(2)
        ]
        last = await ask(limiter, mine, order, "last", tasks)
        assert limiter.reason_for(mine) == "behind 3 starts (start_rate = 0.5)"
        for task in (*others, last):
            task.cancel()


@virtual
async def test_a_throttled_call_slows_all_calls_down():
    limiter = StartQueue(100.0, 100)
    (await limiter.place(always(Urgency.CLIENT))).free()
    limiter.note_throttled()
    loop = asyncio.get_running_loop()
    for expected in (FIRST_PAUSE, 2 * FIRST_PAUSE):
        asked_at = loop.time()
        (await limiter.place(always(Urgency.CLIENT))).free()
        assert loop.time() - asked_at == expected
        limiter.note_throttled()
    limiter.note_served()
    limiter.note_throttled()
    places = [await limiter.place(always(Urgency.CLIENT)) for _ in range(2)]
    begun = loop.time()
    places.append(await limiter.place(always(Urgency.CLIENT)))
    assert 0 < loop.time() - begun <= 2 * RECOVERY
    assert len(places) == 3


@virtual
async def test_calls_that_are_throttled_together_slow_down_once():
    limiter = StartQueue(100.0, 100)
    (await limiter.place(always(Urgency.CLIENT))).free()
    assert [limiter.note_throttled() for _ in range(8)] == [FIRST_PAUSE] * 8
    await asyncio.sleep(FIRST_PAUSE)
    assert limiter.note_throttled() == 2 * FIRST_PAUSE


@virtual
async def test_a_place_whose_caller_leaves_as_it_is_granted_is_free_again():
    limiter = StartQueue(1.0, 1)
    place = await limiter.place()
    order = []
    async with asyncio.TaskGroup() as tasks:
        leaving = await ask(limiter, always(Urgency.FIRST), order, "leaves", tasks)
        leaving.cancel()
        place.free()
        await elapse(60)
    (await limiter.place()).free()
    assert order == []


# Each call is another tunnel's: what one of them raises is no other's business.


def broken() -> Urgency:
    """Raise what nobody foresaw."""
    raise ZeroDivisionError


@virtual
async def test_one_that_cannot_say_how_urgent_it_is_does_not_hold_up_the_others() -> (
    None
):
    queue = StartQueue(1.0, 1)
    first = await queue.place()
    async with asyncio.TaskGroup() as tasks:
        waits = tasks.create_task(queue.place())
        await asyncio.sleep(0)
        with pytest.raises(ZeroDivisionError):
            await queue.place(broken)
        first.free()
        (await waits).free()
    # Nothing of it is left: neither a place that it holds nor one that it waits for.
    await elapse(60)
    (await queue.place()).free()
    assert queue.ahead_of(broken) is None


@virtual
async def test_one_that_breaks_while_it_waits_is_told_so_and_nobody_else() -> None:
    queue = StartQueue(1.0, 1)
    first = await queue.place()
    answers = [Urgency.SPARE]

    def fragile() -> Urgency:
        return answers.pop() if answers else broken()

    async def fails() -> None:
        with pytest.raises(ZeroDivisionError):
            await queue.place(fragile)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fails())
        waits = tasks.create_task(queue.place())
        await asyncio.sleep(0)
        first.free()
        (await waits).free()


@virtual
async def test_one_that_leaves_in_the_turn_in_which_it_breaks_just_leaves() -> None:
    queue = StartQueue(1.0, 1)
    first = await queue.place()
    answers = [Urgency.SPARE]

    def fragile() -> Urgency:
        return answers.pop() if answers else broken()

    async with asyncio.TaskGroup() as tasks:
        leaves = tasks.create_task(queue.place(fragile))
        await asyncio.sleep(0)
        leaves.cancel()
        queue.reconsider()
    assert leaves.cancelled()
    first.free()
