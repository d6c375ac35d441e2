"""Permissions of callers: the policies of docs/iam.md, decided by the emulator."""

import json
import re
from pathlib import Path

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from websockets.exceptions import InvalidStatus

from ssmtunneld.emulator.permissions import EVERYBODY
from ssmtunneld.emulator.policy import Decision, Policy, Request, decide
from ssmtunneld.emulator.settings import EmulatorSettings, Node
from ssmtunneld.testing import EmulatorThread
from tests.emulator.reference import Client, start

TEXT = (Path(__file__).parents[2] / "docs/iam.md").read_text()
THREE = ("i-0182d91e85d69cf00", "i-0a1b2c3d4e5f60718", "i-0fedcba9876543210")
OTHER = "i-0182d91e85d69cf01"
FORWARDING = "AWS-StartPortForwardingSession"
REMOTE = "AWS-StartPortForwardingSessionToRemoteHost"
DEV = "arn:aws:iam::111122223333:user/dev"
OPS = "arn:aws:sts::111122223333:assumed-role/Ops/ops@example.com"
IDENTITIES = {"AKIADEV": DEV, "AKIAOPS": OPS}


def section(heading):
    """Return the first policy below a heading of docs/iam.md, whole."""
    below = TEXT.split(f"# {heading}\n", 1)[1]
    blocks = map(json.loads, re.findall(r"```json\n(.*?)```", below, re.DOTALL))
    found = next(b for b in blocks if isinstance(b, list) or "schemaVersion" not in b)
    if isinstance(found, dict) and "Statement" in found:
        return found
    return {"Version": "2012-10-17", "Statement": found}


@pytest.fixture
def world():
    """Return a function that gives everybody a policy, and clients of it."""
    running, clients = [], []

    def begin(policy, key="AKIADEV", **settings):
        settings = EmulatorSettings(
            identities=IDENTITIES, policies={EVERYBODY: policy}, **settings
        )
        emulator = EmulatorThread(settings).__enter__()
        running.append(emulator)
        return another(emulator, key), emulator

    def another(emulator, key):
        client = boto3.client(
            "ssm",
            "eu-west-1",
            endpoint_url=emulator.endpoint_url,
            aws_access_key_id=key,
            aws_secret_access_key="any",
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
        )
        clients.append(client)
        return client

    begin.another = another
    yield begin
    for client in clients:
        client.close()
    for emulator in running:
        emulator.__exit__()


def denied(call, **arguments):
    """Return AWS's words, if ``call`` is denied."""
    try:
        call(**arguments)
    except ClientError as error:
        answer = error.response["Error"]
        return answer["Message"] if answer["Code"] == "AccessDeniedException" else ""
    return ""


def test_the_three_instances_can_be_reached_with_the_two_documents_and_no_others(world):
    ssm, _ = world(section("Named instances"))
    for target in THREE:
        for document in (FORWARDING, REMOTE):
            assert not denied(ssm.start_session, Target=target, DocumentName=document)
    refused = [
        {"Target": OTHER, "DocumentName": FORWARDING},
        {"Target": "mi-0182d91e85d69cf00", "DocumentName": FORWARDING},
        {"Target": THREE[0], "DocumentName": "AWS-StartSSHSession"},
        {"Target": THREE[0], "DocumentName": "SSM-SessionManagerRunShell"},
        {"Target": "ecs:a_b_c", "DocumentName": FORWARDING},
    ]
    for request in refused:
        assert "ssm:StartSession on resource: arn:aws:" in denied(
            ssm.start_session, **request
        )
    assert denied(ssm.start_session, Target=OTHER, DocumentName=FORWARDING) == (
        f"User: {DEV} is not authorized to perform: ssm:StartSession on resource: "
        f"arn:aws:ec2:eu-west-1:111122223333:instance/{OTHER} because no "
        "identity-based policy allows the ssm:StartSession action"
    )


@pytest.mark.parametrize("heading", ["Named instances", "The caller's own sessions"])
@pytest.mark.parametrize("mine", ["AKIADEV", "AKIAOPS"])
def test_sessions_of_ones_own_can_be_used_and_no_others(world, heading, mine):
    starts = section("Named instances")
    own = {
        "Version": "2012-10-17",
        "Statement": [
            starts["Statement"][0],
            *(s for s in listed(section(heading)) if s["Sid"] == "OwnSessions"),
        ],
    }
    ssm, emulator = world(own, mine)
    theirs = "AKIAOPS" if mine == "AKIADEV" else "AKIADEV"
    other = world.another(emulator, theirs)
    grant = ssm.start_session(Target=THREE[0], DocumentName=FORWARDING)
    session_id = grant["SessionId"]
    for call in (other.resume_session, other.terminate_session):
        assert "session/" in denied(call, SessionId=session_id)
    assert not denied(ssm.resume_session, SessionId=session_id)
    assert not denied(ssm.terminate_session, SessionId=session_id)


def listed(policy):
    found = policy["Statement"]
    return found if isinstance(found, list) else [found]


def test_instances_by_tag_are_those_with_the_tag(world):
    nodes = {
        THREE[0]: Node(tags={"Role": "bastion"}),
        THREE[1]: Node(tags={"Role": "web"}),
    }
    ssm, _ = world(section("Instances by tag"), nodes=nodes)
    reached = {
        target: not denied(ssm.start_session, Target=target, DocumentName=REMOTE)
        for target in THREE
    }
    assert reached == {THREE[0]: True, THREE[1]: False, THREE[2]: False}
    assert denied(ssm.start_session, Target=THREE[0], DocumentName=FORWARDING)


def test_a_document_of_ones_own_is_the_only_one(world):
    content = {
        "schemaVersion": "1.0",
        "sessionType": "Port",
        "properties": {"portNumber": "5432", "type": "LocalPortForwarding"},
    }
    documents = {
        "Acme-OrdersDatabase": content,
        "SSM-SessionManagerRunShell": content,
    }
    ssm, _ = world(section("Only one destination"), documents=documents)
    own = {"Target": THREE[0], "DocumentName": "Acme-OrdersDatabase"}
    assert not denied(ssm.start_session, **own)
    assert denied(ssm.start_session, Target=THREE[0], DocumentName=FORWARDING)
    # Nor may the document be left out: the policy asks for its check.
    assert denied(ssm.start_session, Target=THREE[0])


def test_a_document_that_is_not_named_is_asked_for_only_by_that_condition(world):
    content = {"sessionType": "Port", "properties": {"portNumber": "22"}}
    target = f"arn:aws:ec2:*:*:instance/{THREE[0]}"
    statement = {"Effect": "Allow", "Action": "ssm:StartSession", "Resource": target}
    ssm, _ = world(
        {"Version": "2012-10-17", "Statement": statement},
        documents={"SSM-SessionManagerRunShell": content},
    )
    assert not denied(ssm.start_session, Target=THREE[0])
    assert denied(ssm.start_session, Target=THREE[0], DocumentName=FORWARDING)


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        ("ssm:UpdateInstanceInformation", True),
        ("ssmmessages:CreateControlChannel", True),
        ("ssmmessages:CreateDataChannel", True),
        ("ssmmessages:OpenControlChannel", True),
        ("ssmmessages:OpenDataChannel", True),
        ("ssm:StartSession", False),
        ("ssm:SendCommand", False),
        ("ssm:GetParameter", False),
        ("ec2messages:GetMessages", False),
        ("s3:GetObject", False),
        ("iam:PassRole", False),
    ],
)
def test_the_instances_role_allows_sessions_and_nothing_else(action, allowed):
    role = Policy(section("The instance's role"))
    decision = decide([role], Request(action, "*", {}))
    assert decision is (Decision.ALLOWED if allowed else Decision.IMPLICIT_DENY)


def test_calls_without_resources_are_decided_too(world):
    ssm, _ = world(section("Named instances"))
    assert not denied(ssm.describe_sessions, State="Active")
    assert "on resource: * because" in denied(
        ssm.get_connection_status, Target=THREE[0]
    )


def test_each_access_key_has_its_own_policy_and_denials_beat_all(world):
    ssm, emulator = world(section("Named instances"))
    ops = world.another(emulator, "AKIAOPS")
    request = {"Target": OTHER, "DocumentName": FORWARDING}
    emulator.set_policy(None, access_key="AKIAOPS")
    assert not denied(ops.start_session, **request)
    assert denied(ssm.start_session, **request)
    emulator.deny("ssm:StartSession", access_key="AKIAOPS")
    assert "explicit deny" in denied(ops.start_session, **request)
    emulator.allow_again()
    assert not denied(ops.start_session, **request)
    emulator.deny("ssm:*")
    assert "explicit deny" in denied(ops.describe_sessions, State="Active")


def test_a_key_for_ssh_is_for_the_user_that_the_policy_names(world):
    _, emulator = world(section("Keys for ssh"))
    connect = boto3.client(
        "ec2-instance-connect",
        "eu-west-1",
        endpoint_url=emulator.endpoint_url,
        aws_access_key_id="AKIADEV",
        aws_secret_access_key="any",
        config=Config(proxies={}),
    )
    key = f"ssh-ed25519 {'AAAA' * 20}"
    push = {"InstanceId": THREE[0], "SSHPublicKey": key}
    assert not denied(connect.send_ssh_public_key, **push, InstanceOSUser="ubuntu")
    assert denied(connect.send_ssh_public_key, **push, InstanceOSUser="root")
    connect.close()


def signed(grant, key):
    request = AWSRequest("GET", grant["StreamUrl"].replace("ws", "http", 1))
    SigV4Auth(Credentials(key, "any"), "ssmmessages", "eu-west-1").add_auth(request)
    return dict(request.headers)


async def test_the_data_channel_is_opened_by_its_owner_alone(emulate):
    emulator = await emulate(
        identities={**IDENTITIES},
        owner=DEV,
        caller="dev",
        policies={EVERYBODY: section("Named instances")},
    )
    grant = await start(emulator.endpoint_url, 80, target=THREE[0])
    client = Client(grant)
    with pytest.raises(InvalidStatus) as caught:
        async with client.on_link(headers=signed(grant, "AKIAOPS")):
            pass
    assert caught.value.response.status_code == 403
    async with client.on_link(headers=signed(grant, "AKIADEV")):
        await client.until_ready()
    # Nobody signed: the token is enough, unless signatures are required.
    async with client.on_link():
        await (await client.ping())
