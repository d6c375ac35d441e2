import asyncio
from random import Random

import pytest

from ssmtunneld.errors import (
    AccessDenied,
    CredentialsUnusable,
    DestinationRefused,
    LinkLost,
    LinkRefused,
    NoSessionReady,
    RequestRejected,
    ServiceUnavailable,
    SessionGone,
    StreamReset,
    TargetNotConnected,
    Throttled,
)
from ssmtunneld.tunnel.lifespan import Lifespan
from ssmtunneld.tunnel.limiter import StartLimiter
from ssmtunneld.tunnel.plan import Phase, Policy
from ssmtunneld.tunnel.pool import GROWTH_PATIENCE
from ssmtunneld.tunnel.session import SessionSettings
from tests.support.clockwork import run_virtual, virtual
from tests.support.fake_agent import BASIC_PROPERTIES, MUX_PROPERTIES, AgentNature
from tests.support.fake_control import (
    CONNECT,
    RESUME,
    START,
    TERMINATE,
    Service,
    elapse,
)
from tests.tunnel.rig import (
    PoolRig,
    assert_nothing_left,
    check_alive,
    living_pool,
    now,
    until,
)

LAZY = Policy(warm=0)
SMALL = Policy(streams_per_session=4, max_sessions=3)
COMPLIANT = SessionSettings(keep_alive=None)
OFFLINE = TargetNotConnected(START, "TargetNotConnected", "i-1 is offline", "start it")
THROTTLED = Throttled(START, "ThrottlingException", "Rate exceeded")
WRONG = RequestRejected(START, "InvalidDocument", "no such document", "mend it")
LOGGED_OUT = CredentialsUnusable(START, "ExpiredToken", "expired", "run aws sso login")
UNREACHABLE = ServiceUnavailable(START, "Unreachable", "no route to host")


def basic() -> Service:
    return Service(agent=AgentNature(properties=dict(BASIC_PROPERTIES)))


# Warm sessions.


@pytest.mark.parametrize("warm", [1, 3])
@virtual
async def test_the_warm_sessions_are_ready_before_anybody_asks(warm):
    async with living_pool(Policy(warm=warm)) as rig:
        await rig.pool.wait_ready()
        await rig.until_ready(warm)
        assert now() < 2
        await elapse(3600)
        assert rig.starts_until_now() == warm
        assert rig.pool.owns(rig.control.newest.session_id)
        assert not rig.pool.owns("s-other")


@virtual
async def test_the_first_stream_needs_nothing_from_the_service():
    async with living_pool() as rig:
        await rig.until_ready()
        calls = len(rig.control.calls)
        asked_at = now()
        stream = await rig.pool.open_stream(15)
        assert now() == asked_at
        await check_alive(stream)
        assert len(rig.control.calls) == calls


@virtual
async def test_using_a_session_after_a_quiet_hour_starts_no_other():
    async with living_pool() as rig:
        await rig.until_ready()
        await elapse(3590)
        stream = await rig.open()
        await elapse(10)
        await stream.aclose()
        await elapse(10)
        assert rig.starts_until_now() == 1


@virtual
async def test_a_pool_shows_what_it_has():
    async with living_pool() as rig:
        empty = rig.pool.snapshot()
        assert (empty.name, empty.members, empty.trouble) == ("db", (), None)
        await rig.open()
        snapshot = rig.pool.snapshot()
        (member,) = snapshot.members
        assert (member.view.phase, member.view.streams) == (Phase.READY, 1)
        assert (member.session_id, member.created) == ("s-1", 0.0)
        assert member.terms.agent_version == "3.3.987.0"
        assert member.channel.acknowledged > 0
        assert (snapshot.waiting, snapshot.retry_in) == (0, None)


@virtual
async def test_a_lazy_pool_starts_one_session_for_the_first_connection():
    async with living_pool(LAZY) as rig:
        await elapse(600)
        assert rig.starts_until_now() == 0
        stream = await rig.open()
        await elapse(60)
        assert rig.starts_until_now() == 1
        await stream.aclose()
        await elapse(298)
        assert rig.control.alive
        await elapse(10)
        assert not rig.control.alive
        assert rig.views == []


@virtual
async def test_connections_that_come_together_share_a_lazy_session():
    async with living_pool(LAZY) as rig:
        async with asyncio.TaskGroup() as tasks:
            for number in range(10):
                tasks.create_task(rig.open(), name=str(number))
        assert rig.starts_until_now() == 1


# Growing and shrinking.


@virtual
async def test_a_pool_grows_when_its_sessions_are_half_full_and_shrinks_again():
    async with living_pool(SMALL) as rig:
        streams = [await rig.open() for _ in range(2)]
        await rig.until_ready(2)
        streams += [await rig.open() for _ in range(2)]
        await rig.until_ready(3)
        await elapse(600)
        assert rig.starts_until_now() == 3, "no more than max_sessions"
        for stream in streams:
            await stream.aclose()
        await elapse(400)
        assert len(rig.control.alive) == 1


async def download(rig: PoolRig, stop: asyncio.Event) -> None:
    """Move much data until told to stop."""
    stream = await rig.pool.open_stream(15)
    while not stop.is_set():
        await stream.send(b"x" * 60_000)
        heard = 0
        while heard < 60_000:
            heard += len(await stream.receive())
    await stream.aclose()


@virtual
async def test_bulk_traffic_gets_company_and_a_new_stream_goes_elsewhere():
    async with living_pool(Policy(max_sessions=2)) as rig, asyncio.TaskGroup() as tasks:
        await rig.until_ready()
        stop = asyncio.Event()
        tasks.create_task(download(rig, stop), name="download")
        await rig.until_ready(2)
        await rig.open()
        loaded, free = rig.views
        assert (loaded.bulk, loaded.streams) == (True, 1)
        assert (free.bulk, free.streams) == (False, 1)
        stop.set()
    assert rig.starts_until_now() == 2


@virtual
async def test_whoever_finds_all_full_waits_for_the_next_session():
    policy = Policy(streams_per_session=1, max_sessions=2, spare=False)
    async with living_pool(policy) as rig:
        await rig.open()
        await rig.open()
        assert [v.streams for v in rig.views] == [1, 1]


@virtual
async def test_whoever_has_waited_for_long_shares_a_full_session():
    policy = Policy(streams_per_session=1, max_sessions=2)
    async with living_pool(policy) as rig:
        await rig.open()
        rig.control.fail(START, THROTTLED)
        asked_at = now()
        await rig.pool.open_stream(15)
        assert GROWTH_PATIENCE <= now() - asked_at < GROWTH_PATIENCE + 2
        assert [v.streams for v in rig.views if v.streams] == [2]


@virtual
async def test_where_no_other_can_come_a_full_session_is_shared_at_once():
    policy = Policy(streams_per_session=1, max_sessions=1)
    async with living_pool(policy) as rig:
        await rig.open()
        asked_at = now()
        await rig.pool.open_stream(15)
        assert now() == asked_at


@virtual
async def test_a_session_that_does_not_move_gets_no_streams_while_there_is_another():
    async with living_pool() as rig:
        stuck = await rig.open()
        rig.control.newest.agent.nature = AgentNature(deaf=True)
        await stuck.send(b"into the void")
        await rig.until_ready(2)
        await elapse(5)
        first, second = rig.views
        assert (first.stalled, second.stalled) == (True, False)
        await rig.open()
        assert [v.streams for v in rig.views] == [1, 1]
        assert rig.starts_until_now() == 2


# Waiting.


@virtual
async def test_a_connection_waits_until_a_session_is_there():
    async with living_pool(Policy(), Service(api_time=4.0)) as rig:
        stream = await rig.pool.open_stream(15)
        assert 8 < now() < 9
        await check_alive(stream)


@virtual
async def test_a_connection_that_waited_in_vain_learns_that_none_is_ready_yet():
    async with living_pool(Policy(), Service(api_time=20.0)) as rig:
        with pytest.raises(NoSessionReady, match="within 15 s: it is still being"):
            await rig.pool.open_stream(15)
        assert now() == 15
        assert rig.pool.snapshot().waiting == 0


@virtual
async def test_a_connection_that_waited_in_vain_learns_why_and_what_to_do():
    async with living_pool() as rig:
        rig.control.fail(START, OFFLINE)
        with pytest.raises(NoSessionReady, match="i-1 is offline") as caught:
            await rig.pool.open_stream(15)
        assert caught.value.advice == "start it"
        snapshot = rig.pool.snapshot()
        assert snapshot.trouble is OFFLINE
        assert snapshot.retry_in > 0


@virtual
async def test_a_websocket_that_is_refused_is_a_reason_too():
    async with living_pool() as rig:
        refusal = LinkRefused(403, "ssmmessages.invalid")
        rig.control.fail(CONNECT, refusal)
        with pytest.raises(NoSessionReady, match="HTTP 403") as caught:
            await rig.pool.open_stream(15)
        assert "ssmmessages:OpenDataChannel" in caught.value.advice
        assert rig.pool.snapshot().trouble is refusal
        assert rig.pool.trouble is refusal
        rig.control.heal()
        await rig.until_ready()
        assert rig.pool.trouble is None


@virtual
async def test_trouble_with_resuming_shows_while_no_session_is_ready():
    async with living_pool(Policy(max_sessions=1)) as rig:
        await rig.until_ready()
        denied = AccessDenied(RESUME, "AccessDeniedException", "no", "allow it")
        rig.control.fail(RESUME, denied)
        rig.control.newest.lose_wire()
        await until(lambda: rig.ready == 0)
        with pytest.raises(NoSessionReady, match="AccessDenied") as caught:
            await rig.pool.open_stream(10)
        assert caught.value.advice == "allow it"
        rig.control.heal()


@virtual
async def test_a_connection_that_waits_out_a_resume_is_served_by_the_old_session():
    async with living_pool() as rig:
        await rig.until_ready()
        rig.control.newest.lose_wire()
        await until(lambda: rig.ready == 0)
        await rig.open()
        assert rig.starts_until_now() == 1


@virtual
async def test_a_cancelled_wait_leaves_nothing_and_the_next_one_is_served():
    async with living_pool(LAZY) as rig, asyncio.TaskGroup() as tasks:
        for waited in (0.0, 0.1, 0.15, 0.2):
            task = tasks.create_task(rig.pool.open_stream(15), name="cancelled")
            await elapse(waited)
            task.cancel()
        await elapse(0)
        assert rig.pool.snapshot().waiting == 0
        await rig.open()
        assert [v.streams for v in rig.views] == [1]
        assert rig.starts_until_now() == 1


@virtual
async def test_a_connection_beyond_all_that_there_may_be_learns_that():
    policy = Policy(max_sessions=1)
    async with living_pool(policy, basic()) as rig:
        await rig.open()
        with pytest.raises(NoSessionReady, match="all are in use"):
            await rig.pool.open_stream(5)


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
    limiter = StartLimiter(1.0, 2)
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
    assert times == pytest.approx([0, 0, 1, 2, 3, 4])


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
    async with living_pool() as rig:
        stream = await rig.open()
        rig.control.fail(RESUME, THROTTLED)
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
async def test_a_start_that_hangs_does_not_start_others():
    async with living_pool() as rig:
        release = rig.control.hold(START)
        await elapse(600)
        assert rig.starts_until_now() == 1
        release()
        await rig.until_ready()


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
    async with living_pool() as rig:
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
async def test_a_refusal_now_and_then_is_forgotten_with_the_next_answer():
    async with living_pool() as rig:
        await rig.until_ready()
        await elapse(60)
        for _ in range(5):
            rig.control.service.agent.refuses = True
            await refuse(rig, 2)
            rig.control.service.agent.refuses = False
            await (await rig.open()).aclose()
            await elapse(2)
        assert rig.starts_until_now() == 1


# Growing old.


@virtual
async def test_a_session_is_replaced_before_its_end_and_its_streams_live_on():
    lifespan = Lifespan()
    async with living_pool(
        service=Service(max_duration=3600.0), lifespan=lifespan
    ) as rig:
        lifespan.tell(3600.0)
        stream = await rig.open()
        await elapse(3500)
        assert rig.ready == 1
        assert rig.starts_until_now() == 2
        retired, serving = rig.views
        assert (retired.retiring, retired.streams) == (True, 1)
        assert not serving.retiring
        await check_alive(stream)
        await rig.open()
        assert [v.streams for v in rig.views] == [1, 1]
        await stream.aclose()
        await elapse(2)
        assert len(rig.control.alive) == 1


async def least_ready(rig: PoolRig, seconds: float) -> int:
    """Return how few sessions were ready at any time in the next ``seconds``."""
    least = rig.ready
    end = now() + seconds
    while now() < end:
        await elapse(1)
        least = min(least, rig.ready)
    return least


@virtual
async def test_a_limit_that_nobody_tells_is_learned_from_two_ends():
    async with living_pool(service=Service(max_duration=1800.0)) as rig:
        await elapse(3700)
        assert len(rig.journal.lines("session.ended")) == 2
        assert await least_ready(rig, 7200) == 1
        assert len(rig.journal.lines("session.ended")) == 2
        assert len(rig.journal.lines("session.retired")) == 4


@pytest.mark.parametrize("limit", [1.0, 60.0, 120.0, 300.0])
@virtual
async def test_a_short_limit_does_not_cost_one_start_after_the_other(limit):
    async with living_pool(lifespan=Lifespan(limit)) as rig:
        await rig.until_ready()
        assert await least_ready(rig, 3600) == 1
        assert len(rig.control.alive) <= 2
        assert rig.starts_until_now() <= 2 * 3600 / max(limit, 60) + 1


# Basic mode.


@virtual
async def test_each_connection_has_a_basic_session_of_its_own():
    async with living_pool(service=basic()) as rig:
        await rig.until_ready()
        one = await rig.open()
        other = await rig.open()
        assert [v.streams for v in rig.views] == [1, 1]
        await one.aclose()
        await other.aclose()
        await elapse(5)
        assert rig.control.alive == []
        assert rig.control.count(TERMINATE) == 0, "the agent was told"
        await elapse(600)
        assert rig.starts_until_now() == 2, "nothing is kept warm"


@virtual
async def test_basic_connections_that_come_together_each_get_a_session():
    async with living_pool(service=basic()) as rig, asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(rig.open(), name=str(number))
        await elapse(14)
        assert [v.streams for v in rig.views] == [1] * 4
        assert rig.starts_until_now() == 4


@virtual
async def test_the_ordinary_end_of_a_basic_session_is_no_failure():
    async with living_pool(service=basic()) as rig:
        for _ in range(20):
            stream = await rig.open()
            await elapse(70)
            rig.control.newest.end()
            assert await stream.receive() == b""
            await stream.aclose()
            await elapse(1)
            snapshot = rig.pool.snapshot()
            assert (snapshot.trouble, snapshot.retry_in) == (None, None)
        assert [v.expires_at for v in rig.views] == []
        assert rig.journal.lines("session.ended") == []


@virtual
async def test_a_basic_session_that_cannot_connect_is_a_failure():
    async with living_pool(service=basic()) as rig:
        await rig.until_ready()
        rig.control.newest.end("Unable to connect to specified port: refused")
        await elapse(0.05)
        assert "Unable to connect" in str(rig.pool.snapshot().trouble)


@virtual
async def test_an_agent_that_was_updated_is_used_as_it_is_now():
    service = basic()
    async with living_pool(service=service) as rig:
        stream = await rig.open()
        service.agent.properties = MUX_PROPERTIES
        await stream.aclose()
        await elapse(100)
        await rig.open()
        await asyncio.gather(*(rig.open() for _ in range(4)))
        mux = [v.streams for v in rig.views]
        assert sum(mux) == 5
        assert rig.starts_until_now() == 2


# Respecting the idle timeout.


@virtual
async def test_a_session_that_idled_out_is_not_replaced_before_somebody_asks():
    async with living_pool(settings=COMPLIANT) as rig:
        await rig.until_ready()
        await elapse(7200)
        assert rig.control.alive == []
        assert rig.starts_until_now() == 1
        assert rig.pool.snapshot().trouble is None
        stream = await rig.open()
        assert rig.starts_until_now() == 2
        await stream.aclose()
        await elapse(7200)
        assert rig.starts_until_now() == 2


@virtual
async def test_a_session_that_ended_in_use_is_replaced_although_idling_is_respected():
    async with living_pool(settings=COMPLIANT) as rig:
        await rig.open()
        rig.control.newest.end("the agent was restarted")
        await until(lambda: rig.ready == 0)
        await rig.until_ready()


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


# Long lives.


@virtual
async def test_an_idle_stream_outlives_hourly_byes_and_the_idle_timeout():
    async with living_pool(service=Service(idle_timeout=1200.0)) as rig:
        stream = await rig.open()
        await elapse(4 * 3600 + 60)
        await check_alive(stream, b"still there")
        assert rig.starts_until_now() == 1
        assert rig.control.count(RESUME) == 4
        assert len(rig.control.newest.wires) == 5


@virtual
async def test_a_day_with_expiring_credentials_and_an_outage_needs_no_human():
    async with living_pool(seed=7) as rig, asyncio.TaskGroup() as tasks:
        await rig.until_ready()
        weather = tasks.create_task(bad_day(rig), name="weather")
        unready = 0.0
        while now() < 24 * 3600:
            await elapse(10)
            if rig.ready == 0:
                unready += 10
            assert len(rig.control.alive) <= 4
        weather.cancel()
        rig.control.heal()
        await rig.until_ready(patience=30)
        await rig.open()
    assert unready < 40 * 60 + 60, "nothing but the outage was felt"
    assert rig.starts_until_now() < 24 * 10 + 40 * 60 / 5


async def bad_day(rig: PoolRig) -> None:
    """Let the credentials expire for ten minutes each hour, and all fail once."""
    random = Random(3)
    for hour in range(24):
        await elapse(3000)
        for operation in (START, RESUME, TERMINATE):
            rig.control.fail(operation, LOGGED_OUT)
        if hour == 11:
            rig.control.fail(CONNECT, LinkLost("no route to host"))
            for session in rig.control.alive:
                session.wire.vanish()
            await elapse(2400 - 600)
        await elapse(600 * random.random())
        rig.control.heal()
        if hour != 11:
            await elapse(3600 * (hour + 1) - now() if now() < 3600 * (hour + 1) else 0)
