"""Calls with the keys of an approved access request."""

import pytest

from ssmtunneld.aws.api.access_keys import AccessKeyHolder, AccessKeys
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import AccessDenied, CredentialsUnusable
from tests.aws.stub import error
from tests.aws.test_access_requests import (
    ADVICE,
    CREDENTIALS,
    ENDS,
    NODE,
    SESSION,
    asked_of,
    keys_until,
)


def test_calls_are_signed_with_the_keys_of_the_holder(identity, keys, stub):
    holder = AccessKeyHolder(ADVICE)
    account = AwsClient(identity, holder=holder)
    with pytest.raises(CredentialsUnusable) as caught:
        account.call("StartSession", Target=NODE)
    assert "no approved access" in str(caught.value)
    assert caught.value.advice == ADVICE
    assert stub.calls("StartSession") == []
    holder.keys = keys_until()
    stub.answer("StartSession", SESSION)
    account.call("StartSession", Target=NODE)
    (asked,) = asked_of(stub, "StartSession")
    assert CREDENTIALS["AccessKeyId"] in asked.headers["authorization"]
    assert asked.headers["x-amz-security-token"] == CREDENTIALS["SessionToken"]
    # Others are used from the next call on, and none once there are none.
    holder.keys = AccessKeys("ASIANEXT0123456789AB", Secret("s"), Secret("t"), ENDS)
    account.call("StartSession", Target=NODE)
    assert "ASIANEXT" in asked_of(stub, "StartSession")[-1].headers["authorization"]
    holder.keys = None
    with pytest.raises(CredentialsUnusable):
        account.call("StartSession", Target=NODE)
    account.close()


def test_what_the_keys_do_not_allow_is_nothing_that_the_caller_can_allow(
    identity, keys, stub
):
    holder = AccessKeyHolder(ADVICE)
    holder.keys = keys_until()
    account = AwsClient(identity, holder=holder)
    stub.answer("StartSession", error("AccessDeniedException"))
    with pytest.raises(AccessDenied) as caught:
        account.call("StartSession", Target=NODE, DocumentName="Doc")
    assert "SSM-JustInTimeAccessTokenRole" in caught.value.advice
    assert "docs/tasks/access.md)" in caught.value.advice
    account.close()
