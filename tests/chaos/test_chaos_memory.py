"""Connections come and go; what they took is given back."""

import asyncio

from tests.chaos.client import Client, Errand, Outcome
from tests.chaos.destination import Destination
from tests.chaos.household import until
from tests.chaos.processes import Service, resident, start_daemon
from tests.support.ports import free_port

AT_ONCE = 50
GROWTH = 1.05

_CONFIGURATION = """
[tunnels.only]
listen = "127.0.0.1:{port}"
target = "i-0123456789abcdef0"
port = {destination}
"""


async def test_ten_thousand_connections_take_no_more_memory_than_one_thousand(
    tmp_path, record_property
):
    destination, port = Destination(), free_port()
    async with destination.listening():
        text = _CONFIGURATION.format(port=port, destination=destination.port)
        with Service("--pace", "none") as service:
            daemon = start_daemon(service, tmp_path, text)
            try:
                daemon.wait_for(r"daemon\.ready")
                await _connect(port, range(1000), destination)
                after_thousand = resident(daemon)
                await _connect(port, range(1000, 10_000), destination)
                after_all = resident(daemon)
                assert daemon.stop() == 0, daemon.log()
            finally:
                daemon.kill()
    growth = f"{after_thousand / 2**20:.1f} MiB, {after_all / 2**20:.1f} MiB"
    record_property("resident after 1,000 and 10,000 connections", growth)
    assert after_all <= after_thousand * GROWTH, growth


async def _connect(port, numbers, destination):
    """Have a short conversation for each of ``numbers``, some at a time."""
    waiting = iter(numbers)

    async def work():
        for number in waiting:
            result = await Client(Errand(number, up=300, down=300)).run(port)
            assert result.outcome is Outcome.COMPLETE, result

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(work(), name="client")
    async with asyncio.timeout(30):
        await until(lambda: destination.open == 0)
