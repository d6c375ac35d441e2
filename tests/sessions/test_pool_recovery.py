import asyncio

import pytest

from ssmtunneld.errors import (
    AccessDenied,
    CredentialsUnusable,
    DestinationRefused,
    LinkLost,
    LinkRefused,
    RemoteProtocolError,
    RequestRejected,
    ServiceUnavailable,
    SessionGone,
    StreamReset,
    TargetNotConnected,
    Throttled,
)
from ssmtunneld.sessions.policy import Policy
from ssmtunneld.sessions.session import SessionSettings
from ssmtunneld.sessions.start_queue import StartQueue
from tests.sessions.rig import (
    PoolRig,
    assert_nothing_left,
    basic,
    check_alive,
    living_pool,
    now,
    until,
)
from tests.support.bench import channel_closed
from tests.support.clockwork import run_virtual, virtual
from tests.support.fake_agent import AgentNature
from tests.support.fake_control import (
    CONNECT,
    RESUME,
    START,
    TERMINATE,
    Service,
    elapse,
)

LONE = Policy(spare=False)
OFFLINE = TargetNotConnected(START, "TargetNotConnected", "i-1 is offline", "start it")
THROTTLED = Throttled(START, "ThrottlingException", "Rate exceeded")
WRONG = RequestRejected(START, "InvalidDocument", "no such document", "mend it")
LOGGED_OUT = CredentialsUnusable(START, "ExpiredToken", "expired", "run aws sso login")
UNREACHABLE = ServiceUnavailable(START, "Unreachable", "no route to host")


# Failing starts.


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        pytest.param(THROTTLED, 60, 600, id="throttled"),
        pytest.param(UNREACHABLE, 60, 600, id="the service is down"),
        pytest.param(OFFLINE, 60, 400, id="the target is offline"),
        pytest.param(LOGGED_OUT, 60, 400, id="a human must log in"),
        pytest.param(WRONG, 3, 60, id="the request is wrong"),
    ],
)
@virtual
async def test_what_cannot_be_started_is_tried_again_as_often_as_it_makes_sense(
    error, least, most
):
    async with living_pool() as rig:
        rig.control.fail(START, error)
        await elapse(3600)
        assert least <= rig.starts_until_now() <= most
        assert rig.journal.lines("session.ended")[-1]["advice"] == error.advice
        rig.control.heal()
        await rig.until_ready(patience=600)
        assert rig.pool.snapshot().trouble is None


@virtual
async def test_while_a_connection_waits_a_start_is_tried_every_two_seconds():
    async with living_pool() as rig, asyncio.TaskGroup() as tasks:
        rig.control.fail(START, WRONG)
        await elapse(300)
        before = rig.starts_until_now()
        waiting = tasks.create_task(rig.open(60), name="waiting")
        await elapse(20)
        assert 8 <= rig.starts_until_now() - before <= 11
        rig.control.heal()
        await asyncio.wait({waiting})
        assert waiting.exception() is None


@virtual
async def test_after_a_login_or_on_another_network_everything_is_tried_at_once():
    async with living_pool() as rig:
        rig.control.fail(START, WRONG)
        await elapse(900)
        rig.control.heal()
        rig.pool.retry_now()
        await rig.until_ready(patience=1)
        rig.control.fail(RESUME, LOGGED_OUT)
        rig.control.newest.lose_wire()
        await elapse(3)
        rig.control.heal()
        rig.pool.retry_now()
        await rig.until_ready(patience=1)


@virtual
async def test_a_check_reaches_every_link():
    async with living_pool(Policy(warm=2)) as rig:
        await rig.until_ready(2)
        rig.control.sessions["s-1"].wire.vanish()
        rig.pool.check()
        await elapse(6)
        assert rig.ready == 2
        assert [len(s.wires) for s in rig.control.alive] == [2, 1]


@virtual
async def test_starts_are_limited_over_all_pools_of_an_account():
    limiter = StartQueue(1.0, 2)
    policy = Policy(warm=3)
    rigs = [
        PoolRig(Service(), policy, SessionSettings(), limiter=limiter) for _ in range(2)
    ]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(r.pool.run(), name="pool") for r in rigs]
        for rig in rigs:
            await rig.until_ready(3)
        for task in running:
            task.cancel()
    times = sorted(time for rig in rigs for time in rig.control.times(START))
    # By the answers, each of them 0.2 s after its call.
    assert times == pytest.approx([0, 0, 1.2, 2.2, 3.2, 4.2])


@virtual
async def test_sessions_that_end_at_once_are_not_started_in_a_frenzy():
    async with living_pool() as rig:
        for _ in range(3600):
            await elapse(1)
            for session in rig.control.alive:
                session.end("agent failure")
        assert rig.starts_until_now() < 600


@virtual
async def test_a_session_that_lived_for_long_is_replaced_quickly():
    async with living_pool() as rig:
        rig.control.fail_next(START, *[THROTTLED] * 20)
        await rig.until_ready(patience=600)
        await elapse(60)
        rig.control.newest.end("agent failure")
        await until(lambda: rig.ready == 0)
        await rig.until_ready(patience=2)


# Losing sessions.


@virtual
async def test_a_session_that_is_gone_is_replaced_and_its_streams_are_cut():
    async with living_pool() as rig:
        stream = await rig.open()
        rig.control.newest.forget()
        rig.control.newest.lose_wire()
        with pytest.raises(StreamReset, match="cannot be resumed"):
            await stream.receive()
        await rig.until_ready()
        await rig.open()
        assert isinstance(rig.made[0].trouble, LinkLost | SessionGone)


@virtual
async def test_while_one_resumes_for_long_another_takes_its_place():
    async with living_pool(LONE) as rig:
        stream = await rig.open()
        rig.control.fail(RESUME, UNREACHABLE)
        lost_at = now()
        rig.control.newest.lose_wire()
        await rig.until_ready()
        await until(lambda: rig.starts_until_now() == 2)
        assert now() - lost_at == pytest.approx(5.0, abs=0.3)
        await rig.until_ready()
        await rig.open()
        rig.control.heal()
        await rig.until_ready(2)
        await check_alive(stream)
        await elapse(700)
        assert rig.starts_until_now() == 2


@virtual
async def test_one_that_cannot_resume_for_long_does_not_cost_one_start_after_another():
    async with living_pool(service=Service(idle_timeout=3600)) as rig:
        await rig.until_ready()
        rig.control.fail(RESUME, AccessDenied(RESUME, "AccessDeniedException", "no"))
        rig.control.newest.lose_wire()
        await elapse(1150)
        assert rig.starts_until_now() == 2
        assert rig.ready == 1


@virtual
async def test_an_hour_without_credentials_is_survived_and_leaves_nothing_behind():
    async with living_pool(service=Service(idle_timeout=7200.0)) as rig:
        await rig.until_ready()
        for operation in (START, RESUME, TERMINATE):
            rig.control.fail(operation, LOGGED_OUT)
        rig.control.newest.lose_wire(LinkLost("Bye", 1000))
        await elapse(3600)
        assert rig.pool.trouble.advice == "run aws sso login"
        rig.control.heal()
        await rig.until_ready(patience=30)
        await rig.open()
        # Nobody could end the one that could not be resumed: it idles out.
        rig.control.sessions["s-1"].end()
        assert len(rig.control.alive) == 1


@virtual
async def test_a_start_that_hangs_does_not_start_others():
    async with living_pool() as rig:
        release = rig.control.hold(START)
        await elapse(600)
        assert rig.starts_until_now() == 1
        release()
        await rig.until_ready()


# Sessions that are over, and not yet terminated.


def kill(rig, session):
    """Let its agent end ``session`` now."""
    rig.control.sessions[session.session_id].forget()
    session._driver.on_messages([channel_closed("The agent was restarted.")])


def carriers(rig):
    """Return the ids of the sessions whose agents have streams."""
    return [key for key, remote in rig.control.sessions.items() if remote.agent.streams]


@pytest.mark.parametrize("pool_is_first", [True, False])
def test_a_stream_of_which_nothing_was_sent_outlives_its_session(pool_is_first):
    @virtual
    async def run():
        async with living_pool(Policy(warm=2, spare=False)) as rig:
            await rig.until_ready(2)
            stream = rig.pool.stream_at_once()
            stream.put(b"hello")
            first = stream.session
            if pool_is_first:
                rig.pool._changed.set()
            kill(rig, first)
            assert await stream.receive() == b"hello"
            assert stream.session is not first
            assert carriers(rig) == [stream.session.session_id]
            (line,) = rig.journal.lines("session.ended")
            assert line["streams"] == 0

    run()


@virtual
async def test_it_outlives_it_also_where_the_others_are_full():
    policy = Policy(warm=2, spare=False, streams_per_session=1, max_sessions=2)
    async with living_pool(policy) as rig:
        await rig.until_ready(2)
        other = await rig.open()
        stream = rig.pool.stream_at_once()
        assert stream.session is not other.session
        kill(rig, stream.session)
        await check_alive(stream)
        assert stream.session is other.session


@virtual
async def test_a_stream_that_is_reset_does_not_begin_in_the_next_session():
    async with living_pool(Policy(spare=False)) as rig:
        await rig.until_ready()
        stream = rig.pool.stream_at_once()
        stream.put(b"hello")
        kill(rig, stream.session)
        with pytest.raises(StreamReset, match="restarted"):
            await stream.receive()
        await until(lambda: rig.starts_until_now() == 2)
        await rig.until_ready()
        await elapse(1)
        assert carriers(rig) == []


@virtual
async def test_of_what_the_agent_may_have_heard_nothing_is_repeated():
    async with living_pool(Policy(warm=2, spare=False)) as rig:
        await rig.until_ready(2)
        stream = rig.pool.stream_at_once()
        stream.put(b"hello")
        await elapse(0.001)
        assert stream.announced
        kill(rig, stream.session)
        with pytest.raises(StreamReset):
            await stream.receive()
        await elapse(1)
        assert carriers(rig) == []


@virtual
async def test_nothing_is_rescued_from_a_session_that_is_stopped():
    async with living_pool(Policy(warm=2, spare=False)) as rig:
        await rig.until_ready(2)
        stream = rig.pool.stream_at_once()
        first = stream.session
        await rig.pool.stop()
        with pytest.raises(StreamReset, match="stopped"):
            await stream.receive()
        assert stream.session is first


@virtual
async def test_a_session_that_is_over_gets_no_connections_in_the_same_turn():
    async with living_pool(Policy(warm=2, spare=False)) as rig:
        await rig.until_ready(2)
        dead, alive = rig.made
        kill(rig, dead)
        assert rig.pool.trouble is None
        for _ in range(3):
            assert rig.pool.stream_at_once().session is alive
            assert rig.pool.open_probe()._port is alive._port
        kill(rig, alive)
        assert rig.pool.stream_at_once() is None
        assert rig.pool.open_probe() is None


@virtual
async def test_the_end_of_a_destination_is_told_to_a_client_that_comes_right_then():
    async with living_pool(LONE, basic()) as rig:
        await rig.until_ready()
        rig.control.newest.forget()
        rig.made[0]._driver.on_messages([channel_closed()])
        assert await rig.pool.stream_at_once().receive() == b""


@virtual
async def test_one_that_is_over_makes_the_pool_ready_for_nobody():
    async with living_pool(Policy(spare=False)) as rig:
        await rig.until_ready()
        kill(rig, rig.made[0])
        rig.pool._learn(now())
        assert not rig.pool.ready


@virtual
async def test_while_a_session_is_terminated_another_takes_its_place():
    async with living_pool(Policy(warm=2, spare=False)) as rig:
        await rig.until_ready(2)
        release = rig.control.hold(TERMINATE)
        dead = rig.made[0]
        dead._driver.close(RemoteProtocolError("the agent has lost a message"))
        for _ in range(3):
            await check_alive(await rig.pool.open_stream(15))
        await rig.until_ready(2, patience=3)
        assert rig.control.sessions[dead.session_id].alive
        (line,) = rig.journal.lines("session.ended")
        assert "lost a message" in line["reason"]
        assert rig.pool.snapshot().counts.started == 3
        release()
        await elapse(1)
        assert not rig.control.sessions[dead.session_id].alive
        assert len(rig.journal.lines("session.ended")) == 1
        counts = rig.pool.snapshot().counts
        assert (counts.started, counts.restarted) == (3, 1)
        assert sum(counts.ended.values()) == 1


@virtual
async def test_while_one_that_is_gone_is_terminated_a_waiting_connection_is_served():
    async with living_pool(LONE) as rig:
        await rig.until_ready()
        release = rig.control.hold(TERMINATE)
        rig.control.newest.lose_wire()
        rig.control.newest.forget()
        await elapse(0.01)
        lost_at = now()
        await rig.open()
        assert now() - lost_at < 4
        assert rig.control.count(TERMINATE) == 1
        release()


@virtual
async def test_while_one_that_never_got_ready_is_terminated_others_are_tried():
    async with living_pool(LONE) as rig:
        rig.control.fail(CONNECT, LinkRefused(503, "ssmmessages.invalid"))
        rig.control.fail(RESUME, UNREACHABLE)
        release = rig.control.hold(TERMINATE)
        await until(lambda: rig.control.count(TERMINATE))
        rig.control.heal()
        await rig.until_ready(patience=4)
        release()


@virtual
async def test_a_pool_is_not_empty_while_a_session_is_terminated():
    async with living_pool(Policy(spare=False)) as rig, asyncio.TaskGroup() as tasks:
        await rig.until_ready()
        release = rig.control.hold(TERMINATE)
        dead = rig.control.newest
        rig.made[0]._driver.close(RemoteProtocolError("the agent has lost a message"))
        await elapse(0.01)
        rig.pool.retire()
        emptied = tasks.create_task(rig.pool.emptied(), name="emptied")
        await elapse(3)
        assert not rig.views
        assert dead.alive
        assert not emptied.done()
        release()
        await elapse(1)
        assert emptied.done()
        assert rig.control.alive == []


# Refused destinations.


async def refuse(rig: PoolRig, times: int = 1) -> None:
    """Let ``times`` connections be refused, one after the other."""
    for _ in range(times):
        stream = await rig.pool.open_stream(15)
        await stream.send(b"hello")
        with pytest.raises(DestinationRefused):
            await stream.receive()
        await stream.aclose()


@virtual
async def test_repeated_refusals_recycle_a_session_that_is_no_longer_young():
    async with living_pool(LONE) as rig:
        rig.control.service.agent.properties["host"] = "db.internal"
        rig.control.service.agent.refuses = True
        await refuse(rig, 5)
        assert rig.starts_until_now() == 1, "a young session knows the name anew"
        await elapse(31)
        await refuse(rig)
        await elapse(2)
        assert rig.starts_until_now() == 2
        assert [s.session_id for s in rig.control.alive] == ["s-2"]
        (line,) = rig.journal.lines("session.retired")
        assert "refused" in line["why"]
        await refuse(rig, 10)
        assert rig.starts_until_now() == 2


@virtual
async def test_where_no_name_was_resolved_refusals_recycle_nothing():
    async with living_pool(LONE) as rig:
        rig.control.service.agent.refuses = True
        await elapse(31)
        await refuse(rig, 5)
        await elapse(2)
        assert rig.starts_until_now() == 1


@virtual
async def test_a_refusal_now_and_then_is_forgotten_with_the_next_answer():
    async with living_pool(LONE) as rig:
        await rig.until_ready()
        await elapse(60)
        for _ in range(5):
            rig.control.service.agent.refuses = True
            await refuse(rig, 2)
            rig.control.service.agent.refuses = False
            await (await rig.open()).aclose()
            await elapse(2)
        assert rig.starts_until_now() == 1


# Stopping.


@virtual
async def test_stopping_ends_all_sessions_through_their_agents():
    async with living_pool(Policy(warm=3)) as rig:
        await rig.until_ready(3)
        stream = await rig.open()
        await rig.pool.stop()
        assert rig.control.alive == []
        assert rig.control.count(TERMINATE) == 0
        with pytest.raises(StreamReset):
            await stream.receive()
        starts = rig.starts_until_now()
        await elapse(5)
        assert rig.starts_until_now() == starts, "and none is started any more"


@virtual
async def test_stopping_takes_two_seconds_when_no_agent_answers():
    async with living_pool(Policy(warm=3)) as rig:
        await rig.until_ready(3)
        rig.control.service.agent.deaf = True
        asked_at = now()
        await rig.pool.stop()
        assert now() - asked_at == pytest.approx(2.0)
        assert len(rig.control.alive) == 3
    assert rig.control.count(TERMINATE) == 3


async def cancelled_after(seconds: float) -> None:
    """Cancel a pool in the middle of whatever it does then."""
    rig = PoolRig(Service(), Policy(warm=2), SessionSettings())
    rig.control.fail_next(START, None, THROTTLED)
    loop = asyncio.get_running_loop()
    loop.call_at(1.6, lambda: [s.lose_wire() for s in rig.control.alive])
    loop.call_at(2.4, lambda: [s.end() for s in rig.control.alive[:1]])
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(rig.pool.run(), name="pool")
        opening = tasks.create_task(rig.open(), name="stream")
        await elapse(seconds)
        running.cancel()
        opening.cancel()
        await asyncio.wait({running, opening})
    assert_nothing_left(rig.control)


def test_cancelling_a_pool_at_any_time_leaves_nothing():
    for hundredth in range(400):
        run_virtual(cancelled_after(hundredth / 100))


@virtual
async def test_cancelling_a_pool_while_it_closes_a_session_leaves_nothing():
    policy = Policy(warm=0, idle_close=10.0)
    async with living_pool(policy) as rig:
        await (await rig.open()).aclose()
        rig.control.newest.agent.nature = AgentNature(deaf=True)
        await until(lambda: not rig.views)
        assert rig.control.alive, "it is being asked politely"
