"""A pool for each destination; whole tunnels are in tests/integration/test_dynamic."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.base.compartment import Defects
from ssmtunneld.base.log import get_log
from ssmtunneld.config import parse_config
from ssmtunneld.config.destinations import Destination
from ssmtunneld.daemon.backend import BackendDependencies
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.dynamic_backend import DynamicBackend
from ssmtunneld.errors import NoSessionReady
from ssmtunneld.listener.proxy.protocol import TooManyDestinations
from ssmtunneld.sessions.counters import SessionCounters
from ssmtunneld.sessions.pool import PoolRetired
from tests.integration import world
from tests.integration.world import PATIENCE, TARGET, configuration, emulator, tunnel
from tests.support.turns import look_again, until

NAMES = {"one": "127.0.0.1", "two": "127.0.0.1", "three": "127.0.0.1"}


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
async def events():
    async with world.logging() as caught:
        yield caught


def settings(service, **changes):
    usual = {"mode": "socks5", "destinations": ["*:*"], "max_destinations": 2}
    text = configuration(service.endpoint_url, tunnel("web", **{**usual, **changes}))
    return parse_config(text, "test.toml", {}).tunnels[0]


@asynccontextmanager
async def destinations(faults=(), *, run=True, agent_version=None, **changes):
    """Yields destinations that run, their task, and the emulator."""
    version = {} if agent_version is None else {"agent_version": agent_version}
    async with emulator(host_aliases=NAMES, faults=faults, **version) as service:
        context = DaemonContext(start_rate=100, start_burst=10)
        only = settings(service, **changes)
        log = get_log(tunnel="web")
        dependencies = BackendDependencies(
            context, log, SessionCounters(), Defects(log)
        )
        found = DynamicBackend(only, dependencies)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(found.run()) if run else None
            yield found, task, service
            if task is not None:
                await found.stop()
                task.cancel()
        await context.controls.close()


def to(host):
    return Destination(host, 9)


def names(found):
    return [destination.name for destination in found.listing()]


async def test_connections_to_one_destination_share_its_sessions(events):
    async with destinations(max_sessions=1) as (found, _, service):
        async with asyncio.timeout(PATIENCE):
            streams = [await found.open_stream(to("one"), 30) for _ in range(3)]
        (status,) = found.listing()
        assert (status.name, status.accepted, status.connections) == ("one:9", 3, 3)
        assert (status.sessions, status.waiting, status.reason) == (1, 0, "")
        assert len(list(service.sessions)) == 1
        snapshot = found.snapshot()
        assert (len(snapshot.members), snapshot.warm) == (1, 0)
        assert found.login is None
        await until(lambda: found.rtt is not None)
        for stream in streams:
            stream.abort()


async def test_a_destination_that_is_waited_for_is_not_pushed_out(events):
    offline = f"offline={TARGET}"
    async with destinations((offline,), max_destinations=1) as (found, _, _):
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(found.open_stream(to("one"), 60))
            await until(lambda: found.snapshot().waiting)
            with pytest.raises(TooManyDestinations):
                await found.open_stream(to("two"), 60)
            waiting.cancel()
        # Nobody waits any more, so it makes room.
        with pytest.raises(NoSessionReady):
            await found.open_stream(to("two"), 0.1)
        assert names(found) == ["two:9"]
        assert found.listing()[0].reason or found.listing()[0].sessions


async def test_those_that_leave_are_bounded_too(events):
    async with destinations(max_destinations=1) as (found, _, _):
        for host in ("one", "two"):
            (await found.open_stream(to(host), 60)).abort()
            await until(lambda: not any(d.connections for d in found.listing()))
        # The first one has hardly begun to leave, or has left.
        while found._leaving:
            with pytest.raises(TooManyDestinations):
                await found.open_stream(to("three"), 60)
            await look_again()
        (await found.open_stream(to("three"), 60)).abort()
        assert names(found) == ["three:9"]


async def test_trouble_of_one_destination_is_not_that_of_all(events):
    # An old agent reaches nothing but its own machine.
    async with (
        world.destination() as port,
        destinations(agent_version="2.3.50.0") as (found, _, _),
        asyncio.TaskGroup() as tasks,
    ):
        opening = tasks.create_task(found.open_stream(to("one"), 60))
        await until(lambda: found.snapshot().trouble is not None)
        await until(lambda: found.snapshot().retry_in)
        stream = await found.open_stream(Destination("localhost", port), 60)
        assert found.snapshot().trouble is None
        # The first one is there for as long as somebody waits for it.
        (first, second) = found.listing()
        assert (first.name, bool(first.reason)) == ("one:9", True)
        assert (second.name, second.reason) == (f"localhost:{port}", "")
        stream.abort()
        opening.cancel()


async def test_changed_settings_reach_the_sessions_that_there_are(events):
    async with destinations() as (found, _, service):
        stream = await found.open_stream(to("one"), 60)
        found.tunnel = settings(service, max_sessions=3)
        (place,) = found._used.values()
        assert place.backend.tunnel.max_sessions == 3
        assert place.backend.tunnel.host == "one"
        assert found.tunnel.max_sessions == 3
        stream.abort()


async def test_at_rest_nothing_is_kept_without_a_connection(events):
    async with destinations() as (found, _, service):
        (await found.open_stream(to("one"), 60)).abort()
        stream = await found.open_stream(to("two"), 60)
        await until(lambda: found.listing()[0].connections == 0)
        found.resting = True
        assert found.resting
        assert names(found) == ["two:9"]
        stream.abort()
        async with asyncio.timeout(PATIENCE):
            await found.emptied()
        assert names(found) == []
        assert all(session.over for session in service.sessions)
        found.resting = False
        (await found.open_stream(to("one"), 60)).abort()


async def test_retired_ones_end_with_their_last_connection(events):
    async with destinations() as (found, task, service):
        stream = await found.open_stream(to("one"), 60)
        found.retire()
        with pytest.raises(PoolRetired):
            await found.open_stream(to("one"), 60)
        assert len(found.snapshot().members) == 1
        assert not task.done()
        stream.abort()
        await until(task.done)
        assert all(session.over for session in service.sessions)


async def test_who_comes_before_the_start_waits_for_it(events):
    async with (
        destinations(run=False) as (found, _, _),
        asyncio.TaskGroup() as tasks,
    ):
        opening = tasks.create_task(found.open_stream(to("one"), 60))
        await asyncio.sleep(0)
        running = tasks.create_task(found.run())
        await until(opening.done)
        opening.result().abort()
        running.cancel()


async def test_what_one_asks_of_a_pool_is_answered(events):
    async with destinations() as (found, _, _):
        assert found.ready
        await found.wait_ready()
        assert found.pool is found
        assert found.open_probe() is None
        assert found.rtt is None
        empty = found.snapshot()
        assert (empty.members, empty.trouble, empty.retry_in) == ((), None, None)
