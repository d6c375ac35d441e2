"""A destination that swallows its packets holds up nobody but those who want it.

The agent connects one stream after the other (protocol 6.6): behind one that is never
answered, all later ones of the same session would wait for minutes.
"""

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


async def test_new_connections_do_not_wait_behind_a_dial_that_is_never_answered(
    events, log_in
):
    destination = Destination()
    settings = EmulatorSettings(pace=Pace.NONE)
    async with destination.listening():
        text = _CONFIGURATION.replace("{port}", str(destination.port))
        async with household(text, settings) as house, asyncio.TaskGroup() as tasks:
            (tunnel,) = house.daemon.tunnels
            carried = watch(tunnel)
            (session,) = house.emulator.sessions
            answered = asyncio.Event()
            _swallow_dials(session, answered)
            old = Client(Errand(1, up=10, down=10))
            tasks.create_task(old.run(house.ports[0]), name="old")
            async with asyncio.timeout(60):
                await until(lambda: _stalled(tunnel))
                new = Client(Errand(2, up=1000, down=1000))
                await new.run(house.ports[0])
            assert new.result.outcome is Outcome.COMPLETE
            assert carried[new.result.local_port] != carried[old.result.local_port]
            assert old.result.outcome is Outcome.HUNG
            answered.set()
    assert old.result.outcome is Outcome.COMPLETE
    assert house.left == []


def _swallow_dials(session, answered):
    """Let the agent of one session connect nothing before ``answered``."""
    port = session.agent.plugin._destination
    dial = port.dial

    async def dial_in_vain():
        await answered.wait()
        return await dial()

    port.dial = dial_in_vain


def _stalled(tunnel):
    return any(member.view.stalled for member in tunnel.pool.snapshot().members)
