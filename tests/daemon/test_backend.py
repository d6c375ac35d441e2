"""The sessions of one tunnel: who they are towards AWS, and what they say."""

import getpass
import os
import socket

import pytest

from ssmtunneld import __version__
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.config import parse_config
from ssmtunneld.config.fields import REASON_LIMIT
from ssmtunneld.daemon.backend import default_reason, identity_of, mark
from tests.integration import world
from tests.integration.world import emulator, tunnel


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


def tunnels(*tables):
    return parse_config("\n".join(tables), "test.toml", {}).tunnels


def test_an_identity_is_all_that_decides_whom_aws_sees(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    plain, full = tunnels(
        tunnel("plain", port=1),
        tunnel(
            "full",
            listen="127.0.0.1:1",
            port=1,
            profile="prod",
            region="eu-west-1",
            endpoint_url="https://ssm.example",
            ssmmessages_endpoint="data.example",
            ca_bundle=str(bundle),
        ),
    )
    assert identity_of(plain) == Identity()
    assert identity_of(full) == Identity(
        "prod", "eu-west-1", "https://ssm.example", "data.example", str(bundle)
    )


def test_a_session_says_who_opened_it():
    host = socket.gethostname().partition(".")[0]
    user = f"{getpass.getuser()}@{host}"
    assert default_reason("db") == f"ssmtunneld/{__version__} {user} tunnel db"


def test_a_user_without_a_name_is_a_number(monkeypatch):
    def nobody():
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert f" {os.getuid()}@" in default_reason("db")


def test_a_mark_tells_the_daemon_and_the_tunnel():
    assert mark("0123456789ab", "db") == "[0123456789ab/db]"
    assert mark(None, "db") == ""


@pytest.mark.parametrize("length", [10, 256])
async def test_a_reason_of_ones_own_comes_between_who_it_is_and_the_mark(length):
    async with world.logging(), emulator() as service:
        text = world.configuration(
            service.endpoint_url, tunnel("db", port=1, reason="r" * length)
        )
        async with world.running(text, instance="0123456789ab"):
            pass
        (session,) = service.sessions
    own, _, end = session.request.reason.rpartition(" ")
    assert end == "[0123456789ab/db]"
    whole = f"{default_reason('db')}: {'r' * length}"
    assert own == whole[: REASON_LIMIT - len(end) - 1]


async def test_the_age_that_the_service_allows_is_learned_from_it():
    async with world.logging() as events, emulator(max_duration=3600) as service:
        text = world.configuration(service.endpoint_url, tunnel("db", port=1))
        async with world.running(text, instance="0123456789ab") as daemon:
            (only,) = daemon.tunnels
            await events.wait_for("emulator.api_called", operation="DescribeSessions")
            # The rest of the census is a turn of the loop or two away.
            while only._backend._lifespan.limit is None:
                await world.asyncio.sleep(0)
            assert only._backend._lifespan.limit == pytest.approx(3600)
