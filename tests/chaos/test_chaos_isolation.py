"""A session that catches up with an outage at the agent's pace holds nobody else up."""

import asyncio

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
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


async def test_new_connections_do_not_wait_for_what_an_old_one_has_to_catch_up_with(
    events, log_in
):
    destination = Destination()
    settings = EmulatorSettings(pace=Pace.REAL, faults=("seed=1",))
    async with destination.listening():
        text = _CONFIGURATION.replace("{port}", str(destination.port))
        async with household(text, settings) as house, asyncio.TaskGroup() as tasks:
            (mapping,) = house.daemon.mappings
            carried = watch(mapping)
            old = Client(Errand(1, up=10, down=20_000_000))
            running = tasks.create_task(old.run(house.ports[0]), name="old")
            await until(lambda: old.result.received > 50_000)
            # Half a second at the agent's pace: 450 messages, which it repeats at ten a
            # second, while it goes on to send what comes after them.
            house.emulator.faults.apply(["down:drop=1"])
            sent = _sent(house)
            await until(lambda: _sent(house) > sent + 450)
            house.emulator.faults.clear()
            await until(lambda: _stalled(mapping))
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


def _stalled(mapping):
    return any(member.view.stalled for member in mapping.pool.snapshot().members)
