"""Connections that would hold each other up have a session each, by default.

How much that means is measured by ``python -m benchmarks.pool_speedup``.
"""

import asyncio
from collections import Counter

import pytest

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.sessions.policy import Phase
from tests.chaos.client import Client, Errand, Outcome
from tests.chaos.destination import Destination
from tests.chaos.household import household, until, watch

_CONFIGURATION = """
[defaults]
endpoint_url = "{endpoint}"
region = "eu-west-1"
target = "i-0123456789abcdef0"

[tunnels.only]
listen = "127.0.0.1:0"
port = {port}
"""


DOWNLOAD = Errand(1, up=10, down=100_000_000)
DIALOGUE = Errand(2, up=1_000_000, echo=True, piece=10, rest=0.01)


@pytest.mark.parametrize(
    "order", [(DOWNLOAD, DIALOGUE), (DIALOGUE, DOWNLOAD)], ids=["after", "before"]
)
async def test_a_dialogue_has_its_own_session_whenever_the_download_comes(
    order, events, log_in
):
    destination = Destination()
    async with destination.listening():
        text = _CONFIGURATION.replace("{port}", str(destination.port))
        async with (
            household(text, EmulatorSettings(pace=Pace.REAL)) as house,
            asyncio.timeout(60),
            asyncio.TaskGroup() as tasks,
        ):
            (tunnel,) = house.daemon.tunnels
            carried = watch(tunnel)
            clients = {errand: Client(errand) for errand in order}
            running = []
            for client in clients.values():
                await until(lambda: _unused(tunnel))
                task = tasks.create_task(client.run(house.ports[0]), name="client")
                running.append(task)
                await until(lambda client=client: client.result.received)
            download, dialogue = clients[DOWNLOAD].result, clients[DIALOGUE].result
            # Both go on, and neither waits for the other's end.
            said, fetched = dialogue.received, download.received
            await until(lambda: dialogue.received > said + 100)
            await until(lambda: download.received > fetched + 100_000)
            for task in running:
                task.cancel()
    assert carried[download.local_port] != carried[dialogue.local_port]
    assert len(carried) == 2
    assert house.left == []


async def test_connections_are_spread_evenly_over_as_many_sessions_as_there_may_be(
    events, log_in
):
    destination = Destination()
    async with destination.listening():
        text = _CONFIGURATION.replace("{port}", str(destination.port))
        async with (
            household(text, EmulatorSettings(pace=Pace.REAL)) as house,
            asyncio.timeout(60),
            asyncio.TaskGroup() as tasks,
        ):
            (tunnel,) = house.daemon.tunnels
            carried = watch(tunnel)
            clients = [Client(Errand(n, up=1_000_000, echo=True)) for n in range(20)]
            running = []
            for client in clients:
                await until(lambda: _unused(tunnel) or _complete(tunnel))
                task = tasks.create_task(client.run(house.ports[0]), name="client")
                running.append(task)
                await until(lambda client=client: client.result.received)
            for task in running:
                task.cancel()
    assert list(Counter(carried.values()).values()) == [5, 5, 5, 5]
    assert house.left == []


async def test_new_connections_do_not_wait_for_what_an_old_one_has_to_catch_up_with(
    events, log_in
):
    destination = Destination()
    settings = EmulatorSettings(pace=Pace.REAL, faults=("seed=1",))
    async with destination.listening():
        text = _CONFIGURATION.replace("{port}", str(destination.port))
        async with household(text, settings) as house, asyncio.TaskGroup() as tasks:
            (tunnel,) = house.daemon.tunnels
            carried = watch(tunnel)
            old = Client(Errand(1, up=10, down=20_000_000))
            running = tasks.create_task(old.run(house.ports[0]), name="old")
            await until(lambda: old.result.received > 50_000)
            # Half a second at the agent's pace: 450 messages, which it repeats at ten a
            # second, while it goes on to send what comes after them.
            house.emulator.faults.apply(["down:drop=1"])
            sent = _sent(house)
            await until(lambda: _sent(house) > sent + 450)
            house.emulator.faults.clear()
            await until(lambda: _stalled(tunnel))
            new = Client(Errand(2, up=1000, down=1000))
            async with asyncio.timeout(20):
                await new.run(house.ports[0])
            assert _sent(house) > sent + 450
            assert old.result.received < 20_000_000
            running.cancel()
    assert new.result.outcome is Outcome.COMPLETE
    assert carried[new.result.local_port] != carried[old.result.local_port]
    assert house.left == []


def _sent(house):
    return sum(s.down.statistics.messages for s in house.emulator.sessions)


def _stalled(tunnel):
    return any(view.stalled for view in _views(tunnel))


def _unused(tunnel):
    return any(v.phase is Phase.READY and not v.streams for v in _views(tunnel))


def _complete(tunnel):
    ready = [view for view in _views(tunnel) if view.phase is Phase.READY]
    return len(ready) == tunnel.settings.max_sessions


def _views(tunnel):
    return [member.view for member in tunnel.pool.snapshot().members]
