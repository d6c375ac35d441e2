"""A client that has said everything gets its answer, however long the way is out."""

import asyncio

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from tests.chaos.client import Client, Errand, Outcome, rest
from tests.chaos.destination import Destination
from tests.chaos.household import household, until

_CONFIGURATION = """
[defaults]
endpoint_url = "{endpoint}"
region = "eu-west-1"
target = "i-0123456789abcdef0"

[tunnels.only]
listen = "127.0.0.1:0"
port = {port}
ping_interval = "200ms"
dead_peer_timeout = "600ms"
linger = "1s"
"""


async def test_an_outage_longer_than_the_linger_does_not_cut_the_answer(events, log_in):
    destination = Destination()
    async with destination.listening():
        text = _CONFIGURATION.replace("{port}", str(destination.port))
        settings = EmulatorSettings(pace=Pace.REAL, scan_interval=0.01)
        async with household(text, settings) as house, asyncio.TaskGroup() as tasks:
            client = Client(Errand(1, up=100, down=300_000, half_closes=True))
            tasks.create_task(client.run(house.ports[0]), name="client")
            await until(lambda: client.result.received > 1000)
            house.emulator.faults.apply(["blackhole"])
            # Three times the linger after the link was found dead.
            await until(lambda: events.counts["link.lost"])
            await rest(3.0)
            house.emulator.faults.clear()
    assert client.result.outcome is Outcome.COMPLETE, client.result
    assert house.left == []
