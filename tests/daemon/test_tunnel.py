"""One tunnel: who it is towards AWS, what it asks for, and that it shares what it may.

Whole tunnels at work are in ``tests/integration``.
"""

import pytest

from ssmtunneld.config import parse_config
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.tunnel import Tunnel
from tests.integration import world
from tests.integration.world import tunnel


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
async def context():
    context = DaemonContext(start_rate=100, start_burst=10, instance="0123456789ab")
    yield context
    await context.controls.close()


def tunnels(*tables):
    return parse_config("\n".join(tables), "test.toml", {}).tunnels


async def test_what_is_no_taken_address_is_told_as_well(context, tmp_path):
    (tmp_path / "file").touch()
    listen = f"unix:{tmp_path}/file/db.sock"
    (only,) = tunnels(tunnel("db", listen=listen, port=1))
    async with world.logging() as events:
        assert not await Tunnel(only, context).bind()
    (line,) = events.find("listener.failed", tunnel="db", level="error")
    assert str(tmp_path) in line["reason"]
