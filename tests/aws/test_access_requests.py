"""Requests for node access: what AWS is asked, and what its answers mean."""

from datetime import UTC, datetime

import pytest

from ssmtunneld.aws.access_requests import (
    AccessStatus,
    get_access_token,
    start_access_request,
)
from ssmtunneld.aws.api.access_keys import AccessKeyHolder, AccessKeys
from ssmtunneld.aws.api.permissions import section
from ssmtunneld.aws.api.port import SessionRequest
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.ssm import ControlRegistry
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import (
    AccessDenied,
    RequestRejected,
    ServiceUnavailable,
    Throttled,
)
from tests.aws.stub import error

NODE = "i-0123456789abcdef0"
ID = "oi-0123456789ab"
ENDS = 1_800_000_000
CREDENTIALS = {
    "AccessKeyId": "ASIA0123456789ABCDEF",
    "SecretAccessKey": "secret-" + "s" * 33,
    "SessionToken": "token-" + "t" * 60,
    "ExpirationTime": ENDS,
}
APPROVED = {"AccessRequestStatus": "Approved", "Credentials": CREDENTIALS}
ADVICE = "run: ssmtunneld request db --reason TEXT"
SESSION = {
    "SessionId": "me-0123456789abcdef0",
    "TokenValue": "t",
    "StreamUrl": "wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/x?a=b",
}


@pytest.fixture
def account(identity, keys):
    account = AwsClient(identity)
    yield account
    account.close()


def asked_of(stub, operation):
    return [asked for asked in stub.asked if asked.operation == operation]


def keys_until(ends_at=float(ENDS)):
    secret, token = CREDENTIALS["SecretAccessKey"], CREDENTIALS["SessionToken"]
    return AccessKeys(
        CREDENTIALS["AccessKeyId"], Secret(secret), Secret(token), ends_at
    )


def test_a_node_is_asked_for_by_its_id(account, stub):
    stub.answer("StartAccessRequest", {"AccessRequestId": ID})
    assert start_access_request(account, NODE, "why") == ID
    assert stub.calls("StartAccessRequest") == [
        {"Reason": "why", "Targets": [{"Key": "InstanceIds", "Values": [NODE]}]}
    ]


@pytest.mark.parametrize("answer", [{}, {"AccessRequestId": "../x"}, {"x": []}])
def test_an_answer_without_an_id_is_none(account, stub, answer):
    stub.answer("StartAccessRequest", answer)
    with pytest.raises(ServiceUnavailable, match="ID is missing"):
        start_access_request(account, NODE, "why")


@pytest.mark.parametrize("said", ["Pending", "Rejected", "Revoked", "Expired"])
def test_a_request_without_keys_is_what_the_service_says(account, stub, said):
    # Keys of what is not approved would be nobody's.
    stub.answer("GetAccessToken", APPROVED | {"AccessRequestStatus": said})
    found = get_access_token(account, ID)
    assert found.status is AccessStatus(said.lower())
    assert found.keys is None
    assert stub.calls("GetAccessToken") == [{"AccessRequestId": ID}]


def test_an_approved_request_has_keys_that_do_not_print(account, stub):
    stub.answer("GetAccessToken", APPROVED)
    found = get_access_token(account, ID)
    assert found.status is AccessStatus.APPROVED
    assert found.keys == keys_until()
    assert datetime.fromtimestamp(found.keys.expires_at, UTC).year == 2027
    assert CREDENTIALS["SecretAccessKey"] not in repr(found)
    assert CREDENTIALS["SessionToken"] not in repr(found)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"AccessRequestStatus": "Praised"},
        {"AccessRequestStatus": "Approved"},
        *(
            APPROVED | {"Credentials": {**CREDENTIALS, key: value}}
            for key, value in [
                ("AccessKeyId", "a b"),
                ("SecretAccessKey", "line\nend"),
                ("SessionToken", ""),
            ]
        ),
        APPROVED
        | {"Credentials": {k: v for k, v in CREDENTIALS.items() if "Time" not in k}},
    ],
)
def test_an_answer_that_makes_no_sense_is_none(account, stub, answer):
    stub.answer("GetAccessToken", answer)
    with pytest.raises(ServiceUnavailable) as caught:
        get_access_token(account, ID)
    assert caught.value.code == "IncompleteAnswer"


@pytest.mark.parametrize(
    ("reply", "kind", "cure"),
    [
        (
            error(
                "ValidationException",
                "Just-In-Time Node Access service is not enabled in this account.",
            ),
            AccessDenied,
            "enable just-in-time node access",
        ),
        (
            error("AccessDeniedException"),
            AccessDenied,
            f"allow ssm:StartAccessRequest on arn:aws:ec2:eu-west-1:*:instance/{NODE} "
            f"(see {section('Access on request')})",
        ),
        (error("ResourceNotFoundException"), RequestRejected, "the target exists"),
        (
            error("ServiceQuotaExceededException"),
            Throttled,
            "wait until open access requests have ended",
        ),
        (error("ThrottlingException"), Throttled, "StartAccessRequest calls a second"),
    ],
)
def test_a_refusal_says_what_to_do(account, stub, reply, kind, cure):
    stub.answer("StartAccessRequest", reply)
    with pytest.raises(kind) as caught:
        start_access_request(account, NODE, "why")
    assert cure in caught.value.advice


async def test_a_cluster_is_looked_up_by_whoever_has_asked(
    identity, keys, stub, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", stub.url)
    registry = ControlRegistry()
    holder = AccessKeyHolder(ADVICE)
    holder.keys = keys_until()
    control = registry.by_request(identity, holder, [].append)
    stub.answer("GET /clusters/prod", {"cluster": {"endpoint": "https://a.b"}})
    await control.start(SessionRequest.port_forward(NODE, 443, cluster="prod"))
    for operation, is_by_request in (
        ("GET /clusters/prod", False),
        ("StartSession", True),
    ):
        (asked,) = asked_of(stub, operation)
        by_request = CREDENTIALS["AccessKeyId"] in asked.headers["authorization"]
        assert by_request is is_by_request
    (started,) = stub.calls("StartSession")
    assert started["Parameters"]["host"] == ["a.b"]
    await registry.close()


async def test_only_sessions_are_the_business_of_the_keys(identity, keys, stub):
    registry, noted = ControlRegistry(), []
    holder = AccessKeyHolder(ADVICE)
    holder.keys = keys_until()
    control = registry.by_request(identity, holder, noted.append)
    stub.answer("GetConnectionStatus", {"Target": NODE, "Status": "connected"})
    stub.answer("DescribeSessions", {"Sessions": []})
    stub.answer("TerminateSession", error("AccessDeniedException"))
    assert await control.is_connected(NODE)
    assert await control.describe() == []
    for operation in ("GetConnectionStatus", "DescribeSessions"):
        (asked,) = asked_of(stub, operation)
        assert CREDENTIALS["AccessKeyId"] not in asked.headers["authorization"]
    with pytest.raises(AccessDenied):
        await control.terminate("me-0123456789abcdef0")
    (asked,) = asked_of(stub, "TerminateSession")
    assert CREDENTIALS["AccessKeyId"] in asked.headers["authorization"]
    assert [type(outcome) for outcome in noted] == [AccessDenied]
    # It is no trouble of the login of whoever has asked.
    assert registry.get(identity).login.trouble is None
    await registry.close()
