"""One tunnel: who it is towards AWS, what it asks for, and that it shares what it may.

Whole tunnels at work are in ``tests/integration``.
"""

import pytest

from ssmtunneld.config import parse_config
from ssmtunneld.daemon import tunnel as tunnel_module
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


async def test_a_unix_socket_that_somebody_removes_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tunnel_module, "FILE_CHECK", 0.01)
    monkeypatch.setattr(tunnel_module, "REBIND_INTERVAL", 0.01)
    path = tmp_path / "db.sock"
    async with (
        world.logging() as events,
        world.destination() as port,
        world.emulator() as service,
    ):
        text = world.configuration(
            service.endpoint_url, tunnel("db", listen=f"unix:{path}", port=port)
        )
        async with world.running(text), world.connection(path) as line:
            assert await world.ask(*line, b"before") == b"before"
            path.unlink()
            await events.wait_for("listener.bound", count=2)
            assert await world.echoes(path)
            assert await world.ask(*line, b"goes on") == b"goes on"
            path.unlink()
            path.touch()  # that is no socket, and stays
            await events.wait_for("listener.failed")
            path.unlink()
            await events.wait_for("listener.bound", count=3)
            assert await world.echoes(path)
    lost = events.find("listener.lost", tunnel="db", address=f"unix:{path}")
    assert len(lost) == 2
    assert not path.exists()
