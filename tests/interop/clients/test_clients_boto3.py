"""boto3: every operation of the emulator, compared with botocore's model."""

import json
import re
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import boto3
import botocore.session
import pytest
from botocore.config import Config

from ssmtunneld.emulator.settings import EmulatorSettings, Node
from ssmtunneld.testing import EmulatorThread

IDS = [f"i-{number:017x}" for number in range(7)]
DOCUMENT = "AWS-StartPortForwardingSession"
KEY = f"ssh-ed25519 {'AAAA' * 20}"


def misfits(shape, value, where=""):
    """Yield what of ``value``, as it came over the wire, the model does not allow."""
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, dict):
            yield f"{where}: not an object"
            return
        for name, member in value.items():
            if name not in shape.members:
                yield f"{where}.{name}: not in the model"
            else:
                yield from misfits(shape.members[name], member, f"{where}.{name}")
        for name in shape.required_members:
            if name not in value:
                yield f"{where}.{name}: missing"
    elif kind == "list":
        for member in value:
            yield from misfits(shape.member, member, f"{where}[]")
    elif kind == "map":
        for name, member in value.items():
            yield from misfits(shape.key, name, f"{where}{{}}")
            yield from misfits(shape.value, member, f"{where}.{name}")
    else:
        yield from _scalar_misfits(shape, value, where)


TYPES = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "timestamp": (int, float),
}


def _scalar_misfits(shape, value, where):
    if not isinstance(value, TYPES[shape.type_name]):
        yield f"{where}: {value!r} is not of type {shape.type_name}"
    elif shape.type_name == "string":
        limits = shape.metadata
        if not limits.get("min", 0) <= len(value) <= limits.get("max", 1 << 30):
            yield f"{where}: {len(value)} characters"
        if limits.get("enum") and value not in limits["enum"]:
            yield f"{where}: {value!r} is not one of {limits['enum']}"
        pattern = limits.get("pattern")
        if pattern and not re.search(pattern, value):
            yield f"{where}: {value!r} does not match {pattern}"


def from_xml(shape, element):
    """Return XML as JSON would have it; what the model does not know keeps its tag."""
    if shape.type_name == "structure":
        known = {m.serialization.get("name", n): n for n, m in shape.members.items()}
        found = {}
        for child in element:
            if name := known.get(tag(child)):
                found[name] = from_xml(shape.members[name], child)
            else:
                found[f"<{tag(child)}>"] = child.text
        return found
    if shape.type_name == "list":
        wanted = shape.member.serialization.get("name", "member")
        assert {tag(child) for child in element} <= {wanted}, ET.tostring(element)
        return [from_xml(shape.member, child) for child in element]
    text = element.text or ""
    try:
        match shape.type_name:
            case "integer":
                return int(text)
            case "boolean":
                return {"true": True, "false": False}[text]
            case "timestamp":
                return datetime.fromisoformat(text).timestamp()
    except (ValueError, KeyError):
        pass  # it is told as what it is, text
    return text


def tag(element):
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def read(protocol, shape, body):
    """Return the answer ``body`` as JSON has it."""
    if protocol == "json":
        return json.loads(body)
    root = ET.fromstring(body)
    if wrapper := shape.serialization.get("resultWrapper"):
        assert {tag(child) for child in root} == {wrapper, "ResponseMetadata"}
        (root,) = (child for child in root if tag(child) == wrapper)
    else:
        assert tag(root[0]) == "requestId"
        root.remove(root[0])
    return from_xml(shape, root)


class Calls:
    """boto3's clients; every answer that they get is compared as it came."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.seen = set()
        self.misfits = []
        self._models = botocore.session.get_session()
        self._clients = []

    def of(self, service, **identity):
        """Return a client of ``service``."""
        client = boto3.client(
            service,
            "eu-west-1",
            endpoint_url=self.emulator.endpoint_url,
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
            **{
                "aws_access_key_id": "AKIAEMULATOR00000000",
                "aws_secret_access_key": "any",
                **identity,
            },
        )
        client.meta.events.register("response-received.*.*", self._look)
        self._clients.append(client)
        return client

    def _look(self, event_name, response_dict, **_):
        _, service, operation = event_name.split(".")
        if response_dict["status_code"] != 200:
            return
        self.seen.add((service, operation))
        model = self._models.get_service_model(service)
        shape = model.operation_model(operation).output_shape
        if shape is None:
            return
        answer = read(model.metadata["protocol"], shape, response_dict["body"])
        found = (f"{operation}{misfit}" for misfit in misfits(shape, answer))
        # The model limits a token to 300 characters; real ones are longer.
        self.misfits += [f for f in found if ".TokenValue: " not in f]

    def close(self):
        for client in self._clients:
            client.close()


@pytest.fixture
def calls():
    nodes = {
        target: Node(
            name=f"web-{number}", address=f"10.0.0.{number}", tags={"Role": "web"}
        )
        for number, target in enumerate(IDS)
    }
    settings = EmulatorSettings(nodes=nodes, max_duration=3600, approval="manual")
    with EmulatorThread(settings) as emulator:
        found = Calls(emulator)
        yield found
        found.close()


def test_every_operation_answers_as_the_model_says(calls):
    """Operations of the emulator's own tables, and no more, are called and compared."""
    _call_sessions(calls)
    _call_nodes(calls.of("ssm"))
    _call_access(calls)
    _call_instances(calls.of("ec2"))
    push = {"InstanceId": IDS[0], "InstanceOSUser": "me", "SSHPublicKey": KEY}
    assert calls.of("ec2-instance-connect").send_ssh_public_key(**push)["Success"]
    assert calls.of("sts").get_caller_identity()["Account"] == "123456789012"
    assert calls.misfits == []
    assert calls.seen == calls.emulator._call(lambda emulator: emulator.operations)


def _call_sessions(calls):
    ssm = calls.of("ssm")
    grants = [
        ssm.start_session(Target=target, DocumentName=DOCUMENT, Reason="a test")
        for target in IDS
    ]
    for grant in grants:
        ssm.resume_session(SessionId=grant["SessionId"])
    for grant in grants[:3]:
        ssm.terminate_session(SessionId=grant["SessionId"])
    pages = ssm.get_paginator("describe_sessions")
    for state, count in (("Active", 4), ("History", 3)):
        found = [
            session
            for page in pages.paginate(State=state, PaginationConfig={"PageSize": 2})
            for session in page["Sessions"]
        ]
        assert len(found) == count
    owner = found[0]["Owner"]
    for key, value, count in (
        ("Target", IDS[5], 1),
        ("Owner", owner, 4),
        ("Owner", "nobody", 0),
        ("Status", "Connecting", 4),
        ("SessionId", grants[6]["SessionId"], 1),
        ("AccessType", "Standard", 4),
        ("InvokedAfter", "2020-01-01T00:00:00Z", 4),
        ("InvokedBefore", "2020-01-01T00:00:00Z", 0),
    ):
        chosen = {"State": "Active", "Filters": [{"key": key, "value": value}]}
        assert len(ssm.describe_sessions(**chosen)["Sessions"]) == count, key
    assert ssm.get_connection_status(Target=IDS[0])["Status"] == "connected"
    assert ssm.get_connection_status(Target="nobody")["Status"] == "notconnected"


def _call_nodes(ssm):
    pages = ssm.get_paginator("describe_instance_information")
    for key, values, count in (
        ("InstanceIds", IDS[:2], 2),
        ("PingStatus", ["Online"], 7),
        ("PingStatus", ["ConnectionLost"], 0),
        ("PlatformTypes", ["Linux"], 7),
        ("ResourceType", ["EC2Instance"], 7),
        ("tag:Role", ["web"], 7),
        ("tag-key", ["Other"], 0),
    ):
        chosen = {"Filters": [{"Key": key, "Values": values}]}
        found = pages.paginate(**chosen, PaginationConfig={"PageSize": 5})
        nodes = [node for page in found for node in page["InstanceInformationList"]]
        assert len(nodes) == count, key
    pages = ssm.get_paginator("get_inventory")
    name = "AWS:InstanceInformation.ComputerName"
    for how, value, count in (("Equal", "web-3", 1), ("BeginWith", "web-", 7)):
        chosen = {"Filters": [{"Key": name, "Values": [value], "Type": how}]}
        found = pages.paginate(**chosen, PaginationConfig={"PageSize": 3})
        assert len([e for page in found for e in page["Entities"]]) == count


def _call_access(calls):
    ssm, emulator = calls.of("ssm"), calls.emulator

    def ask():
        asked = ssm.start_access_request(
            Reason="a test", Targets=[{"Key": "InstanceIds", "Values": [IDS[0]]}]
        )
        return asked["AccessRequestId"]

    def told(request):
        return ssm.get_access_token(AccessRequestId=request)

    request = ask()
    assert told(request)["AccessRequestStatus"] == "Pending"
    emulator.approve(request)
    granted = told(request)
    assert granted["AccessRequestStatus"] == "Approved"
    found = granted["Credentials"]
    keys = {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }
    node = calls.of("ssm", **keys)
    started = node.start_session(Target=IDS[0], DocumentName=DOCUMENT)["SessionId"]
    assert node.terminate_session(SessionId=started)["SessionId"] == started
    emulator.revoke(request)
    assert {**told(request), "ResponseMetadata": {}} == {
        "AccessRequestStatus": "Revoked",
        "ResponseMetadata": {},
    }
    emulator.reject(request := ask())
    assert told(request)["AccessRequestStatus"] == "Rejected"
    emulator.approve(request := ask())
    emulator.advance(2 * 3600)
    assert told(request)["AccessRequestStatus"] == "Expired"


def _call_instances(ec2):
    pages = ec2.get_paginator("describe_instances")

    def found(**wanted):
        return [
            instance["InstanceId"]
            for page in pages.paginate(**wanted, PaginationConfig={"PageSize": 5})
            for reservation in page["Reservations"]
            for instance in reservation["Instances"]
        ]

    ec2.create_tags(Resources=IDS[:2], Tags=[{"Key": "Colour", "Value": "red"}])
    stopped = ec2.stop_instances(InstanceIds=[IDS[6]])["StoppingInstances"]
    assert stopped[0]["PreviousState"]["Name"] == "running"
    for name, values, expected in (
        ("instance-id", IDS[2:4], IDS[2:4]),
        ("instance-state-name", ["running"], IDS[:6]),
        ("private-ip-address", ["10.0.0.3"], IDS[3:4]),
        ("private-dns-name", ["ip-10-0-0-4.*"], IDS[4:5]),
        ("tag:Colour", ["r?d"], IDS[:2]),
        ("tag-key", ["Role"], IDS),
        ("tag:Role", ["none"], []),
        ("vpc-id", ["vpc-*"], IDS),
    ):
        assert found(Filters=[{"Name": name, "Values": values}]) == expected, name
    assert len(found()) == len(IDS)
    # EC2 pages only those who do not name instances.
    assert len(ec2.describe_instances(InstanceIds=IDS[:1])["Reservations"]) == 1
    ec2.delete_tags(Resources=IDS[:1], Tags=[{"Key": "Colour"}])
    assert found(Filters=[{"Name": "tag-key", "Values": ["Colour"]}]) == IDS[1:2]
    started = ec2.start_instances(InstanceIds=IDS[:1])["StartingInstances"]
    assert started[0]["CurrentState"]["Name"] == "running"


def test_the_page_names_every_operation(calls):
    text = (Path(__file__).parents[3] / "docs/emulator.md").read_text()
    served = text.split("## What it serves")[1].split("\n## ")[0]
    known = calls.emulator._call(lambda emulator: emulator.operations)
    assert {name for _, name in known if name not in served} == set()


def test_the_comparison_finds_what_does_not_fit():
    model = botocore.session.get_session().get_service_model("ssm")
    shape = model.operation_model("DescribeSessions").output_shape
    wrong = {"Sessions": [{"Status": "Sleeping", "StartDate": "now", "X": 1}], "Y": 2}
    assert sorted(f.split(":")[0] for f in misfits(shape, wrong)) == [
        ".Sessions[].StartDate",
        ".Sessions[].Status",
        ".Sessions[].X",
        ".Y",
    ]


def test_the_comparison_reads_xml_and_finds_what_does_not_fit():
    model = botocore.session.get_session().get_service_model("ec2")
    shape = model.operation_model("DescribeInstances").output_shape
    text = (
        "<X xmlns='urn:x'><requestId>r</requestId><reservationSet><item><instancesSet>"
        "<item><launchTime>now</launchTime><InstanceId>i-1</InstanceId>"
        "<instanceState><code>16</code><name>idle</name></instanceState>"
        "</item></instancesSet></item></reservationSet></X>"
    )
    found = misfits(shape, read("ec2", shape, text))
    assert sorted(f.split(":")[0] for f in found) == [
        ".Reservations[].Instances[].<InstanceId>",
        ".Reservations[].Instances[].LaunchTime",
        ".Reservations[].Instances[].State.Name",
    ]
