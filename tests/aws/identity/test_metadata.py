"""The instance's metadata service, which no proxy leads to."""

import contextlib

import pytest

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.identity.credentials import PROVIDER_FAILURES, CredentialSource
from ssmtunneld.base.redaction import redact
from ssmtunneld.errors import AwsError
from tests.aws.stub import REGION, Reply
from tests.support.forward_proxy import ForwardProxy

ROLES = "GET /latest/meta-data/iam/security-credentials/"
ZONE = "GET /latest/meta-data/placement/availability-zone/"
KEYS = {
    "Code": "Success",
    "AccessKeyId": "ASIAINSTANCE00000000",
    "SecretAccessKey": "s" * 40,
    "Token": "t" * 40,
    "Expiration": "2100-01-01T00:00:00Z",
}


@pytest.fixture
def proxy(aws_files, stub, monkeypatch):
    """A proxy for everything, beside an instance's metadata service."""
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", stub.url)
    monkeypatch.setenv("NO_PROXY", "")
    stub.answer("PUT /latest/api/token", Reply(body="imds-token"))
    stub.answer(ROLES, Reply(body="role"))
    stub.answer(f"{ROLES}role", Reply(body=KEYS))
    stub.answer(ZONE, Reply(body="ap-southeast-2b"))
    with ForwardProxy({}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        yield proxy


def test_keys_of_an_instance_are_not_asked_of_a_proxy(proxy):
    assert CredentialSource(None, REGION).keys().access_key == KEYS["AccessKeyId"]
    assert proxy.asked == []


def test_the_region_of_an_instance_is_not_asked_of_a_proxy(proxy):
    account = AwsClient(Identity())
    with pytest.raises(AwsError):
        account.call("StartSession", Target="i-0182d91e85d69cf00")
    assert account.place.region == "ap-southeast-2"
    account.close()
    assert proxy.asked == ["ssm.ap-southeast-2.amazonaws.com:443"]


def test_what_is_learnt_is_a_secret_wherever_it_stands(proxy, stub):
    odd = "Wz5+" * 10
    stub.answer(f"{ROLES}role", Reply(body=KEYS | {"Code": odd, "Message": [odd]}))
    with contextlib.suppress(PROVIDER_FAILURES):
        CredentialSource(None, REGION).keys()
    assert redact(f"it says {odd}") == "it says ***"
    assert redact("the role is called role") == "the role is called role"
