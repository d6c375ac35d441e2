"""The API: protocol 1.1 to 1.7, by hand and through boto3."""

import asyncio
import json
import re

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ssmtunneld.emulator.settings import Node
from ssmtunneld.errors import ConfigError
from tests.emulator.reference import (
    FORWARDING,
    INSTANCE,
    SSH,
    TO_REMOTE_HOST,
    ApiRefused,
    call,
    eventually,
    start,
)

CUSTOM = {
    "schemaVersion": "1.0",
    "sessionType": "Port",
    "parameters": {"shard": {"type": "String", "allowedPattern": "^[0-9]$"}},
    "properties": {
        "host": "db-{{ shard }}",
        "portNumber": "5432",
        "type": "LocalPortForwarding",
    },
}


async def refusal(endpoint_url, operation, **body):
    with pytest.raises(ApiRefused) as caught:
        await call(endpoint_url, operation, **body)
    return caught.value


async def test_boto3_can_live_a_session(emulate):
    emulator = await emulate(max_duration=3600.0)
    client = boto3.client(
        "ssm",
        endpoint_url=emulator.endpoint_url,
        region_name="eu-west-1",
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )

    def converse():
        started = client.start_session(
            Target=INSTANCE,
            DocumentName=TO_REMOTE_HOST,
            Parameters={"portNumber": ["5432"], "host": ["db.internal"]},
            Reason="a test",
        )
        active = client.describe_sessions(State="Active")["Sessions"]
        resumed = client.resume_session(SessionId=started["SessionId"])
        client.terminate_session(SessionId=started["SessionId"])
        past = client.describe_sessions(State="History")["Sessions"]
        with pytest.raises(ClientError) as gone:
            client.resume_session(SessionId=started["SessionId"])
        with pytest.raises(client.exceptions.TargetNotConnected):
            client.start_session(Target="not-a-target", DocumentName=FORWARDING)
        status = client.get_connection_status(Target=INSTANCE)["Status"]
        instances = client.describe_instance_information(
            Filters=[{"Key": "InstanceIds", "Values": [INSTANCE]}]
        )["InstanceInformationList"]
        client.close()
        return started, active, resumed, past, gone.value.response, status, instances

    started, active, resumed, past, gone, status, instances = await asyncio.to_thread(
        converse
    )
    port = emulator.endpoint_url.rpartition(":")[2]
    assert re.fullmatch(r"dev@example\.com-[0-9a-z]{26}", started["SessionId"])
    assert re.fullmatch(
        rf"ws://127\.0\.0\.1:{port}/v1/data-channel/{started['SessionId']}"
        r"\?role=publish_subscribe&cell-number=\+/\+/[A-Za-z0-9+/]+==",
        started["StreamUrl"],
    )
    assert resumed["TokenValue"] != started["TokenValue"]
    (entry,) = active
    assert entry["SessionId"] == started["SessionId"]
    assert entry["Target"] == INSTANCE
    assert entry["DocumentName"] == TO_REMOTE_HOST
    assert entry["Reason"] == "a test"
    assert entry["Status"] == "Connecting"
    assert entry["MaxSessionDuration"] == "60"
    assert entry["StartDate"].year > 2000
    assert "EndDate" not in entry
    assert past[0]["EndDate"] >= past[0]["StartDate"]
    assert gone["Error"]["Code"] == "DoesNotExistException"
    assert status == "connected"
    assert instances[0]["PingStatus"] == "Online"


@pytest.mark.parametrize(
    "target",
    [
        "i-0123456789abcdef0",
        "i-01234567",
        "mi-0123456789abcdef0",
        "ecs:cluster-1_0123abcd_0123abcd-4567890",
    ],
)
async def test_any_well_formed_target_is_online(emulate, target):
    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80, target=target)
    assert emulator.state()["sessions"][0]["target"] == target
    assert set(grant) == {"SessionId", "TokenValue", "StreamUrl"}


@pytest.mark.parametrize("target", ["i-123", "web-1", "ecs:cluster", "i-0123456G"])
async def test_other_targets_are_not_connected(emulate, target):
    emulator = await emulate()
    error = await refusal(
        emulator.endpoint_url,
        "StartSession",
        Target=target,
        DocumentName=FORWARDING,
    )
    assert (error.code, error.status) == ("TargetNotConnected", 400)


async def test_targets_can_be_a_list_and_be_offline(emulate):
    other = "i-0fedcba9876543210"
    emulator = await emulate(targets=frozenset({INSTANCE, other, "ecs:c_t_r-1"}))
    url = emulator.endpoint_url
    unknown = await call(url, "GetConnectionStatus", Target="i-01234567")
    assert unknown["Status"] == "notconnected"
    emulator.admin.change([f"offline={other}"], replace=False)
    offline = await refusal(url, "StartSession", Target=other, DocumentName=FORWARDING)
    assert offline.code == "TargetNotConnected"
    listed = await call(url, "DescribeInstanceInformation")
    found = {
        i["InstanceId"]: i["PingStatus"] for i in listed["InstanceInformationList"]
    }
    assert found == {INSTANCE: "Online", other: "ConnectionLost"}


async def test_instances_are_those_that_were_used(emulate):
    emulator = await emulate()
    url = emulator.endpoint_url
    nothing = await call(url, "DescribeInstanceInformation")
    assert nothing["InstanceInformationList"] == []
    await start(url, 80, target="mi-0123456789abcdef0")
    (used,) = (
        await call(
            url,
            "DescribeInstanceInformation",
            InstanceInformationFilterList=[
                {"key": "PingStatus", "valueSet": ["Online"]}
            ],
        )
    )["InstanceInformationList"]
    assert used["ResourceType"] == "ManagedInstance"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([{"Key": "InstanceIds", "Values": [INSTANCE]}], [INSTANCE]),
        ([{"Key": "PingStatus", "Values": ["Online"]}], [INSTANCE]),
        ([{"Key": "PingStatus", "Values": ["ConnectionLost"]}], ["mi-" + "0" * 17]),
        ([{"Key": "ResourceType", "Values": ["ManagedInstance"]}], ["mi-" + "0" * 17]),
        (
            [
                {"Key": "InstanceIds", "Values": [INSTANCE]},
                {"Key": "ResourceType", "Values": ["ManagedInstance"]},
            ],
            [],
        ),
        # Nodes have no tags here.
        ([{"Key": "tag:Role", "Values": ["bastion"]}], []),
        ([{"Key": "tag-key", "Values": ["Role"]}], []),
    ],
)
async def test_nodes_are_filtered(emulate, filters, found):
    away = "mi-" + "0" * 17
    targets = frozenset({INSTANCE, away})
    emulator = await emulate(f"offline={away}", targets=targets)
    answer = await call(
        emulator.endpoint_url, "DescribeInstanceInformation", Filters=filters
    )
    assert [i["InstanceId"] for i in answer["InstanceInformationList"]] == found


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"Key": "Colour", "Values": ["red"]}, "InvalidFilterKey"),
        ({"Values": ["red"]}, "InvalidFilterKey"),
        ({"Key": "InstanceIds"}, "InvalidInstanceInformationFilterValue"),
        ({"Key": "tag:A", "Values": [1]}, "InvalidInstanceInformationFilterValue"),
    ],
)
async def test_filters_of_nodes_are_checked(emulate, item, code):
    url = (await emulate()).endpoint_url
    error = await refusal(url, "DescribeInstanceInformation", Filters=[item])
    assert error.code == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"DocumentName": "AWS-StartInteractiveCommand"}, "InvalidDocument"),
        ({"DocumentName": "x"}, "ValidationException"),
        ({"DocumentName": 7}, "ValidationException"),
        ({}, "InvalidDocument"),
        ({"DocumentName": FORWARDING, "Target": ""}, "ValidationException"),
        ({"DocumentName": FORWARDING, "Target": 5}, "ValidationException"),
        ({"DocumentName": FORWARDING, "Reason": "x" * 257}, "ValidationException"),
        (
            {"DocumentName": FORWARDING, "Parameters": {"portNumber": ["0"]}},
            "InvalidParameters",
        ),
        (
            {"DocumentName": FORWARDING, "Parameters": {"host": ["db"]}},
            "InvalidParameters",
        ),
        (
            {"DocumentName": FORWARDING, "Parameters": {"portNumber": "80"}},
            "SerializationException",
        ),
        (
            {"DocumentName": FORWARDING, "Parameters": {"portNumber": [80]}},
            "SerializationException",
        ),
        ({"DocumentName": FORWARDING, "Parameters": []}, "InvalidParameters"),
        ({"DocumentName": FORWARDING, "Parameters": [1]}, "SerializationException"),
    ],
)
async def test_start_session_checks_what_it_is_given(emulate, body, code):
    emulator = await emulate()
    request = {"Target": INSTANCE, **body}
    if body.get("Parameters") == []:
        await call(emulator.endpoint_url, "StartSession", **request)  # as if absent
        return
    error = await refusal(emulator.endpoint_url, "StartSession", **request)
    assert (error.code, error.status) == (code, 400)


async def test_custom_documents_can_be_registered(emulate):
    emulator = await emulate(documents={"Corp-Database": CUSTOM})
    await call(
        emulator.endpoint_url,
        "StartSession",
        Target=INSTANCE,
        DocumentName="Corp-Database",
        Parameters={"shard": ["7"]},
    )
    assert emulator.state()["sessions"][0]["properties"]["host"] == "db-7"
    with pytest.raises(ConfigError, match="document Odd"):
        await emulate(documents={"Odd": {}})


async def test_an_ssh_session_has_port_22_and_no_type(emulate):
    emulator = await emulate()
    await call(emulator.endpoint_url, "StartSession", Target=INSTANCE, DocumentName=SSH)
    assert emulator.state()["sessions"][0]["properties"] == {"portNumber": "22"}


async def test_where_nodes_are_listed_no_others_exist(emulate):
    known, off, away = INSTANCE, "i-0fedcba9876543210", "i-0fedcba9876543211"
    emulator = await emulate(
        nodes={known: Node(name="web-1")},
        stopped=frozenset({off}),
        offline=frozenset({away}),
    )
    url = emulator.endpoint_url
    await start(url, 80, target=known)
    for target in (off, away, "i-01234567"):
        error = await refusal(
            url, "StartSession", Target=target, DocumentName=FORWARDING
        )
        assert error.code == "TargetNotConnected"
    asked = {"Key": "InstanceIds", "Values": [known, off, away, "i-01234567"]}
    listed = await call(url, "DescribeInstanceInformation", Filters=[asked])
    found = [i["InstanceId"] for i in listed["InstanceInformationList"]]
    assert found == [known, off, away]


@pytest.mark.parametrize("kind", ["nodes", "stopped", "offline", "targets"])
async def test_what_is_no_target_cannot_be_listed(emulate, kind):
    named = {"nodes": {"i-0aaaa": Node()}}.get(kind, frozenset({"i-0aaaa"}))
    with pytest.raises(ConfigError, match="'i-0aaaa' is not a target: write i- and"):
        await emulate(**{kind: named})


@pytest.mark.parametrize(
    ("spec", "code", "status"),
    [
        ("AccessDenied", "AccessDeniedException", 400),
        ("403", "AccessDeniedException", 403),
        ("500", "InternalServerError", 500),
        ("502", "ServiceException", 502),
        ("InternalServerError", "InternalServerError", 500),
        ("ThrottlingException", "ThrottlingException", 400),
        ("ExpiredTokenException", "ExpiredTokenException", 400),
        ("TargetNotConnected", "TargetNotConnected", 400),
    ],
)
async def test_errors_can_be_ordered(emulate, spec, code, status):
    emulator = await emulate(f"start-error={spec}*1")
    request = {"Target": INSTANCE, "DocumentName": FORWARDING}
    error = await refusal(emulator.endpoint_url, "StartSession", **request)
    assert (error.code, error.status) == (code, status)
    assert error.message
    await call(emulator.endpoint_url, "StartSession", **request)


async def test_each_operation_has_its_own_errors(emulate):
    emulator = await emulate(
        "resume-error=DoesNotExistException",
        "terminate-error=InternalServerError",
        "describe-error=AccessDenied",
    )
    url = emulator.endpoint_url
    session_id = (await start(url, 80))["SessionId"]
    for operation, body in (
        ("ResumeSession", {"SessionId": session_id}),
        ("TerminateSession", {"SessionId": session_id}),
        ("DescribeSessions", {"State": "Active"}),
        ("DescribeInstanceInformation", {}),
    ):
        await refusal(url, operation, **body)


async def test_an_empty_token_can_be_ordered(emulate):
    emulator = await emulate("start-error=empty-token*1", "resume-error=empty-token")
    url = emulator.endpoint_url
    assert (await start(url, 80))["TokenValue"] == ""
    grant = await start(url, 80)
    assert grant["TokenValue"]
    resumed = await call(url, "ResumeSession", SessionId=grant["SessionId"])
    assert resumed["TokenValue"] == ""


async def test_a_session_that_is_gone_has_two_answers(emulate):
    emulator = await emulate()
    url = emulator.endpoint_url
    error = await refusal(url, "ResumeSession", SessionId="nobody")
    assert error.code == "DoesNotExistException"
    emulator.admin.change(["resume-gone=empty-token"], replace=False)
    answer = await call(url, "ResumeSession", SessionId="nobody")
    assert answer["TokenValue"] == ""


async def test_terminating_an_unknown_session_is_no_error(emulate):
    emulator = await emulate()
    answer = await call(emulator.endpoint_url, "TerminateSession", SessionId="nobody")
    assert answer == {"SessionId": "nobody"}


async def test_a_start_can_be_slow(emulate):
    emulator = await emulate("start-delay=30ms")
    loop = asyncio.get_running_loop()
    before = loop.time()
    await start(emulator.endpoint_url, 80)
    assert loop.time() - before >= 0.029


async def described(url, *filters, state="Active", **more):
    pairs = [{"key": key, "value": value} for key, value in filters]
    return await call(url, "DescribeSessions", State=state, Filters=pairs, **more)


async def test_sessions_are_filtered_and_paged_the_newest_first(emulate):
    emulator = await emulate()
    url = emulator.endpoint_url
    other = "i-0fedcba9876543210"
    ids = [
        (await start(url, 80, target=t))["SessionId"] for t in (INSTANCE, other, other)
    ]
    everything = await described(url)
    assert [s["SessionId"] for s in everything["Sessions"]] == ids[::-1]
    owner = everything["Sessions"][0]["Owner"]
    for filters, expected in (
        ([("Target", other)], 2),
        ([("Target", other), ("SessionId", ids[1])], 1),
        ([("Owner", owner)], 3),
        ([("Owner", "arn:aws:iam::1:user/nobody")], 0),
        ([("Status", "Connecting")], 3),
        ([("Status", "Connected")], 0),
        ([("AccessType", "Standard")], 3),
        ([("InvokedAfter", "2000-01-01T00:00:00Z")], 3),
        ([("InvokedBefore", "2000-01-01T00:00:00Z")], 0),
    ):
        assert len((await described(url, *filters))["Sessions"]) == expected
    first = await described(url, MaxResults=2)
    assert len(first["Sessions"]) == 2
    rest = await described(url, NextToken=first["NextToken"])
    assert len(rest["Sessions"]) == 1
    assert "NextToken" not in rest
    emulator.close_session(ids[0])
    await eventually(lambda: emulator.sessions.get(ids[0]).ended)
    assert len((await described(url, state="History"))["Sessions"]) == 1
    assert len((await described(url))["Sessions"]) == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"State": "Past"},
        {"State": "Active", "Filters": [{"key": "Colour", "value": "red"}]},
        {"State": "Active", "Filters": [{"key": "InvokedAfter", "value": "noon"}]},
        {"State": "Active", "Filters": "x"},
        {"State": "Active", "Filters": [{"key": "Target", "value": ""}]},
        {"State": "Active", "Filters": [{"key": "Target", "value": "x" * 401}]},
        {"State": "Active", "Filters": [{"key": "Target", "value": "x"}] * 7},
        {"State": "Active", "NextToken": "x"},
        {"State": "Active", "MaxResults": "x"},
        {"State": "Active", "MaxResults": 0},
        {"State": "Active", "MaxResults": 201},
    ],
)
async def test_describe_sessions_checks_what_it_is_given(emulate, body):
    emulator = await emulate()
    error = await refusal(emulator.endpoint_url, "DescribeSessions", **body)
    assert error.status == 400


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"Filters": [{"key": "Colour", "value": "red"}]}, "InvalidFilterKey"),
        ({"NextToken": "somebody else's"}, "InvalidNextToken"),
    ],
)
async def test_describe_sessions_has_errors_of_its_own(emulate, body, code):
    emulator = await emulate()
    error = await refusal(
        emulator.endpoint_url, "DescribeSessions", State="Active", **body
    )
    assert error.code == code


async def test_a_reason_is_kept_whole_and_is_one_line(emulate):
    emulator = await emulate()
    url = emulator.endpoint_url
    reason = "ü" * 250 + " [a/b]"
    request = {"Target": INSTANCE, "DocumentName": FORWARDING}
    await call(url, "StartSession", **request, Reason=reason)
    error = await refusal(url, "StartSession", **request, Reason="two\nlines")
    assert error.code == "ValidationException"
    (session,) = (await described(url))["Sessions"]
    assert session["Reason"] == reason
    assert "OutputUrl" not in session


async def test_past_sessions_have_an_end_and_are_filtered_and_paged_as_well(emulate):
    emulator = await emulate()
    url = emulator.endpoint_url
    ids = [(await start(url, 80))["SessionId"] for _ in range(3)]
    for session_id in ids[:2]:
        emulator.close_session(session_id)
    await eventually(lambda: all(emulator.sessions.get(i).ended for i in ids[:2]))
    first = await described(url, state="History", MaxResults=1)
    rest = await described(url, state="History", NextToken=first["NextToken"])
    past = first["Sessions"] + rest["Sessions"]
    assert [s["SessionId"] for s in past] == ids[1::-1]
    assert all(s["EndDate"] >= s["StartDate"] for s in past)
    assert {s["Status"] for s in past} == {"Terminated"}
    one = await described(url, ("SessionId", ids[0]), state="History")
    assert [s["SessionId"] for s in one["Sessions"]] == ids[:1]


@pytest.mark.parametrize("body", [b"{", b"[]"])
async def test_a_body_that_is_no_object_is_an_error(emulate, body):
    emulator = await emulate()
    headers = {"X-Amz-Target": "AmazonSSM.StartSession"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{emulator.endpoint_url}/", data=body, headers=headers) as response,
    ):
        assert response.status == 400
        answer = json.loads(await response.read())
        assert answer["__type"] == "SerializationException"


async def test_an_unknown_operation_is_an_error(emulate):
    emulator = await emulate()
    error = await refusal(emulator.endpoint_url, "SendCommand")
    assert error.code == "UnknownOperationException"


NODES = {
    "i-0123456789abcdef0": Node(name="web1", address="10.0.0.1", tags={"Role": "web"}),
    "i-0123456789abcdef1": Node(name="web2", address="10.0.0.2", tags={"Role": "db"}),
    "mi-0123456789abcdef0": Node(name="box"),
}


def by(attribute, *values, how="Equal"):
    key = f"AWS:InstanceInformation.{attribute}"
    return {"Key": key, "Values": list(values), "Type": how}


async def inventory(emulator, **body):
    answer = await call(emulator.endpoint_url, "GetInventory", **body)
    return answer, [entity["Id"] for entity in answer["Entities"]]


async def test_the_inventory_tells_the_names_of_nodes(emulate):
    emulator = await emulate(nodes=NODES)
    answer, ids = await inventory(emulator)
    assert ids == sorted(NODES)
    (content,) = answer["Entities"][0]["Data"]["AWS:InstanceInformation"]["Content"]
    assert content["ComputerName"] == "web1"
    assert content["IpAddress"] == "10.0.0.1"
    assert content["ResourceType"] == "EC2Instance"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (by("ComputerName", "web1"), [0]),
        (by("ComputerName", "web1", "box"), [0, 2]),
        (by("ComputerName", "web", how="BeginWith"), [0, 1]),
        (by("ComputerName", "web1", how="NotEqual"), [1, 2]),
        (by("ComputerName", "x", how="Exists"), [0, 1, 2]),
        (by("Nothing", "x", how="Exists"), []),
        (by("Nothing", "x"), []),
        (by("ResourceType", "ManagedInstance"), [2]),
        (by("InstanceId", "i-0123456789abcdef1"), [1]),
    ],
)
async def test_the_inventory_can_be_filtered(emulate, asked, found):
    emulator = await emulate(nodes=NODES)
    _, ids = await inventory(emulator, Filters=[asked])
    assert ids == [sorted(NODES)[index] for index in found]


async def test_the_inventory_has_pages(emulate):
    emulator = await emulate(nodes=NODES)
    first, ids = await inventory(emulator, MaxResults=2)
    _, rest = await inventory(emulator, MaxResults=2, NextToken=first["NextToken"])
    assert ids + rest == sorted(NODES)
    wanted = [{"TypeName": "AWS:InstanceInformation"}]
    assert (await inventory(emulator, ResultAttributes=wanted))[1] == sorted(NODES)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"MaxResults": 51}, "ValidationException"),
        ({"Filters": [by("ComputerName")]}, "InvalidFilter"),
        ({"Filters": [by("ComputerName", "x", how="Like")]}, "InvalidFilter"),
        ({"Filters": [{"Key": "AWS:Tag.x", "Values": ["y"]}]}, "InvalidFilter"),
        ({"ResultAttributes": [{"TypeName": "AWS:File"}]}, "InvalidTypeNameException"),
    ],
)
async def test_the_inventory_refuses_what_it_does_not_know(emulate, body, code):
    emulator = await emulate()
    with pytest.raises(ApiRefused) as caught:
        await inventory(emulator, **body)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("key", "values", "found"),
    [
        ("tag:Role", ["web"], [0]),
        ("tag:Role", ["web", "db"], [0, 1]),
        ("tag-key", ["Role"], [0, 1]),
        ("tag:Other", ["x"], []),
    ],
)
async def test_nodes_are_found_by_their_tags(emulate, key, values, found):
    emulator = await emulate(nodes=NODES)
    answer = await call(
        emulator.endpoint_url,
        "DescribeInstanceInformation",
        Filters=[{"Key": key, "Values": values}],
    )
    ids = [node["InstanceId"] for node in answer["InstanceInformationList"]]
    assert ids == [sorted(NODES)[index] for index in found]
