import asyncio
import types
from functools import partial

import pytest

from ssmtunneld.errors import (
    AccessDenied,
    ChannelClosed,
    CredentialsUnusable,
    HandshakeFailed,
    LinkLost,
    LinkRefused,
    RemoteProtocolError,
    RequestRejected,
    StreamReset,
    TargetNotConnected,
    Throttled,
)
from ssmtunneld.protocol.message import Flag
from ssmtunneld.sessions.policy import Phase
from ssmtunneld.sessions.session import SessionSettings
from tests.sessions.rig import (
    REQUEST,
    SessionRig,
    assert_nothing_left,
    check_alive,
    living_session,
    now,
    until,
)
from tests.support.clockwork import run_virtual, turns, virtual
from tests.support.fake_agent import BASIC_PROPERTIES, AgentNature
from tests.support.fake_control import (
    CONNECT,
    RESUME,
    START,
    TERMINATE,
    FakeControl,
    Service,
    elapse,
)

LOST = LinkLost("reset by a test")
LOGGED_OUT = CredentialsUnusable(RESUME, "ExpiredToken", "expired", "run aws sso login")
THROTTLED = Throttled(RESUME, "ThrottlingException", "Rate exceeded")


# Beginning.


@virtual
async def test_a_session_is_started_shakes_hands_and_carries_streams():
    async with living_session() as rig:
        assert rig.session.phase is Phase.STARTING
        assert rig.session.statistics()[1] is None
        assert (rig.session.streams, rig.session.moved_bytes) == (0, 0)
        assert (rig.session.refusals, rig.session.exhausted) == (0, False)
        await rig.ready()
        assert rig.remote.request == REQUEST
        assert rig.session.session_id == rig.remote.session_id
        stream = rig.session.open_stream()
        assert stream.session is rig.session
        await check_alive(stream)
        assert rig.session.streams == 1
        assert rig.session.moved_bytes > 8
        assert rig.session.statistics()[1].streams == 1
        (line,) = rig.journal.lines("session.ready")
        assert line["mode"] == "mux"
        assert line["took_ms"] == 460


@pytest.mark.parametrize(
    "error",
    [
        TargetNotConnected(START, "TargetNotConnected", "i-1 is not connected"),
        Throttled(START, "ThrottlingException", "Rate exceeded"),
        LOGGED_OUT,
        RequestRejected(START, "InvalidDocument", "no such document"),
    ],
    ids=lambda error: type(error).__name__,
)
@virtual
async def test_a_refused_start_ends_the_session_with_the_refusal(error):
    async with living_session() as rig:
        rig.control.fail(START, error)
        await rig.over()
        assert rig.error is error
        assert rig.control.count(TERMINATE) == 0


@virtual
async def test_what_the_agent_has_to_say_is_logged():
    service = Service(agent=AgentNature(notice="update me"))
    async with living_session(service) as rig:
        await rig.ready()
        (line,) = rig.journal.lines("agent.said")
        assert line["notice"] == "update me"


@virtual
async def test_a_handshake_that_stalls_ends_the_session_at_the_service_too():
    service = Service(agent=AgentNature(never_completes=True))
    async with living_session(service) as rig:
        await rig.over()
        assert isinstance(rig.error, HandshakeFailed)
        assert 20 < now() < 22
        assert rig.control.count(TERMINATE) == 1
        assert not rig.remote.alive


@virtual
async def test_a_handshake_that_a_lost_link_interrupts_goes_on_with_the_next_one():
    async with living_session() as rig:
        await until(lambda: rig.control.open_wires)
        rig.remote.lose_wire()
        await rig.ready()
        assert rig.control.count(START) == 1
        await check_alive(rig.session.open_stream())


@virtual
async def test_an_agent_that_speaks_nonsense_ends_the_session_at_the_service_too():
    async with living_session() as rig:
        await rig.ready()
        rig.remote.agent.say(b"\x07 is no version of smux")
        await rig.over()
        assert isinstance(rig.error, RemoteProtocolError)
        assert not rig.remote.alive


@virtual
async def test_a_host_that_may_not_have_the_token_ends_the_session():
    error = RequestRejected("OpenDataChannel", "UntrustedStreamUrl", "no")
    async with living_session() as rig:
        rig.control.fail(CONNECT, error)
        await rig.over()
        assert rig.error is error
        assert not rig.remote.alive


# Ending.


@pytest.mark.parametrize("words", ["", "idle timeout"])
@virtual
async def test_the_services_end_is_reported_and_needs_no_termination(words):
    async with living_session() as rig:
        await rig.ready()
        rig.remote.end(words)
        await rig.over()
        assert isinstance(rig.error, ChannelClosed)
        assert rig.error.output == words
        assert rig.control.count(TERMINATE) == 0


@virtual
async def test_a_stopped_session_ends_through_the_agent_and_without_an_error():
    async with living_session() as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        await rig.session.stop()
        await rig.over(patience=0.5)
        assert rig.error is None
        assert rig.remote.agent.flags == [Flag.TERMINATE_SESSION]
        assert rig.control.count(TERMINATE) == 0
        with pytest.raises(StreamReset):
            await stream.receive()


@virtual
async def test_an_agent_that_does_not_answer_has_two_seconds_before_the_api_is_used():
    async with living_session() as rig:
        await rig.ready()
        rig.remote.agent.nature.deaf = True
        asked_at = now()
        await rig.session.stop()
        assert now() - asked_at == pytest.approx(2.0)
        assert rig.remote.alive
    assert not rig.remote.alive
    assert rig.control.count(TERMINATE) == 1


@virtual
async def test_an_agent_too_old_for_the_flag_is_ended_through_the_api():
    nature = AgentNature(version="2.3.700.0", properties=BASIC_PROPERTIES)
    async with living_session(Service(agent=nature)) as rig:
        await rig.ready()
        await rig.session.stop()
        assert rig.remote.agent.flags == []
    assert rig.control.count(TERMINATE) == 1


@virtual
async def test_a_session_without_a_link_is_ended_through_the_api():
    async with living_session() as rig:
        await rig.ready()
        rig.control.fail(RESUME, LOGGED_OUT)
        rig.remote.lose_wire()
        await until(lambda: rig.session.phase is Phase.RESUMING)
        asked_at = now()
        await rig.session.stop()
        assert now() == asked_at
    assert rig.control.count(TERMINATE) == 1


@virtual
async def test_a_termination_that_hangs_is_waited_for_five_seconds():
    async with living_session() as rig:
        await rig.ready()
        rig.control.hold(TERMINATE)
        stopped_at = now()
    assert now() - stopped_at == pytest.approx(5.0)
    (line,) = rig.journal.lines("session.abandoned")
    assert line["reason"] == "timed out"


@virtual
async def test_a_termination_that_fails_is_noted():
    async with living_session() as rig:
        await rig.ready()
        error = AccessDenied(TERMINATE, "AccessDeniedException", "no")
        rig.control.fail_next(TERMINATE, error)
        rig.remote.agent.nature.deaf = True
        session = rig.remote
        session.service.agent.deaf = True
        rig.session.open_stream()
        rig.control.sessions[session.session_id].touch()
        await rig.session.stop()
        rig.control.sessions[session.session_id].forget()
    (line,) = rig.journal.lines("session.abandoned")
    assert line["reason"] == str(error)


async def interrupted(coroutine, after):
    """Await ``coroutine``; only a native coroutine can be a task since Python 3.12."""
    return await _interrupted(coroutine, after)


@types.coroutine
def _interrupted(coroutine, after):
    """Await ``coroutine`` in this task, which is cancelled in its ``after``-th wait."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    step, waits = partial(coroutine.send, None), 0
    while True:
        try:
            waited_for = step()
        except StopIteration as end:
            return end.value
        waits += 1
        if waits == after:
            loop.call_soon(task.cancel)
        try:
            yield waited_for
        except BaseException as error:  # noqa: BLE001 - handed on to the coroutine
            step = partial(coroutine.throw, error)
        else:
            step = partial(coroutine.send, None)


def lose_link(control: FakeControl) -> None:
    if control.sessions:
        control.newest.lose_wire()


async def eventful_life(after: int) -> bool:
    """Live through every kind of wait; return whether it was cancelled."""
    rig = SessionRig(Service(), SessionSettings())
    control = rig.control
    control.fail_next(CONNECT, LOST, LinkRefused(500, "ssmmessages.invalid"))
    loop = asyncio.get_running_loop()
    for moment in (5, 8, 12):
        loop.call_at(moment, lose_link, control)
    loop.call_at(8.0, control.fail_next, RESUME, THROTTLED, THROTTLED)
    loop.call_at(12.0, control.fail, RESUME, LOGGED_OUT)
    cancelled = False
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(interrupted(rig.live(), after), name="session")
        await asyncio.wait({task})
        cancelled = task.cancelled()
    assert_nothing_left(control)
    return cancelled


def test_cancelling_any_wait_leaves_no_session_no_link_and_no_task():
    after = 1
    while run_virtual(eventful_life(after)):
        # From there on it is one wait, for the next attempt to resume.
        after += 1 if after < 100 else 20
    assert after > 20, "it has many waits"


@pytest.mark.parametrize("later", range(5))
@virtual
async def test_a_session_granted_while_its_start_is_cancelled_is_ended(later):
    async with living_session() as rig:
        release = rig.control.hold(START)
        await elapse(1)
        release()
        await turns(later)  # the session is there, the answer on its way
    assert len(rig.control.sessions) <= 1
    assert rig.control.alive == []
