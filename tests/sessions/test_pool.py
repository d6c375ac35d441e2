import asyncio

import pytest

from ssmtunneld.errors import (
    AccessDenied,
    LinkRefused,
    NoSessionReady,
    TargetNotConnected,
    Throttled,
)
from ssmtunneld.sessions.policy import GROWTH_PATIENCE, Phase, Policy
from ssmtunneld.sessions.pool import SETTLING
from ssmtunneld.sessions.pooled_session import RTT_TIME
from tests.sessions.rig import (
    PoolRig,
    basic,
    check_alive,
    living_pool,
    now,
    until,
)
from tests.support.clockwork import virtual
from tests.support.fake_agent import AgentNature
from tests.support.fake_control import (
    CONNECT,
    RESUME,
    START,
    Service,
    elapse,
)

LAZY = Policy(warm=0)
LONE = Policy(spare=False)
SMALL = Policy(streams_per_session=4, max_sessions=3)
OFFLINE = TargetNotConnected(START, "TargetNotConnected", "i-1 is offline", "start it")
THROTTLED = Throttled(START, "ThrottlingException", "Rate exceeded")


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


@virtual
async def test_the_first_stream_needs_nothing_from_the_service():
    async with living_pool(LONE) as rig:
        await rig.until_ready()
        calls = len(rig.control.calls)
        asked_at = now()
        stream = await rig.pool.open_stream(15)
        assert now() == asked_at
        await check_alive(stream)
        assert len(rig.control.calls) == calls


@virtual
async def test_a_stream_is_had_at_once_where_a_session_is_ready():
    async with living_pool(LONE) as rig:
        assert rig.pool.stream_at_once() is None
        assert rig.pool.rtt is None
        await rig.until_ready()
        stream = rig.pool.stream_at_once()
        await check_alive(stream)
        rig.pool.retire()
        assert rig.pool.stream_at_once() is None  # its successor's, if anybody's


@virtual
async def test_the_first_bytes_of_a_connection_go_before_what_is_planned_for_it():
    async with living_pool(Policy(max_sessions=4)) as rig:
        await rig.until_ready()
        assert rig.pool.stream_at_once() is not None
        await asyncio.sleep(SETTLING / 2)
        assert rig.starts_until_now() == 1
        await asyncio.sleep(SETTLING)
        assert rig.starts_until_now() == 2


@virtual
async def test_using_a_session_after_a_quiet_hour_starts_no_other():
    async with living_pool(LONE) as rig:
        await rig.until_ready()
        await elapse(3590)
        stream = await rig.open()
        await elapse(10)
        await stream.aclose()
        await elapse(10)
        assert rig.starts_until_now() == 1


@virtual
async def test_a_pool_shows_what_it_has():
    async with living_pool(LONE) as rig:
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
async def test_a_pool_has_one_more_than_it_uses_and_shrinks_again():
    async with living_pool(SMALL) as rig:
        streams = [await rig.open()]
        await rig.until_ready(2)
        await elapse(600)
        assert rig.starts_until_now() == 2, "one is enough"
        for _ in range(3):
            streams.append(await rig.open())
            await rig.until_ready(3)
        await elapse(600)
        assert rig.starts_until_now() == 3, "no more than max_sessions"
        assert sorted(view.streams for view in rig.views) == [1, 1, 2]
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
    async with living_pool(LONE) as rig:
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
    async with living_pool(LONE) as rig:
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
        with pytest.raises(NoSessionReady, match="max_sessions is reached"):
            await rig.pool.open_stream(5)


@virtual
async def test_a_retired_pool_tells_when_its_last_session_has_ended():
    async with living_pool(Policy(warm=2)) as rig:
        await rig.until_ready(2)
        rig.pool.retire()
        async with asyncio.timeout(600):
            await rig.pool.emptied()
        assert not rig.control.alive


@virtual
async def test_those_that_wait_are_served_in_the_order_in_which_they_came():
    async with living_pool(LAZY) as rig:
        served = []

        async def connect(name):
            served.append((name, await rig.pool.open_stream(30)))

        async with asyncio.TaskGroup() as tasks:
            for name in "abcd":
                tasks.create_task(connect(name), name=name)
                await asyncio.sleep(0)
        assert [name for name, _ in served] == list("abcd")


@virtual
async def test_a_newcomer_does_not_pass_those_that_wait():
    async with living_pool(LAZY) as rig:
        passed = []
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(rig.pool.open_stream(30), name="first")
            while not waiting.done():
                await asyncio.sleep(0)
                if rig.pool.snapshot().waiting:
                    passed.append(rig.pool.stream_at_once())
                await elapse(0.001)
        assert set(passed) == {None}
        await check_alive(waiting.result())


@virtual
async def test_a_session_whose_agent_falls_silent_is_no_choice():
    async with living_pool(Policy(warm=2)) as rig:
        await rig.until_ready(2)
        stuck = await rig.open()
        number = next(v.number for v in rig.views if v.streams)
        remote = next(s for s in rig.control.alive if s.agent.streams)
        remote.agent.nature = AgentNature(deaf=True)
        await stuck.send(b"never heard")
        await elapse(0.2)
        assert [v.number for v in rig.views if v.stalled] == [number]
        for _ in range(5):
            await check_alive(await rig.open())
        assert next(v.streams for v in rig.views if v.number == number) == 1


@virtual
async def test_a_stream_that_cannot_leave_its_session_moves_to_another():
    async with living_pool(Policy(warm=2, spare=False)) as rig:
        await rig.until_ready(2)
        stuck = await rig.open()
        remote = next(s for s in rig.control.alive if s.agent.streams)
        remote.agent.nature = AgentNature(deaf=True)
        filling = asyncio.get_running_loop().create_task(stuck.send(b"x" * (4 << 20)))
        await elapse(0.05)
        session = next(s for s in rig.made if s.streams)
        late = session.open_stream()
        await late.send(b"hello")
        assert not late.announced
        await elapse(3.0)
        assert late.announced
        async with asyncio.timeout(1):
            assert await late.receive() == b"hello"
        filling.cancel()


@virtual
async def test_a_session_that_nobody_uses_any_more_and_that_does_not_move_is_replaced():
    async with living_pool(Policy(max_sessions=2, spare=False)) as rig:
        stuck = await rig.open()
        rig.control.newest.agent.nature = AgentNature(deaf=True)
        await stuck.send(b"never heard")
        await stuck.aclose()
        await elapse(20)
        (retired,) = rig.journal.lines("session.retired")
        assert "nobody uses it" in retired["why"]
        await check_alive(await rig.open())


@virtual
async def test_rate_and_round_trip_time_of_an_idle_session_are_not_those_of_long_ago():
    async with living_pool(LONE) as rig:
        stream = await rig.open()
        await stream.send(b"x" * 10_000)
        await elapse(2)
        busy = rig.pool.snapshot().members[0]
        assert busy.rtt is not None
        await stream.aclose()
        await elapse(5)
        assert rig.pool.snapshot().members[0].view.traffic == 0
        await elapse(RTT_TIME)
        assert rig.pool.snapshot().members[0].rtt is None
        assert rig.pool.rtt is None
