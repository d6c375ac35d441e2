import asyncio
from random import Random

import pytest

from ssmtunneld.errors import (
    CredentialsUnusable,
    LinkLost,
)
from ssmtunneld.sessions.lifespan import Lifespan
from ssmtunneld.sessions.policy import Policy
from ssmtunneld.sessions.session import SessionSettings
from tests.sessions.rig import (
    PoolRig,
    basic,
    check_alive,
    living_pool,
    now,
    until,
)
from tests.support.clockwork import virtual
from tests.support.fake_agent import MUX_PROPERTIES
from tests.support.fake_control import (
    CONNECT,
    RESUME,
    START,
    TERMINATE,
    Service,
    elapse,
)

LONE = Policy(spare=False)
COMPLIANT = SessionSettings(keep_alive=None)
LOGGED_OUT = CredentialsUnusable(START, "ExpiredToken", "expired", "run aws sso login")


# Growing old.


@virtual
async def test_a_session_is_replaced_before_its_end_and_its_streams_live_on():
    lifespan = Lifespan()
    async with living_pool(
        LONE, service=Service(max_duration=3600.0), lifespan=lifespan
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
        assert sorted(v.streams for v in rig.views) == [0, 0, 1, 1]
        await one.aclose()
        await other.aclose()
        await elapse(5)
        assert rig.control.count(TERMINATE) == 0, "the agent was told"
        await elapse(600)
        assert rig.control.alive == [], "nothing is kept for ever"


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
            rig.control.alive[0].end()
            assert await stream.receive() == b""
            await elapse(0.01)  # a relay still has to tell its local side
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
    async with living_pool(LONE, service=service) as rig:
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
    async with living_pool(LONE, settings=COMPLIANT) as rig:
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
async def test_a_quiet_stream_that_idled_out_after_the_spare_leaves_no_trouble():
    async with living_pool(settings=COMPLIANT) as rig:
        stream = await rig.open()
        await rig.until_ready(2)
        await elapse(60)
        await check_alive(stream)
        await elapse(7200)
        assert rig.control.alive == []
        assert rig.pool.snapshot().trouble is None
        assert rig.pool.snapshot().warm == 0
        await rig.open()


@virtual
async def test_a_session_that_ended_in_use_is_replaced_although_idling_is_respected():
    async with living_pool(settings=COMPLIANT) as rig:
        await rig.open()
        rig.control.newest.end("the agent was restarted")
        await until(lambda: rig.ready == 0)
        await rig.until_ready()


# Long lives.


@virtual
async def test_an_idle_stream_outlives_hourly_byes_and_the_idle_timeout():
    async with living_pool(LONE, service=Service(idle_timeout=1200.0)) as rig:
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


# An idle timeout below keep_alive.


@virtual
@pytest.mark.parametrize("idle_timeout", [60.0, 120.0, 300.0])
async def test_an_idle_timeout_below_keep_alive_is_learned_and_kept(idle_timeout):
    service = Service(idle_timeout=idle_timeout)
    async with living_pool(
        LONE, service=service, settings=SessionSettings(keep_alive=300.0)
    ) as rig:
        await rig.until_ready()
        await elapse(3 * idle_timeout + 60)
        stream = await rig.open()
        starts = rig.starts_until_now()
        await elapse(7200)
        await check_alive(stream)
        assert rig.starts_until_now() == starts
        (line,) = rig.journal.lines("session.idle_timeout_learned")
        assert line["idle_timeout"] == pytest.approx(idle_timeout, abs=2)
        assert line["keep_alive"] < idle_timeout / 2
        assert "keep_alive" in line["advice"]


@virtual
async def test_sessions_that_end_for_other_reasons_teach_no_idle_timeout():
    async with living_pool(LONE, settings=SessionSettings(keep_alive=300.0)) as rig:
        for quiet in (70, 200, 130, 280):
            await rig.until_ready()
            await elapse(quiet)
            rig.control.newest.end("the agent was restarted")
            await until(lambda: rig.ready == 0)
        assert not rig.journal.lines("session.idle_timeout_learned")
