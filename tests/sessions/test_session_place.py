"""A session's place at the limiter, from its turn to the answer of StartSession."""

import asyncio

import pytest
from typing_extensions import override

from ssmtunneld.errors import Throttled
from ssmtunneld.sessions.session import Session, SessionSettings
from ssmtunneld.sessions.start_queue import StartQueue
from tests.sessions.rig import REQUEST, Journal, now, surroundings, until
from tests.support.clockwork import virtual
from tests.support.fake_control import START, FakeControl


class Threads(FakeControl):
    """One whose calls go on for nine seconds even if nobody waits for them."""

    @override
    async def start(self, request, *, answered=None):
        asyncio.get_running_loop().call_later(9.0, answered)
        return await super().start(request)


def session(control, limiter):
    dependencies = surroundings(control, limiter)
    log = Journal().log
    return Session(1, REQUEST, dependencies, SessionSettings(), log=log, changed=int)


@virtual
async def test_a_session_that_is_cancelled_keeps_its_place_until_its_call_is_over():
    control, limiter = Threads(), StartQueue(1.0, 1)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session(control, limiter).run(), name="session")
        await until(lambda: control.count(START))
        running.cancel()
    assert now() < 1
    await limiter.place()
    assert now() == 10


@virtual
async def test_a_session_that_could_not_be_started_gives_its_place_back():
    control, limiter = FakeControl(), StartQueue(1.0, 1)
    control.fail(START, Throttled(START, "ThrottlingException", "Rate exceeded"))
    with pytest.raises(Throttled):
        await session(control, limiter).run()
    await limiter.place()
    assert now() == pytest.approx(1 + control.service.api_time)


@virtual
async def test_a_session_is_as_old_as_its_call_not_as_its_turn():
    control, limiter = FakeControl(), StartQueue(1.0, 1)
    (await limiter.place()).free()
    waiting = session(control, limiter)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(waiting.run(), name="session")
        await until(lambda: control.alive)
        running.cancel()
    assert (waiting.created, control.times(START)) == (1.0, [1.0])
