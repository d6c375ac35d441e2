"""The sessions of one tunnel learn from the service."""

import pytest

from tests.integration import world
from tests.integration.world import emulator, tunnel


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


async def test_the_age_that_the_service_allows_is_learned_from_it():
    async with world.logging() as events, emulator(max_duration=3600) as service:
        text = world.configuration(service.endpoint_url, tunnel("db", port=1))
        async with world.running(text, instance="0123456789ab") as daemon:
            (only,) = daemon.tunnels
            await events.wait_for("emulator.api_called", operation="DescribeSessions")
            # The rest of the search is a turn of the loop or two away.
            while only._backend._lifespan.limit is None:
                await world.asyncio.sleep(0)
            assert only._backend._lifespan.limit == pytest.approx(3600)
