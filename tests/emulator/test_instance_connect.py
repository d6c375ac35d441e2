"""Keys that an emulated instance accepts for a minute."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ssmtunneld.emulator import instance_connect

INSTANCE = "i-0123456789abcdef0"
KEY = "ssh-ed25519 " + "A" * 68


class Clock:
    """A wall clock that a test moves."""

    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


async def push(emulator, **changes):
    """Push a key as any AWS client does."""

    def send():
        client = boto3.client(
            "ec2-instance-connect",
            endpoint_url=emulator.endpoint_url,
            region_name="eu-west-1",
            aws_access_key_id="AKID",
            aws_secret_access_key="secret",
            config=Config(
                retries={"total_max_attempts": 1},
                proxies={},
                parameter_validation=False,
            ),
        )
        wanted = {"InstanceId": INSTANCE, "InstanceOSUser": "me", "SSHPublicKey": KEY}
        try:
            return client.send_ssh_public_key(**{**wanted, **changes})
        finally:
            client.close()

    return await asyncio.to_thread(send)


async def accepted(emulator, user="me", instance=INSTANCE):
    """Return what sshd's AuthorizedKeysCommand gets."""
    url = f"{emulator.endpoint_url}/_emulator/keys/{instance}/{user}"
    async with aiohttp.request("GET", url) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_a_key_is_accepted_for_a_minute_by_one_user_of_one_instance(
    emulate, clock
):
    emulator = await emulate(wall_clock=clock)
    assert (await push(emulator))["Success"] is True
    await push(emulator, SSHPublicKey=f"{KEY}B and a comment\n")
    assert await accepted(emulator) == f"{KEY}\n{KEY}B and a comment\n"
    assert await accepted(emulator, "you") == ""
    assert await accepted(emulator, instance="i-00000000") == ""
    clock.now += timedelta(seconds=59)
    await push(emulator)
    clock.now += timedelta(seconds=1)
    assert await accepted(emulator) == f"{KEY}\n"
    clock.now += timedelta(seconds=59)
    assert await accepted(emulator) == ""


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"InstanceId": "mi-0123456789abcdef0"}, "InvalidArgsException"),
        ({"InstanceOSUser": "me; rm"}, "InvalidArgsException"),
        ({"InstanceOSUser": 7}, "InvalidArgsException"),
        ({"SSHPublicKey": f"{KEY}\n{KEY}"}, "InvalidArgsException"),
        ({"SSHPublicKey": "ecdsa-sha2-nistp256 AAAA"}, "InvalidArgsException"),
        ({"InstanceId": "i-00000000"}, "EC2InstanceNotFoundException"),
    ],
)
async def test_what_the_service_refuses_is_refused(emulate, changes, code):
    emulator = await emulate(targets=frozenset({INSTANCE}))
    with pytest.raises(ClientError) as caught:
        await push(emulator, **changes)
    assert caught.value.response["Error"]["Code"] == code
    assert await accepted(emulator) == ""


async def test_the_number_of_keys_is_bounded(emulate, clock, monkeypatch):
    monkeypatch.setattr(instance_connect, "LIMIT", 1)
    emulator = await emulate(wall_clock=clock)
    await push(emulator)
    with pytest.raises(ClientError, match="ThrottlingException"):
        await push(emulator, InstanceOSUser="you")
    clock.now += timedelta(minutes=1)
    await push(emulator, InstanceOSUser="you")
