"""A pool whose sessions may be started only with access to the node."""

import asyncio

import pytest

from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import AccessMissing, NoSessionReady
from tests.sessions.rig import check_alive, living_pool, now, until
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse

REJECTED = AccessMissing(clean("the request was rejected"), "ask again")
PENDING = AccessMissing(clean("the request awaits approval"), "wait", pending=True)


class Access:
    """An access whose state the test sets."""

    def __init__(self, missing):
        self.missing = missing
        self.hurried = 0

    def hurry(self):
        self.hurried += 1


def closed(rig, missing):
    """Close the access of a pool; return it."""
    rig.pool.access = Access(missing)
    return rig.pool.access


def approve(rig):
    rig.pool.access.missing = None
    rig.pool.retry_now()


@virtual
async def test_no_session_is_started_before_an_approval_nor_is_any_failure_told():
    async with living_pool() as rig:
        closed(rig, PENDING)
        await elapse(3600)
        assert rig.made == []
        assert rig.journal.lines("session.ended") == []
        approve(rig)
        await rig.until_ready(patience=5)


@virtual
async def test_a_connection_hastens_the_look_and_is_served_by_the_approval():
    async with living_pool() as rig:
        access = closed(rig, PENDING)
        asyncio.get_running_loop().call_later(100, approve, rig)
        stream = await rig.open(timeout=600)
        assert access.hurried == 1
        assert 100 <= now() < 110
        stream.abort()


@virtual
async def test_a_connection_that_has_waited_in_vain_is_told_for_what():
    async with living_pool() as rig:
        closed(rig, PENDING)
        with pytest.raises(NoSessionReady, match=r"within 15 s: .* awaits") as caught:
            await rig.open(timeout=15)
        assert caught.value.advice == "wait"
        assert rig.made == []


@virtual
async def test_a_connection_is_refused_at_once_where_nothing_is_awaited():
    async with living_pool() as rig:
        closed(rig, REJECTED)
        for _ in range(3):
            with pytest.raises(NoSessionReady, match="was rejected") as caught:
                await rig.pool.open_stream(600)
            assert caught.value.advice == "ask again"
        assert now() == 0


@virtual
async def test_those_that_wait_are_refused_with_the_decision():
    async with living_pool() as rig:
        closed(rig, PENDING)
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(told(rig)) for _ in range(3)]
            await until(lambda: rig.pool.snapshot().waiting == 3)
            rig.pool.leave_all(PENDING)
            await elapse(60)
            assert rig.pool.snapshot().waiting == 3
            rig.pool.access.missing = REJECTED
            rig.pool.leave_all(REJECTED)
        assert [task.result() for task in waiting] == [
            "no session: " + str(REJECTED)
        ] * 3


async def told(rig):
    """Return why there was no stream."""
    with pytest.raises(NoSessionReady) as caught:
        await rig.pool.open_stream(600)
    return str(caught.value)


@virtual
async def test_a_stream_outlives_the_access_and_its_session_takes_no_other():
    async with living_pool() as rig:
        stream = await rig.open()
        closed(rig, REJECTED)
        rig.pool.leave_all(REJECTED)
        await elapse(3600)
        await check_alive(stream)
        with pytest.raises(NoSessionReady):
            await rig.pool.open_stream(1)
        assert len([v for v in rig.views if v.streams]) == 1
        approve(rig)
        later = await rig.open()
        await check_alive(stream)
        assert len(rig.made) >= 2
        stream.abort()
        later.abort()


@virtual
async def test_sessions_without_streams_end_with_the_access():
    async with living_pool() as rig:
        await rig.until_ready()
        closed(rig, REJECTED)
        rig.pool.leave_all(REJECTED)
        await until(lambda: not rig.views)
        await elapse(60)
        assert not rig.views
