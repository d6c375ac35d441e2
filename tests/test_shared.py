"""What mappings share, and what they do not."""

import pytest

from ssmtunneld.aws.control import Identity
from ssmtunneld.aws.login import Outlook
from ssmtunneld.errors import CredentialsUnusable
from ssmtunneld.ops.identity import IdentityStatus
from ssmtunneld.shared import Shared
from tests.integration import world


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
async def shared():
    shared = Shared(start_rate=100, start_burst=10, instance="0123456789ab")
    yield shared
    await shared.controls.close()


async def test_mappings_of_one_identity_share_a_client_a_census_and_an_allowance(
    shared,
):
    one, two, elsewhere = (
        Identity(region="eu-west-1"),
        Identity(region="eu-west-1", ca_bundle="other.pem"),
        Identity(region="us-east-1"),
    )
    assert shared.controls.get(one) is shared.controls.get(Identity(region="eu-west-1"))
    assert shared.census(one) is shared.census(one)
    assert shared.census(one) is not shared.census(two)
    # The allowance belongs to the account, whatever certificates are trusted.
    assert shared.limiter(one) is shared.limiter(two)
    assert shared.limiter(one) is not shared.limiter(elsewhere)


async def test_a_mapping_that_no_file_has_is_not_named_in_advice(shared, tmp_path):
    (tmp_path / "aws-config").write_text(
        "[profile prod]\nrole_arn = arn:aws:iam::111122223333:role/Bastion\n"
        "source_profile = base\nmfa_serial = GAHT12345678\n[profile base]\n"
    )
    one = Identity(profile="prod", mapping="tunnel", region="eu-west-1")
    unnamed = Shared(start_rate=1, start_burst=1, named=False)
    for found, command in (
        (shared, "run: ssmtunneld login tunnel"),
        (unnamed, "run: ssmtunneld login --profile prod"),
    ):
        with pytest.raises(CredentialsUnusable) as caught:
            await found.controls.get(one).resume("s-1")
        assert caught.value.advice == command
    await unnamed.controls.close()


async def test_identities_say_how_long_they_last(shared):
    one = Identity(profile="prod", region="eu-west-1", mapping="db")
    same = Identity(profile="prod", region="eu-west-1", mapping="web")
    other = Identity(region="eu-west-1")
    login = shared.controls.get(one).login
    login.outlook = Outlook(1.9e9, "run: ssmtunneld login db", 2e9)
    found = shared.identities([("db", one), ("web", same), ("x", other)])
    assert found == (
        IdentityStatus(
            name="prod",
            mappings=("db", "web"),
            expires_at=2e9,
            login_ends_at=1.9e9,
            advice="run: ssmtunneld login db",
            renewed=0,
            failed=0,
        ),
        IdentityStatus("default", ("x",), None, None, "", 0, 0),
    )


async def test_another_rate_is_for_those_that_are_there_and_those_that_come(shared):
    old = shared.limiter(Identity(region="eu-west-1"))
    before = old._interval
    shared.limit_starts(rate=1.0, burst=3)
    new = shared.limiter(Identity(region="us-east-1"))
    assert before == 0.01
    assert (old._interval, old._burst) == (new._interval, new._burst) == (1.0, 3)


def test_without_a_pool_no_session_is_ours():
    assert not Shared(start_rate=1, start_burst=1).owns("somebody-else's")
