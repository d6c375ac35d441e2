"""What mappings share, and what they do not."""

import ssl

import pytest

from ssmtunneld.aws.control import Identity
from ssmtunneld.shared import Shared, TlsContexts
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


def test_a_tls_context_is_made_once_for_each_file_of_certificates(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    contexts = TlsContexts(None)
    assert contexts.get(None) is contexts.get(None)
    assert contexts.get(None).verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(ssl.SSLError):
        contexts.get(str(bundle))  # it holds no certificate
    with pytest.raises(ssl.SSLError):
        TlsContexts(str(bundle)).get(None)


async def test_another_rate_is_for_those_that_are_there_and_those_that_come(shared):
    old = shared.limiter(Identity(region="eu-west-1"))
    before = old._interval
    shared.limit_starts(rate=1.0, burst=3)
    new = shared.limiter(Identity(region="us-east-1"))
    assert before == 0.01
    assert (old._interval, old._burst) == (new._interval, new._burst) == (1.0, 3)


def test_without_a_pool_no_session_is_ours():
    assert not Shared(start_rate=1, start_burst=1).owns("somebody-else's")
