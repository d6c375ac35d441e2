"""The daemon dies without a word, and is started again."""

import asyncio

import pytest

from tests.chaos.client import Client, Errand, Outcome
from tests.chaos.destination import Destination
from tests.chaos.household import until
from tests.chaos.processes import Service, start_daemon
from tests.support.ports import free_port

_TUNNEL = """
[tunnels.{name}]
listen = "127.0.0.1:{port}"
target = "{target}"
port = {destination}
warm = {warm}
"""


@pytest.fixture
def service():
    """The AWS side, as fast as it can."""
    with Service("--pace", "none") as running:
        yield running


async def test_after_a_kill_it_is_ready_again_and_ends_the_sessions_left_behind(
    service, tmp_path
):
    destination, ports = Destination(), [free_port(), free_port()]
    async with destination.listening():
        text = "".join(
            _TUNNEL.format(
                name=f"number-{n}",
                port=port,
                target=f"i-0123456789abcdef{n}",
                destination=destination.port,
                warm=n + 1,
            )
            for n, port in enumerate(ports)
        )
        first = start_daemon(service, tmp_path, text)
        try:
            first.wait_for(r"daemon\.ready")
            async with asyncio.timeout(30):
                await until(lambda: len(service.active()) == 3)
        finally:
            orphans = service.active()
            first.kill()
        second = start_daemon(service, tmp_path, text)
        try:
            second.wait_for(r"daemon\.ready")
            for number, port in enumerate(ports):
                client = Client(Errand(number, up=5000, down=5000))
                result = await asyncio.wait_for(client.run(port), 30)
                assert result.outcome is Outcome.COMPLETE
            async with asyncio.timeout(30):
                await until(lambda: not orphans & service.active())
            # Each of the two may still have the spare one of when it was used.
            assert 3 <= len(service.active()) <= 5
            assert second.log().count("session.orphaned") == 3
            assert second.stop() == 0, second.log()
        finally:
            second.kill()
    assert service.active() == set()
