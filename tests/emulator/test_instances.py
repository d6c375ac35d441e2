"""EC2's DescribeInstances, asked by the AWS SDK."""

import asyncio
from xml.etree import ElementTree as ET

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ssmtunneld.emulator.instances import QueryError, error_text, read_form
from ssmtunneld.emulator.settings import Node

WEB, JUMP, RACK = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb", "mi-0cccccccccccccccc"
NODES = {
    WEB: Node(name="web-1", address="10.0.0.5", tags={"Role": "web"}),
    JUMP: Node(name="web*1", address="fd00::5", tags={"Role": "bastion", "Env": "a"}),
    RACK: Node(name="rack", tags={"Role": "bastion"}),
}


async def ask(emulator, service="ec2", operation="describe_instances", **parameters):
    """Call an API as any AWS client does."""

    def call():
        client = boto3.client(
            service,
            endpoint_url=emulator.endpoint_url,
            region_name="eu-west-1",
            aws_access_key_id="AKID",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        try:
            return getattr(client, operation)(**parameters)
        finally:
            client.close()

    return await asyncio.to_thread(call)


def ids(answer):
    return [i["InstanceId"] for r in answer["Reservations"] for i in r["Instances"]]


def named(name, *values):
    return {"Name": name, "Values": list(values)}


async def test_what_is_known_of_an_instance_is_told(emulate):
    emulator = await emulate(nodes=NODES)
    answer = await ask(emulator, InstanceIds=[WEB])
    (reservation,) = answer["Reservations"]
    (instance,) = reservation["Instances"]
    assert reservation["OwnerId"] == "123456789012"
    assert instance["State"]["Name"] == "running"
    assert instance["PrivateIpAddress"] == "10.0.0.5"
    assert instance["LaunchTime"].tzinfo is not None
    assert {t["Key"]: t["Value"] for t in instance["Tags"]} == {
        "Name": "web-1",
        "Role": "web",
    }


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], [WEB, JUMP]),
        ([named("tag:Role", "bastion")], [JUMP]),
        ([named("tag:Role", "bastion", "web")], [WEB, JUMP]),
        ([named("tag:Role", "web"), named("tag:Env", "a")], []),
        ([named("tag:Name", "web-1")], [WEB]),
        ([named("tag:Name", "web*")], [WEB, JUMP]),
        ([named("tag:Name", "web?1")], [WEB, JUMP]),
        ([named("tag:Name", "web\\*1")], [JUMP]),
        ([named("tag:Name", "*b*-*")], [WEB]),
        ([named("tag:Name", "?")], []),
        ([named("tag-key", "Env")], [JUMP]),
        ([named("private-ip-address", "10.0.0.5")], [WEB]),
        ([named("network-interface.ipv6-addresses.ipv6-address", "fd00::5")], [JUMP]),
        ([named("private-dns-name", "ip-10-0-0-5.ec2.internal")], [WEB]),
        ([named("instance-state-name", "pending", "running")], [WEB, JUMP]),
        ([named("instance-state-name", "stopped")], []),
        ([named("instance-id", JUMP, RACK)], [JUMP]),
    ],
)
async def test_filters_choose_as_those_of_ec2(emulate, filters, expected):
    emulator = await emulate(nodes=NODES)
    assert ids(await ask(emulator, Filters=filters)) == expected


async def test_any_instance_exists_unless_the_targets_are_listed(emulate):
    wanted = [named("instance-id", WEB)]
    assert ids(await ask(await emulate(), Filters=wanted)) == [WEB]
    emulator = await emulate(targets=frozenset({JUMP}))
    assert ids(await ask(emulator, Filters=wanted)) == []


async def test_a_long_list_comes_in_pages(emulate):
    many = frozenset(f"i-{number:017x}" for number in range(7))
    emulator = await emulate(targets=many)
    first = await ask(emulator, MaxResults=5)
    rest = await ask(emulator, MaxResults=5, NextToken=first["NextToken"])
    assert ids(first) + ids(rest) == sorted(many)
    assert "NextToken" not in rest


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"Filters": [named("image-id", "ami-1")]}, "InvalidParameterValue"),
        ({"Filters": [{"Name": "tag-key"}]}, "InvalidParameterValue"),
        ({"MaxResults": 4}, "InvalidParameterValue"),
        ({"NextToken": "x"}, "InvalidNextToken"),
        ({"NextToken": "9" * 5000}, "InvalidNextToken"),
    ],
)
async def test_what_it_does_not_know_is_an_error(emulate, parameters, code):
    emulator = await emulate(nodes=NODES)
    with pytest.raises(ClientError) as caught:
        await ask(emulator, **parameters)
    assert caught.value.response["Error"]["Code"] == code


@pytest.mark.parametrize(
    ("spec", "code", "status"),
    [
        ("AccessDenied", "UnauthorizedOperation", 403),
        ("ThrottlingException", "RequestLimitExceeded", 503),
        ("500", "InternalError", 500),
        ("Odd", "Odd", 400),
    ],
)
async def test_it_fails_on_request_as_ec2_fails(emulate, spec, code, status):
    emulator = await emulate(f"describe-error={spec}*1", nodes=NODES)
    with pytest.raises(ClientError) as caught:
        await ask(emulator)
    answer = caught.value.response
    assert answer["Error"]["Code"] == code
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
    assert ids(await ask(emulator)) == [WEB, JUMP]


async def test_it_is_denied_as_ec2_denies(emulate):
    emulator = await emulate(nodes=NODES)
    emulator.permissions.deny(["ec2:DescribeInstances"])
    with pytest.raises(ClientError) as caught:
        await ask(emulator)
    assert caught.value.response["Error"]["Code"] == "UnauthorizedOperation"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(
    ("service", "operation"),
    [("ec2", "describe_vpcs"), ("autoscaling", "describe_auto_scaling_groups")],
)
async def test_other_calls_are_refused_in_a_form_that_is_understood(
    emulate, service, operation
):
    with pytest.raises(ClientError) as caught:
        await ask(await emulate(), service, operation)
    assert caught.value.response["Error"]["Code"] == "InvalidAction"


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"\xff=1", b"Version=2016-11-15", b"a=1&" * 501 + b"Action=x"]
)
def test_what_is_no_call_of_that_protocol_is_not_read(raw):
    assert read_form(raw) == {}


def test_an_error_is_text_whatever_it_quotes():
    error = QueryError("Code", "a <b> & c")
    for form in ({}, {"Version": "2016-11-15"}):
        root = ET.fromstring(error_text(error, form))
        assert root.find(".//Message").text == "a <b> & c"
