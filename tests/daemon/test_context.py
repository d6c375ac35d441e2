"""Objects that tunnels share, and objects that each tunnel has for itself."""

import asyncio

import pytest

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.identity.login import CredentialExpiry
from ssmtunneld.base.log import get_log
from ssmtunneld.config import TunnelSettings
from ssmtunneld.daemon.access_file import AccessFile
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.errors import CredentialsUnusable
from ssmtunneld.observe.status import IdentityStatus
from tests.integration import world

TARGET = "i-0123456789abcdef0"


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
async def context():
    context = DaemonContext(start_rate=100, start_burst=10, instance="0123456789ab")
    yield context
    await context.controls.close()


async def test_tunnels_of_one_identity_share_a_client_a_reaper_and_a_start_queue(
    context,
):
    one, two, elsewhere = (
        Identity(region="eu-west-1"),
        Identity(region="eu-west-1", ca_bundle="other.pem"),
        Identity(region="us-east-1"),
    )
    assert context.controls.get(one) is context.controls.get(
        Identity(region="eu-west-1")
    )
    assert context.orphan_reaper(one) is context.orphan_reaper(one)
    assert context.orphan_reaper(one) is not context.orphan_reaper(two)
    # The allowance belongs to the account, whatever certificates are trusted.
    assert context.limiter(one) is context.limiter(two)
    assert context.limiter(one) is not context.limiter(elsewhere)


async def test_a_tunnel_that_no_file_has_is_not_named_in_advice(context, tmp_path):
    (tmp_path / "aws-config").write_text(
        "[profile prod]\nrole_arn = arn:aws:iam::111122223333:role/Bastion\n"
        "source_profile = base\nmfa_serial = GAHT12345678\n[profile base]\n"
    )
    one = Identity(profile="prod", tunnel="tunnel", region="eu-west-1")
    unnamed = DaemonContext(start_rate=1, start_burst=1, named=False)
    for found, command in (
        (context, "run: ssmtunneld login tunnel"),
        (unnamed, "run: ssmtunneld login --profile prod"),
    ):
        with pytest.raises(CredentialsUnusable) as caught:
            await found.controls.get(one).resume("s-1")
        assert caught.value.advice == command
    await unnamed.controls.close()


async def test_identities_say_how_long_they_last(context):
    one = Identity(profile="prod", region="eu-west-1", tunnel="db")
    same = Identity(profile="prod", region="eu-west-1", tunnel="web")
    other = Identity(region="eu-west-1")
    login = context.controls.get(one).login
    login.expiry = CredentialExpiry(1.9e9, "run: ssmtunneld login db", 2e9)
    found = context.identities([("db", one), ("web", same), ("x", other)])
    assert found == (
        IdentityStatus(
            name="prod",
            tunnels=("db", "web"),
            expires_at=2e9,
            login_ends_at=1.9e9,
            advice="run: ssmtunneld login db",
            renewed=0,
            failed=0,
        ),
        IdentityStatus("default", ("x",), None, None, "", 0, 0),
    )


async def test_another_rate_is_for_those_that_are_there_and_those_that_come(context):
    old = context.limiter(Identity(region="eu-west-1"))
    before = old._interval
    context.limit_starts(rate=1.0, burst=3)
    new = context.limiter(Identity(region="us-east-1"))
    assert before == 0.01
    assert (old._interval, old._burst) == (new._interval, new._burst) == (1.0, 3)


async def test_no_two_connections_have_one_name_also_after_a_restart(context):
    other = DaemonContext(start_rate=1, start_burst=1)
    names = [c.name_connection() for c in (context, context, other)]
    assert [name.partition("-")[2] for name in names] == ["1", "2", "1"]
    assert len({name.partition("-")[0] for name in names}) == 2
    await other.controls.close()


async def test_a_daemon_that_gets_its_name_later_has_all_that_it_stands_for(
    context, tmp_path
):
    tunnel = TunnelSettings(
        name="x", listen="5432", target=TARGET, port=5432, start_target=True
    )
    later = DaemonContext(start_rate=1, start_burst=1)
    bastion = later.bastions.get(tunnel)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(later.wait_instance())
        await asyncio.sleep(0)
        assert not waiting.done()
        later.take_instance("0123456789ab", AccessFile(tmp_path / "x", get_log()))
    assert later.instance == context.instance
    assert later.bastions.get(tunnel) is bastion
    assert bastion._key == context.bastions.get(tunnel)._key
    await later.controls.close()
