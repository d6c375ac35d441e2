"""Sessions that carry one connection each: forecasts of connections, and refusals."""

import asyncio

import pytest

from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import ChannelClosed, DestinationRefused
from ssmtunneld.sessions.basic import MEMORY, TOGETHER, RecentDemand, is_refusal
from ssmtunneld.sessions.policy import Policy
from tests.sessions.rig import basic, living_pool, now, until
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse


def test_nothing_is_expected_where_nobody_came():
    assert RecentDemand(4).peak(100.0) == 0


def test_as_many_are_expected_as_came_together():
    demand = RecentDemand(10)
    for time in (0.0, 10.0, 10.5, 11.0, 20.0):
        demand.note(time)
    assert demand.peak(20.0) == 3


def test_who_came_one_after_the_other_did_not_come_together():
    demand = RecentDemand(10)
    for number in range(5):
        demand.note(number * TOGETHER)
    assert demand.peak(4 * TOGETHER) == 1


def test_they_are_forgotten_after_a_while():
    demand = RecentDemand(10)
    for time in (0.0, 0.0, 30.0):
        demand.note(time)
    assert demand.peak(MEMORY - 0.1) == 2
    assert demand.peak(MEMORY) == 1
    assert demand.peak(30.0 + MEMORY) == 0


def test_no_more_are_remembered_than_matter():
    demand = RecentDemand(4)
    for _ in range(1000):
        demand.note(1.0)
    assert demand.peak(1.0) == 4


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("----------ERROR-------\nUnable to connect to specified port: dial", True),
        ("Session was terminated", False),
        ("", False),
    ],
)
def test_a_refusal_is_known_by_the_agents_words(words, refused):
    assert is_refusal(ChannelClosed(clean(words))) is refused


REFUSED = "Unable to connect to specified port: dial tcp"


@virtual
async def test_after_connections_that_came_together_as_many_spares_are_ready():
    async with living_pool(Policy(max_sessions=8), service=basic()) as rig:
        await rig.until_ready()
        streams = [await rig.open() for _ in range(3)]
        await elapse(10)
        for stream in streams:
            await stream.aclose()
        await elapse(10)
        assert [v.streams for v in rig.views] == [0] * 3
        starts = rig.starts_until_now()
        again = [rig.pool.stream_at_once() for _ in range(3)]
        assert None not in again, "nobody waits this time"
        assert rig.starts_until_now() == starts


@virtual
async def test_spares_and_connections_together_stay_within_the_limit():
    async with living_pool(Policy(max_sessions=4), service=basic()) as rig:
        await rig.until_ready()
        for _ in range(3):
            await rig.open()
        await elapse(20)
        assert sorted(v.streams for v in rig.views) == [0, 1, 1, 1]


@virtual
async def test_a_minute_after_the_last_connection_no_spare_is_left():
    async with living_pool(Policy(max_sessions=8), service=basic()) as rig:
        await rig.until_ready()
        for stream in [await rig.open() for _ in range(3)]:
            await stream.aclose()
        await elapse(MEMORY + 70)
        assert rig.views == []
        assert rig.pool.snapshot().warm == 0


@virtual
async def test_spares_do_not_count_as_wanted_in_status():
    async with living_pool(Policy(max_sessions=8), service=basic()) as rig:
        await rig.until_ready()
        await rig.open()
        await elapse(5)
        assert len(rig.views) == 2
        assert rig.pool.snapshot().warm == 0


REFUSED = "Unable to connect to specified port: dial tcp"


@virtual
async def test_whoever_waits_is_refused_with_the_first_session_that_is():
    service = basic()
    async with living_pool(Policy(max_sessions=1), service=service) as rig:
        await use_up_the_first(rig)
        async with asyncio.TaskGroup() as tasks:
            waiting = [
                tasks.create_task(refused(rig), name=str(number)) for number in range(2)
            ]
            await until(lambda: rig.control.open_wires)
            began = now()
            rig.control.newest.end(REFUSED)
        assert now() - began < 0.5
        assert all("Unable to connect" in task.result() for task in waiting)


@virtual
async def test_a_refusal_from_before_a_connection_came_says_nothing_to_it():
    service = basic()
    async with living_pool(Policy(max_sessions=1), service=service) as rig:
        await use_up_the_first(rig)
        async with asyncio.TaskGroup() as tasks:
            early = tasks.create_task(refused(rig), name="early")
            await until(lambda: rig.control.open_wires)
            late = tasks.create_task(rig.open(), name="late")
            await until(lambda: rig.pool.snapshot().waiting == 2)
            # The destination is back when the late one comes.
            rig.control.newest.end(REFUSED)
            service.agent.never_completes = False
        assert "Unable to connect" in early.result()
        late.result().abort()


async def use_up_the_first(rig):
    """Let the pool learn that its agent is basic; the next session does not connect."""
    await rig.until_ready()
    await rig.open()
    rig.control.service.agent.never_completes = True
    rig.control.newest.end()
    await until(lambda: not rig.control.open_wires)


async def refused(rig):
    with pytest.raises(DestinationRefused) as caught:
        await rig.open()
    return str(caught.value)
