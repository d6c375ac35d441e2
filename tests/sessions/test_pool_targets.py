"""Sessions and what they lead to: counted, chosen, left and cut; in virtual time."""

import asyncio
from collections import Counter

import pytest
from typing_extensions import override

from ssmtunneld.errors import StreamReset, TargetNotConnected, TargetNotFound
from ssmtunneld.sessions.policy import Phase, Policy
from ssmtunneld.sessions.session import Session, SessionSettings
from ssmtunneld.sessions.start_queue import StartQueue
from ssmtunneld.sessions.targeting import TargetSelector
from tests.sessions.rig import (
    REQUEST,
    Journal,
    check_alive,
    living_pool,
    surroundings,
    until,
)
from tests.support.clockwork import virtual
from tests.support.fake_control import START, FakeControl
from tests.support.turns import turns

GONE = "its target is gone"


async def is_reset(stream):
    with pytest.raises(StreamReset):
        await stream.receive()


@virtual
async def test_a_pool_knows_what_its_sessions_lead_to():
    async with living_pool(Policy(warm=2)) as rig:
        await rig.until_ready(2)
        assert rig.pool.targets == Counter({"i-1": 2})


@virtual
async def test_connections_to_a_target_that_is_gone_are_reset():
    async with living_pool() as rig:
        stream = await rig.open()
        before = set(rig.control.alive)
        rig.pool.leave("i-1", GONE, cut=True)
        await is_reset(stream)
        await stream.aclose()
        await until(lambda: not before & set(rig.control.alive))
        await rig.open()
    assert rig.journal.lines("session.retired")[0]["why"] == GONE


@virtual
async def test_connections_to_a_target_that_was_replaced_go_on():
    async with living_pool() as rig:
        stream = await rig.open()
        rig.pool.leave("i-1", "its target was replaced", cut=False)
        newer = await rig.open()
        await check_alive(stream)
        await check_alive(newer)
        assert len(rig.control.alive) > 1


@virtual
async def test_another_target_is_none_of_its_business():
    async with living_pool() as rig:
        stream = await rig.open()
        rig.pool.leave("i-2", GONE, cut=True)
        await check_alive(stream)
    assert rig.journal.lines("session.retired") == []


@virtual
async def test_a_session_that_resumes_is_cut_as_well():
    async with living_pool() as rig:
        stream = await rig.open()
        old = set(rig.control.alive)
        release = rig.control.hold("ResumeSession")
        await stream.send(b"never acknowledged")
        for session in old:
            session.lose_wire()
        await until(lambda: any(v.phase is Phase.RESUMING for v in rig.views))
        rig.pool.leave("i-1", GONE, cut=True)
        await is_reset(stream)
        await stream.aclose()
        await until(lambda: not old & set(rig.control.alive), patience=5)
        release()


class Aim:
    """Chooses what the test says, and remembers what was no good."""

    def __init__(self, chosen):
        self.chosen = chosen
        self.avoided = []

    async def choose(self):
        if isinstance(self.chosen, Exception):
            raise self.chosen
        return self.chosen

    def avoid(self, target):
        self.avoided.append(target)


def session(control, selector):
    return Session(
        1,
        REQUEST,
        surroundings(control, StartQueue(2.0, 4)),
        SessionSettings(),
        log=Journal().log,
        changed=lambda: None,
        selector=selector,
    )


@virtual
async def test_a_session_goes_where_its_aim_says():
    control, selector = FakeControl(), Aim("i-9")
    control.fail(START, TargetNotConnected("StartSession", "TargetNotConnected", "no"))
    made = session(control, selector)
    with pytest.raises(TargetNotConnected):
        await made.run()
    assert made.target == "i-9"
    assert selector.avoided == ["i-9"]


class Searching(TargetSelector):
    """Finds nothing, and knows why that takes so long."""

    reason = "AWS throttles the search"

    @override
    async def choose(self):
        await asyncio.get_running_loop().create_future()

    @override
    def avoid(self, target):
        pass


@virtual
async def test_a_session_whose_target_is_searched_for_says_why_that_takes_long():
    made = session(FakeControl(), Searching())
    assert made.start_reason == ""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.run())
        await turns(3)
        assert made.start_reason == "AWS throttles the search"
        running.cancel()
    assert made.start_reason == ""


@virtual
async def test_without_a_target_no_session_is_asked_for():
    control = FakeControl()
    missing = TargetNotFound("DescribeInstances", "NothingFound", "none found")
    made = session(control, Aim(missing))
    with pytest.raises(TargetNotFound):
        await made.run()
    assert control.count(START) == 0
    assert made.target is None
