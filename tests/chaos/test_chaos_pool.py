"""The agent as slow as it is in reality: parallel downloads need parallel sessions.

How much faster they are is measured by ``python -m benchmarks.pool_speedup``.
"""

import asyncio

import pytest

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from tests.chaos.client import Client, Errand, Outcome
from tests.chaos.destination import Destination
from tests.chaos.household import household, watch

_CONFIGURATION = """
[daemon]
start_rate = 50
start_burst = 20

[defaults]
endpoint_url = "{endpoint}"
region = "eu-west-1"
target = "i-0123456789abcdef0"

[tunnels.only]
listen = "127.0.0.1:0"
port = {port}
max_sessions = {sessions}
streams_per_session = 1
"""


@pytest.mark.parametrize("sessions", [1, 8])
async def test_downloads_have_a_session_each_where_there_may_be_as_many(
    events, log_in, sessions
):
    destination = Destination()
    async with destination.listening():
        text = _CONFIGURATION.replace("{port}", str(destination.port))
        text = text.replace("{sessions}", str(sessions))
        async with household(text, EmulatorSettings(pace=Pace.REAL)) as house:
            carried = watch(house.daemon.tunnels[0])
            clients = [Client(Errand(n, up=10, down=60_000)) for n in range(8)]
            async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
                for client in clients:
                    tasks.create_task(client.run(house.ports[0]), name="client")
    assert {client.result.outcome for client in clients} == {Outcome.COMPLETE}
    assert len(set(carried.values())) == sessions
    assert house.left == []
