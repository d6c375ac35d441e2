import asyncio
import json
import types
from functools import partial
from itertools import pairwise

import pytest

from ssmtunneld.errors import (
    AccessDenied,
    ChannelClosed,
    CredentialsUnusable,
    HandshakeFailed,
    LinkLost,
    LinkRefused,
    LinkUnreachable,
    RemoteProtocolError,
    RequestRejected,
    ServiceUnavailable,
    SessionGone,
    StreamReset,
    TargetNotConnected,
    Throttled,
)
from ssmtunneld.protocol.message import Flag
from ssmtunneld.transport.streams import Buffers
from ssmtunneld.tunnel.plan import Phase
from ssmtunneld.tunnel.session import (
    AGENT_NOP_INTERVAL,
    SAME_TOKEN_ATTEMPTS,
    SessionSettings,
)
from tests.support.clockwork import run_virtual, virtual
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
from tests.tunnel.rig import (
    REQUEST,
    SessionRig,
    assert_nothing_left,
    check_alive,
    living_session,
    now,
    until,
)

OLD_AGENT = "3.1.1374.0"
LOST = LinkLost("reset by a test")
LOGGED_OUT = CredentialsUnusable(RESUME, "ExpiredToken", "expired", "run aws sso login")
DENIED = AccessDenied(RESUME, "AccessDeniedException", "no", "allow ssm:ResumeSession")
THROTTLED = Throttled(RESUME, "ThrottlingException", "Rate exceeded")


def tokens(rig: SessionRig) -> list[str]:
    """Return the tokens that introduced the session's links."""
    return [json.loads(wire.texts[0])["TokenValue"] for wire in rig.remote.wires]


# Beginning.


@virtual
async def test_a_session_is_started_shakes_hands_and_carries_streams():
    async with living_session() as rig:
        assert rig.session.phase is Phase.STARTING
        assert rig.session.statistics()[1] is None
        assert (rig.session.streams, rig.session.traffic) == (0, 0)
        assert (rig.session.refusals, rig.session.exhausted) == (0, False)
        await rig.ready()
        assert rig.remote.request == REQUEST
        assert rig.session.session_id == rig.remote.session_id
        stream = rig.session.open_stream()
        await check_alive(stream)
        assert rig.session.streams == 1
        assert rig.session.traffic > 8
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


# Resuming.


@virtual
async def test_streams_survive_every_loss_and_each_link_has_a_token_of_its_own():
    async with living_session() as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        for number in range(5):
            await check_alive(stream, b"before")
            rig.remote.lose_wire()
            assert rig.session.phase is Phase.READY, "nobody knows yet"
            await until(lambda: rig.session.phase is Phase.RESUMING)
            await stream.send(b"while it is down")
            await rig.ready()
            assert await stream.receive() == b"while it is down"
            await check_alive(stream, b"after %d" % number)
        assert len(set(tokens(rig))) == 6
        assert rig.control.count(START) == 1
        assert rig.control.count(RESUME) == 5


@virtual
async def test_the_client_keeps_its_id_and_its_handshake_over_a_resume():
    async with living_session() as rig:
        await rig.ready()
        rig.remote.lose_wire()
        await until(lambda: len(rig.remote.wires) == 2)
        await rig.ready()
        first, second = (json.loads(w.texts[0]) for w in rig.remote.wires)
        assert first["ClientId"] == second["ClientId"]
        assert first["RequestId"] != second["RequestId"]
        assert len(rig.journal.lines("session.ready")) == 1
        assert len(rig.journal.lines("session.resumed")) == 1


@virtual
async def test_a_link_that_lived_is_replaced_without_a_pause():
    async with living_session() as rig:
        await rig.ready()
        await elapse(100)
        lost_at = now()
        rig.remote.lose_wire(LinkLost("Bye", 1000))
        await until(lambda: len(rig.remote.wires) == 2)
        await rig.ready()
        assert now() - lost_at < 0.5


@virtual
async def test_the_first_dials_use_the_token_that_there_is():
    async with living_session() as rig:
        rig.control.fail_next(CONNECT, *[LOST] * (SAME_TOKEN_ATTEMPTS - 1))
        await rig.ready()
        assert rig.control.count(CONNECT) == SAME_TOKEN_ATTEMPTS
        assert rig.control.count(RESUME) == 0


@virtual
async def test_after_some_dials_another_token_is_asked_for():
    async with living_session() as rig:
        rig.control.fail_next(CONNECT, *[LOST] * SAME_TOKEN_ATTEMPTS)
        await rig.ready()
        assert rig.control.count(RESUME) == 1


@virtual
async def test_a_token_that_is_refused_is_not_tried_again():
    async with living_session() as rig:
        rig.control.fail_next(CONNECT, LinkRefused(403, "ssmmessages.invalid"))
        await rig.ready()
        assert rig.control.count(CONNECT) == 2
        assert rig.control.count(RESUME) == 1


@virtual
async def test_a_session_that_cannot_connect_says_what_stands_in_the_way():
    async with living_session() as rig:
        refusal = LinkRefused(403, "ssmmessages.invalid")
        rig.control.fail(CONNECT, refusal)
        await until(lambda: rig.session.trouble is not None)
        changes = rig.changes
        assert rig.session.trouble is refusal
        assert "ssmmessages:OpenDataChannel" in refusal.advice
        assert changes > 0, "and the pool is told"
        rig.control.heal()
        await rig.ready()
        assert rig.session.trouble is None


@pytest.mark.parametrize(
    "error",
    [LOGGED_OUT, DENIED, THROTTLED, ServiceUnavailable(RESUME, "500", "oops")],
    ids=lambda error: type(error).__name__,
)
@virtual
async def test_no_refusal_to_resume_ends_a_session_that_may_be_alive(error):
    async with living_session() as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        rig.control.fail(RESUME, error)
        rig.remote.lose_wire()
        await elapse(600)
        assert rig.session.phase is Phase.RESUMING
        assert rig.session.trouble is error
        rig.control.heal()
        await rig.ready()
        await check_alive(stream)
        assert rig.control.count(START) == 1
        assert rig.control.count(RESUME) < 600 / 3, "the backoff grows"


@virtual
async def test_a_service_out_of_reach_is_logged_once_until_it_is_reached_again():
    async with living_session() as rig:
        await rig.ready()
        for outage in range(2):
            unreachable = LinkUnreachable("ssmmessages.invalid", f"no route, {outage}")
            rig.control.fail(CONNECT, unreachable)
            rig.remote.lose_wire()
            await elapse(120)
            rig.control.heal()
            await rig.ready()
        reasons = [line["reason"] for line in rig.journal.lines("link.failed")]
        assert len(reasons) == 2
        assert len(rig.journal.lines("link.lost")) == 2


@virtual
async def test_resuming_is_given_up_when_the_service_would_have_ended_the_session():
    service = Service(idle_timeout=3600)
    async with living_session(service) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        rig.control.fail(RESUME, LOGGED_OUT)
        lost_at = now()
        rig.remote.lose_wire()
        await rig.over(patience=3600)
        assert isinstance(rig.error, SessionGone)
        assert "run aws sso login" in rig.error.advice
        assert 1200 <= now() - lost_at < 1230
        assert not rig.remote.alive, "its idle timeout may be longer than usual"
        with pytest.raises(StreamReset):
            await stream.receive()


@virtual
async def test_a_session_that_is_gone_cuts_its_streams():
    async with living_session() as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        rig.remote.forget()
        rig.remote.lose_wire()
        await rig.over()
        assert isinstance(rig.error, SessionGone)
        with pytest.raises(StreamReset):
            await stream.receive()


@virtual
async def test_a_session_that_was_never_ready_is_not_resumed_at_any_price():
    async with living_session() as rig:
        rig.control.fail(CONNECT, LOST)
        rig.control.fail(RESUME, DENIED)
        await rig.over()
        assert rig.error is DENIED
        assert now() < 10
        assert not rig.remote.alive, "another is as good, once this one is gone"


@virtual
async def test_links_that_are_cut_at_once_are_not_dialled_in_a_frenzy():
    async with living_session(Service(websocket_age=0.05)) as rig:
        await rig.ready()
        await elapse(600)
        assert rig.control.count(CONNECT) < 200


@virtual
async def test_a_dial_that_takes_long_to_fail_is_no_link_that_lived():
    async with living_session() as rig:
        await rig.ready()
        await elapse(10)
        rig.control.service.api_time = 1.1
        rig.control.fail(CONNECT, LOST)
        rig.remote.lose_wire()
        await elapse(600)
        assert rig.control.count(CONNECT) < 150


@virtual
async def test_a_changed_network_is_tried_at_once_and_with_short_pauses():
    async with living_session() as rig:
        await rig.ready()
        await elapse(10)
        rig.control.fail(RESUME, THROTTLED)
        rig.remote.lose_wire()
        await elapse(300)
        before = rig.control.count(RESUME)
        rig.session.retry_now()
        await elapse(1.5)
        assert rig.control.count(RESUME) >= before + 3
        rig.control.heal()
        rig.session.retry_now()
        await rig.ready(patience=1.0)


@virtual
async def test_a_check_finds_a_dead_link_long_before_the_dead_peer_timer():
    async with living_session() as rig:
        await rig.ready()
        rig.remote.wire.vanish()
        vanished_at = now()
        rig.session.check()
        await until(lambda: rig.session.phase is Phase.RESUMING)
        assert now() - vanished_at < 5.1
        await rig.ready()


@virtual
async def test_a_check_of_a_live_link_changes_nothing():
    async with living_session() as rig:
        rig.session.check()  # without a link there is nothing to check
        await rig.ready()
        rig.session.check()
        assert rig.remote.wire.checks == 1
        await elapse(60)
        assert rig.control.count(RESUME) == 0


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


@types.coroutine
def interrupted(coroutine, after):
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
    rig = SessionRig(Service(), SessionSettings(resume_budget=20))
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
        after += 1
    assert after > 20, "it has many waits"


@virtual
async def test_a_session_granted_while_its_start_is_cancelled_is_terminated():
    async with living_session() as rig:
        release = rig.control.hold(START)
        await elapse(1)
        release()
        await asyncio.sleep(0)  # the grant is there, its answer is not
    assert len(rig.control.sessions) <= 1


# Keeping idle timeouts away.


def gaps(times: list[float]) -> set[float]:
    return {round(b - a, 3) for a, b in pairwise(times)}


@virtual
async def test_an_idle_session_is_kept_alive_by_a_nop_every_five_minutes():
    async with living_session() as rig:
        await rig.ready()
        await elapse(3010)
        nops = rig.remote.agent.nops
        assert len(nops) == 10
        assert gaps(nops) == {300.0}
        assert rig.remote.alive


@virtual
async def test_without_keep_alive_the_idle_timeout_is_respected():
    async with living_session(settings=SessionSettings(keep_alive=None)) as rig:
        await rig.ready()
        await rig.over(patience=1300)
        assert rig.remote.agent.nops == []
        assert isinstance(rig.error, ChannelClosed)
        assert rig.error.output == "idle timeout"


@virtual
async def test_an_old_agent_hears_from_us_every_ten_seconds():
    service = Service(agent=AgentNature(version=OLD_AGENT))
    async with living_session(service) as rig:
        await rig.ready()
        await elapse(600)
        nops = rig.remote.agent.nops
        assert len(nops) == 59
        assert gaps(nops) == {AGENT_NOP_INTERVAL}


@virtual
async def test_without_keep_alive_an_old_agent_is_kept_only_while_it_has_a_stream():
    # Left alone it would give up its smux session in silence (protocol 7.5), and the
    # next stream would hang.
    service = Service(agent=AgentNature(version=OLD_AGENT))
    settings = SessionSettings(keep_alive=None)
    async with living_session(service, settings) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await elapse(100)
        assert len(rig.remote.agent.nops) == 9
        await stream.aclose()
        await rig.over(patience=30)
        assert isinstance(rig.error, ChannelClosed)
        assert rig.remote.agent.flags == [Flag.TERMINATE_SESSION]
        assert not rig.remote.alive


@virtual
async def test_nops_rest_while_the_link_is_down_and_go_on_with_the_next():
    async with living_session(settings=SessionSettings(keep_alive=60.0)) as rig:
        await rig.ready()
        await elapse(130)
        rig.control.fail(RESUME, THROTTLED)
        rig.remote.lose_wire()
        await elapse(300)
        assert len(rig.remote.agent.nops) == 2
        rig.control.heal()
        await rig.ready()
        await elapse(130)
        assert len(rig.remote.agent.nops) == 4


# Basic mode.


def basic() -> Service:
    return Service(agent=AgentNature(properties=BASIC_PROPERTIES))


@virtual
async def test_a_basic_session_is_one_stream():
    async with living_session(basic()) as rig:
        await rig.ready()
        assert not rig.session.exhausted
        stream = rig.session.open_stream()
        assert rig.session.exhausted
        assert rig.session.streams == 1
        await check_alive(stream)
        assert rig.journal.lines("session.ready")[0]["mode"] == "basic"
        assert rig.session.statistics()[1].opened == 1


@virtual
async def test_a_basic_session_ends_with_its_stream_after_the_last_byte():
    async with living_session(basic()) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        await stream.send(b"last words")
        changes = rig.changes
        await stream.aclose()
        await rig.over()
        assert rig.changes > changes
        assert rig.error is None
        assert rig.remote.agent.flags == [Flag.TERMINATE_SESSION]
        assert rig.control.count(TERMINATE) == 0


@virtual
async def test_the_end_of_a_basic_session_is_the_end_of_its_stream():
    async with living_session(basic()) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        rig.remote.agent.say(b"bye")
        rig.remote.end()
        await rig.over()
        assert await stream.receive() == b"bye"
        assert await stream.receive() == b""
        assert isinstance(rig.error, ChannelClosed)


@virtual
async def test_a_basic_session_has_no_word_for_a_nop():
    async with living_session(basic(), SessionSettings(keep_alive=60.0)) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await check_alive(stream)
        await elapse(600)
        assert rig.session.traffic == 8


@virtual
async def test_a_slow_reader_stops_the_reading_of_the_session():
    settings = SessionSettings(buffers=Buffers(stream=4096, session=8192))
    async with living_session(settings=settings) as rig:
        await rig.ready()
        stream = rig.session.open_stream()
        await stream.send(b"x" * 20_000)
        await until(lambda: rig.session.reading_stopped)
        assert not rig.remote.wire.reading
        heard = 0
        while heard < 20_000:
            heard += len(await stream.receive())
        assert not rig.session.reading_stopped
