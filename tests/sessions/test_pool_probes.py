"""A probe's stream goes through a session and never counts as use of it."""

import pytest

from ssmtunneld.errors import DestinationRefused
from ssmtunneld.sessions.policy import Policy
from ssmtunneld.sessions.session import SessionSettings
from tests.sessions.rig import basic, check_alive, living_pool, until
from tests.support.clockwork import turns, virtual
from tests.support.fake_agent import AgentNature
from tests.support.fake_control import Service, elapse

LAZY = Policy(warm=0, idle_close=300.0)


async def ask(rig):
    """Probe as ``observe/probe.py`` does: open, speak, leave."""
    stream = rig.pool.open_probe()
    assert stream is not None
    await check_alive(stream)
    stream.abort()
    await turns()


@virtual
async def test_a_probe_is_answered_and_seen_by_no_plan():
    async with living_pool() as rig:
        await rig.until_ready()
        stream = rig.pool.open_probe()
        await check_alive(stream)
        assert [view.streams for view in rig.views] == [0]
        assert rig.made[0].statistics()[1].streams == 1
        stream.abort()
        await until(lambda: rig.made[0].statistics()[1].streams == 0)
        assert [view.streams for view in rig.views] == [0]


@virtual
async def test_connections_are_counted_beside_a_probe():
    async with living_pool(Policy(streams_per_session=1)) as rig:
        await rig.until_ready()
        probe = rig.pool.open_probe()
        stream = await rig.open()
        assert [view.streams for view in rig.views][:1] == [1]
        probe.abort()
        stream.abort()
        await until(lambda: not any(view.streams for view in rig.views))


@virtual
async def test_no_session_is_started_for_a_probe():
    async with living_pool(LAZY) as rig:
        await elapse(1.0)
        assert rig.pool.open_probe() is None
        await elapse(1.0)
        assert rig.starts_until_now() == 0


@virtual
async def test_a_session_that_is_probed_is_closed_when_it_is_idle_all_the_same():
    async with living_pool(LAZY) as rig:
        (await rig.open()).abort()
        await elapse(0.1)
        idle_since = rig.views[0].idle_since
        for _ in range(4):
            await elapse(60.0)
            await ask(rig)
            assert rig.views[0].idle_since == idle_since
        await elapse(61.0)
        assert rig.views == []


@virtual
async def test_no_spare_is_started_or_kept_because_of_probes():
    async with living_pool(Policy(streams_per_session=1)) as rig:
        await rig.until_ready()
        for _ in range(10):
            await ask(rig)
            await elapse(60.0)
        assert rig.starts_until_now() == 1


@virtual
async def test_an_idle_timeout_that_is_respected_comes_in_spite_of_a_probe():
    settings = SessionSettings(keep_alive=None)
    async with living_pool(settings=settings) as rig:
        await rig.until_ready()
        assert rig.pool.open_probe() is None  # nobody uses it
        stream = await rig.open()
        for number in range(30):
            await stream.send(b"%d" % number)
            await elapse(0.5)
        await ask(rig)  # while data moves
        await elapse(5.0)
        assert rig.pool.open_probe() is None  # connected, but silent
        await elapse(1250.0)
        assert rig.views == []


@virtual
async def test_a_session_that_serves_one_connection_is_not_probed():
    async with living_pool(Policy(warm=0), service=basic()) as rig:
        stream = await rig.open()
        assert rig.pool.open_probe() is None
        stream.abort()


@virtual
async def test_a_refused_probe_says_so():
    service = Service(agent=AgentNature(refuses=True))
    async with living_pool(service=service) as rig:
        await rig.until_ready()
        stream = rig.pool.open_probe()
        with pytest.raises(DestinationRefused):
            await stream.receive()
        assert rig.made[0].refusals == 1
        stream.abort()


@virtual
async def test_a_probe_that_gets_no_answer_is_not_taken_for_a_stalled_session():
    async with living_pool() as rig:
        await rig.until_ready()
        stream = rig.pool.open_probe()
        await stream.send(b"ping")
        assert rig.made[0].unanswered is None
        stream.abort()
