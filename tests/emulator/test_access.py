"""Requests for node access: how they are decided, and what their keys are good for."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ssmtunneld.emulator import access
from ssmtunneld.emulator.access import Decision

NODE = "i-0123456789abcdef0"
OTHER = "i-0fedcba9876543210"
KEYS = {"aws_access_key_id": "AKID", "aws_secret_access_key": "secret"}


class Clock:
    """A wall clock that a test moves."""

    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


async def call(emulator, operation, keys=KEYS, **asked):
    """Call as any AWS client does."""

    def send():
        client = boto3.client(
            "ssm",
            endpoint_url=emulator.endpoint_url,
            region_name="eu-west-1",
            config=Config(
                retries={"total_max_attempts": 1},
                proxies={},
                parameter_validation=False,
            ),
            **keys,
        )
        try:
            return getattr(client, operation)(**asked)
        finally:
            client.close()

    return await asyncio.to_thread(send)


async def request(emulator, target=NODE, **changes):
    """Ask for a node; return the request's id."""
    targets = [{"Key": "InstanceIds", "Values": [target]}]
    asked = {"Reason": "a broken index", "Targets": targets, **changes}
    return (await call(emulator, "start_access_request", **asked))["AccessRequestId"]


async def token(emulator, request_id):
    return await call(emulator, "get_access_token", AccessRequestId=request_id)


async def keys_of(emulator, request_id):
    found = (await token(emulator, request_id))["Credentials"]
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }


def start(emulator, keys, target=NODE):
    port = {"portNumber": ["22"], "localPortNumber": ["0"]}
    document = "AWS-StartPortForwardingSession"
    return call(
        emulator,
        "start_session",
        keys,
        Target=target,
        DocumentName=document,
        Parameters=port,
    )


async def refusal(calling):
    with pytest.raises(ClientError) as caught:
        await calling
    return caught.value.response["Error"]["Code"]


async def test_a_request_is_approved_at_once_and_its_keys_lead_to_its_node(emulate):
    policy = {
        "Statement": {"Effect": "Allow", "Action": "ssm:*Acces*", "Resource": "*"}
    }
    emulator = await emulate(policies={"": policy})
    assert await refusal(start(emulator, KEYS)) == ("AccessDeniedException")
    request_id = await request(emulator)
    keys = await keys_of(emulator, request_id)
    started = await start(emulator, keys)
    await call(emulator, "resume_session", keys, SessionId=started["SessionId"])
    await call(emulator, "terminate_session", keys, SessionId=started["SessionId"])
    assert await refusal(start(emulator, keys, OTHER)) == ("AccessDeniedException")
    # Nobody may ask for more with them.
    targets = [{"Key": "InstanceIds", "Values": [OTHER]}]
    asking = call(
        emulator, "start_access_request", keys, Reason="more", Targets=targets
    )
    assert await refusal(asking) == "AccessDeniedException"
    # Without their token they are nobody's.
    alone = {k: v for k, v in keys.items() if k != "aws_session_token"}
    assert await refusal(start(emulator, alone)) == ("UnrecognizedClientException")


@pytest.mark.parametrize(
    ("decision", "status"),
    [
        (Decision.APPROVE, "Approved"),
        (Decision.REJECT, "Rejected"),
        (Decision.REVOKE, "Revoked"),
        (Decision.EXPIRE, "Expired"),
    ],
)
async def test_somebody_decides(emulate, decision, status):
    emulator = await emulate(approval="manual")
    request_id = await request(emulator)
    assert (await token(emulator, request_id))["AccessRequestStatus"] == "Pending"
    url = f"{emulator.endpoint_url}/_emulator/access"
    async with aiohttp.request("POST", f"{url}/{request_id}/{decision}") as answer:
        assert answer.status == 200
        assert (await answer.json())["status"] == status
    assert (await token(emulator, request_id))["AccessRequestStatus"] == status
    (known,) = emulator.state()["access_requests"]
    assert known["status"] == status
    assert known["reason"] == "a broken index"
    for path in (f"{request_id}/praise", "oi-000000000000/approve"):
        async with aiohttp.request("POST", f"{url}/{path}") as answer:
            assert answer.status == 404


async def test_a_request_is_rejected_by_itself(emulate):
    emulator = await emulate(approval="reject")
    found = await token(emulator, await request(emulator))
    assert found["AccessRequestStatus"] == "Rejected"


async def test_a_request_is_approved_after_some_seconds_for_some_time(emulate, clock):
    emulator = await emulate(approval=20.0, access_duration=5400, wall_clock=clock)
    request_id = await request(emulator)
    clock.advance(19)
    assert (await token(emulator, request_id))["AccessRequestStatus"] == "Pending"
    clock.advance(1)
    began = clock.now
    found = await token(emulator, request_id)
    assert found["Credentials"]["ExpirationTime"] == began + timedelta(hours=1)
    keys = await keys_of(emulator, request_id)
    clock.advance(3600)
    assert await refusal(start(emulator, keys)) == ("ExpiredTokenException")
    # The approval lasts longer than the first keys.
    found = await token(emulator, request_id)
    assert found["Credentials"]["ExpirationTime"] == began + timedelta(minutes=90)
    await start(emulator, keys)
    clock.advance(1800)
    assert (await token(emulator, request_id))["AccessRequestStatus"] == "Expired"


async def test_revoked_keys_are_refused(emulate):
    emulator = await emulate()
    request_id = await request(emulator)
    keys = await keys_of(emulator, request_id)
    emulator.access.decide(Decision.REVOKE)
    assert await refusal(start(emulator, keys)) == ("AccessDeniedException")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Reason": ""}, "ValidationException"),
        ({"Reason": "x" * 257}, "ValidationException"),
        ({"Reason": 5}, "ValidationException"),
        ({"Targets": []}, "ValidationException"),
        ({"Targets": [{"Key": "InstanceIds"}]}, "ValidationException"),
        ({"Targets": [{"Key": "tag:A", "Values": ["b"]}]}, "ValidationException"),
        ({"target": "i-1"}, "ResourceNotFoundException"),
        ({"target": OTHER}, "ResourceNotFoundException"),
    ],
)
async def test_a_request_that_means_no_node_is_refused(emulate, changes, code):
    emulator = await emulate(targets=frozenset({NODE}))
    assert await refusal(request(emulator, **changes)) == code
    assert emulator.state()["access_requests"] == []


async def test_a_request_that_nobody_made_is_not_known(emulate):
    emulator = await emulate()
    assert await refusal(token(emulator, "oi-000000000000")) == (
        "ResourceNotFoundException"
    )
    with pytest.raises(KeyError):
        emulator.access.decide(Decision.APPROVE)


async def test_the_node_is_what_a_policy_allows_to_ask_for(emulate):
    allowed = f"arn:aws:ec2:*:*:instance/{NODE}"
    policy = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": allowed}}
    emulator = await emulate(policies={"": policy})
    await request(emulator)
    assert await refusal(request(emulator, OTHER)) == "AccessDeniedException"


async def test_the_oldest_requests_are_forgotten_with_their_keys(emulate, monkeypatch):
    monkeypatch.setattr(access, "LIMIT", 2)
    emulator = await emulate()
    first, *_ = [await request(emulator) for _ in range(3)]
    assert len(emulator.state()["access_requests"]) == 2
    assert await refusal(token(emulator, first)) == "ResourceNotFoundException"
