"""Callers, known by their access keys; and the one call of STS."""

import asyncio

import boto3
import pytest
from botocore.config import Config

from ssmtunneld.emulator.callers import asks_who, caller_of, is_identity, who
from ssmtunneld.emulator.settings import EmulatorSettings
from tests.emulator.reference import FORWARDING, INSTANCE

BOB = "arn:aws:iam::210987654321:user/teams/db/bob"
EVE = "arn:aws:sts::210987654321:assumed-role/Admin/eve@example.com"
SETTINGS = EmulatorSettings(identities={"AKIABOB": BOB, "ASIAEVE": EVE})


def authorization(key):
    scope = f"{key}/20261122/eu-west-1/ssm/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=a"}


@pytest.mark.parametrize(
    ("headers", "arn", "name"),
    [
        (authorization("AKIABOB"), BOB, "bob"),
        (authorization("ASIAEVE"), EVE, "eve@example.com"),
        (authorization("AKIAOTHER"), SETTINGS.owner, SETTINGS.caller),
        ({"Authorization": "Bearer x"}, SETTINGS.owner, SETTINGS.caller),
        ({}, SETTINGS.owner, SETTINGS.caller),
    ],
)
def test_a_caller_is_known_by_the_key(headers, arn, name):
    caller = caller_of(headers, SETTINGS)
    assert (caller.arn, caller.name) == (arn, name)


@pytest.mark.parametrize(
    ("raw", "asked"),
    [
        (b"Action=GetCallerIdentity&Version=2011-06-15", True),
        (b"Version=2011-06-15&Action=GetCallerIdentity", True),
        (b"Action=AssumeRole", False),
        (b"{}", False),
        (b"", False),
        (b"\xff\xfe", False),
    ],
)
def test_only_one_question_of_sts_is_known(raw, asked):
    assert asks_who(raw) is asked


@pytest.mark.parametrize(
    ("arn", "good"),
    [(BOB, True), (EVE, True), ("bob", False), ("arn:aws:iam::1:user/bob", False)],
)
def test_an_identity_is_an_arn_of_iam_or_sts(arn, good):
    assert is_identity(arn) is good


def test_an_owner_that_is_no_arn_has_no_account():
    settings = EmulatorSettings(owner="<me>")
    answer = who(caller_of({}, settings))
    assert "<Arn>&lt;me&gt;</Arn>" in answer
    assert "<Account></Account>" in answer


async def test_boto3_learns_who_it_is_and_owns_what_it_starts(emulate):
    emulator = await emulate(identities={"AKIABOB": BOB})

    def converse(key):
        options = {
            "endpoint_url": emulator.endpoint_url,
            "region_name": "eu-west-1",
            "aws_access_key_id": key,
            "aws_secret_access_key": "secret",
            "config": Config(retries={"total_max_attempts": 1}),
        }
        sts, ssm = boto3.client("sts", **options), boto3.client("ssm", **options)
        me = sts.get_caller_identity()
        started = ssm.start_session(Target=INSTANCE, DocumentName=FORWARDING)
        mine = ssm.describe_sessions(
            State="Active", Filters=[{"key": "Owner", "value": me["Arn"]}]
        )["Sessions"]
        everybodys = ssm.describe_sessions(State="Active")["Sessions"]
        sts.close()
        ssm.close()
        assert [s["SessionId"] for s in mine] == [started["SessionId"]]
        assert mine[0]["Owner"] == me["Arn"]
        assert "Reason" not in mine[0]
        return me, started["SessionId"], len(everybodys)

    default, _, _ = await asyncio.to_thread(converse, "AKIAANY")
    assert default["Arn"] == emulator.settings.owner
    assert default["Account"] == "123456789012"
    me, session_id, count = await asyncio.to_thread(converse, "AKIABOB")
    assert (me["Arn"], me["Account"], count) == (BOB, "210987654321", 2)
    assert session_id.startswith("bob-")


def test_a_policy_can_ask_who_somebody_is():
    settings = EmulatorSettings(
        identities={
            "AKIABOB": "arn:aws:iam::123456789012:user/team/bob",
            "ASIAOPS": "arn:aws-cn:sts::123456789012:assumed-role/Ops/eve@example.com",
        }
    )

    def caller(key, region="us-east-2"):
        scope = f"{key}/20260101/{region}/ssm/aws4_request"
        header = f"AWS4-HMAC-SHA256 Credential={scope}"
        return caller_of({"Authorization": header}, settings)

    bob = caller("AKIABOB")
    assert (bob.key, bob.region, bob.partition) == ("AKIABOB", "us-east-2", "aws")
    known = bob.context()
    assert known["aws:username"] == "bob"
    assert known["aws:userid"].startswith("AIDA")
    assert known["aws:PrincipalAccount"] == "123456789012"
    eve = caller("ASIAOPS")
    assert eve.partition == "aws-cn"
    assert "aws:username" not in eve.context()
    assert eve.context()["aws:userid"] == "AROA:eve@example.com"
    assert eve.context()["aws:RequestedRegion"] == "us-east-2"
    nobody = caller_of({}, settings)
    assert (nobody.key, nobody.region) == ("", "eu-west-1")
