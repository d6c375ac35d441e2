"""Connections that come at once: remembered, served in parallel, and forgotten."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.sessions.bursts import BURST, HALF_LIFE, WINDOW, BurstMemory
from ssmtunneld.sessions.policy import (
    BURST_PATIENCE,
    Policy,
    Start,
    adapted,
    awaits_own,
    plan,
)
from tests.sessions.planning import NOW, ready, starting
from tests.sessions.rig import living_pool, now, until
from tests.support.clockwork import virtual
from tests.support.fake_control import Service, elapse

HOUR = 3600.0


def remembered(count, apart=0.0):
    """Return a memory of connections up to second 0."""
    memory = BurstMemory()
    for number in range(count):
        memory.note((number - count + 1) * apart)
    return memory


def test_connections_that_come_one_after_another_are_no_burst():
    assert remembered(20, apart=WINDOW / 2).expected(0.0) == 0


def test_four_at_once_are_expected_again_and_less_of_them_as_hours_pass():
    memory = remembered(BURST, apart=WINDOW / BURST)
    found = [memory.expected(hours * HOUR) for hours in range(7)]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[-1]) == (BURST, 0)
    assert memory.expected(HALF_LIFE) == BURST // 2


def test_a_smaller_burst_does_not_hide_a_greater_one():
    memory = remembered(12)
    for _ in range(BURST):
        memory.note(10.0)
    assert memory.expected(10.0) == 12


@given(st.lists(st.floats(0, 1e6), max_size=50), st.floats(0, 1e6))
def test_never_are_more_expected_than_have_come_at_once(times, later):
    memory = BurstMemory()
    for time in sorted(times):
        memory.note(time)
    end = max(times, default=0.0) + later
    most = max((sum(t - WINDOW <= x <= t for x in times) for t in times), default=0)
    assert memory.expected(end) <= most


def test_what_is_expected_is_kept_warm_within_max_sessions():
    def warm(policy, expected=6):
        facts = {"limit": None, "basic": False, "dormant": False}
        return adapted(policy, **facts, expected=expected).warm

    assert warm(Policy(max_sessions=4)) == 4
    assert warm(Policy(max_sessions=9)) == 6
    assert warm(Policy(warm=7, max_sessions=9)) == 7
    assert warm(Policy(warm=0)) == 0
    assert warm(Policy(spare=False)) == 1


def test_those_that_wait_get_sessions_of_their_own_in_parallel():
    actions = plan([ready(1, streams=1)], Policy(), waiting=3, now=NOW)
    assert actions == [Start()] * 3
    views = [ready(1, streams=1), starting(2), starting(3)]
    assert plan(views, Policy(), waiting=2, now=NOW) == []


def test_a_connection_awaits_a_session_of_its_own_only_where_one_may_come():
    crowded = [ready(1, streams=1)]
    assert awaits_own(crowded, Policy(), 1, 0.0)
    assert not awaits_own(crowded, Policy(), 1, BURST_PATIENCE)
    assert not awaits_own(crowded, Policy(warm=0), 1, 0.0)
    assert not awaits_own(crowded, Policy(max_sessions=1), 1, 0.0)
    assert awaits_own([*crowded, starting(2)], Policy(max_sessions=2), 1, 0.0)
    assert not awaits_own([ready(1)], Policy(), 1, 0.0)


async def burst(rig, count=4):
    """Open streams at once; return them."""
    return await asyncio.gather(*(rig.pool.open_stream(15) for _ in range(count)))


def shared(rig):
    return sorted(view.streams for view in rig.views)


@virtual
async def test_the_first_burst_starts_sessions_in_parallel_and_waits_for_them():
    async with living_pool(service=Service(api_time=0.05)) as rig:
        await rig.until_ready()
        began = now()
        await burst(rig)
        assert shared(rig) == [1, 1, 1, 1]
        assert now() - began <= BURST_PATIENCE


@virtual
async def test_where_sessions_take_long_connections_share_after_a_moment():
    async with living_pool(service=Service(api_time=2.0)) as rig:
        await rig.until_ready()
        began = now()
        await burst(rig)
        assert BURST_PATIENCE <= now() - began <= BURST_PATIENCE + 0.1
        assert max(shared(rig)) == 4


@virtual
async def test_the_second_burst_waits_for_nothing_and_after_hours_spares_are_gone():
    async with living_pool() as rig:
        await rig.until_ready()
        for stream in await burst(rig):
            stream.abort()
        await rig.until_ready(4)
        await elapse(HOUR / 6)
        began = now()
        streams = await burst(rig)
        assert now() == began
        assert shared(rig) == [1, 1, 1, 1]
        for stream in streams:
            stream.abort()
        await elapse(12 * HOUR)
        await until(lambda: rig.ready <= 2)
