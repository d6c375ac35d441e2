"""boto3: every operation of the emulator, compared with botocore's model."""

import json
import re

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


class Calls:
    """boto3's clients, and the answers that they got, as they came."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.seen = []
        self.misfits = []
        self._clients = []

    def of(self, service):
        client = boto3.client(
            service,
            "eu-west-1",
            endpoint_url=self.emulator.endpoint_url,
            aws_access_key_id="AKIAEMULATOR00000000",
            aws_secret_access_key="any",
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
        )
        client.meta.events.register("response-received.*.*", self._look)
        self._clients.append(client)
        return client

    def _look(self, response_dict, context, **_):
        request = context.get("auth_type"), response_dict
        del request
        self.answers = getattr(self, "answers", [])
        self.answers.append(response_dict["body"])

    def close(self):
        for client in self._clients:
            client.close()

    def check(self, service, operation):
        """Compare the answers since the last check with the model."""
        model = botocore.session.get_session().get_service_model(service)
        shape = model.operation_model(operation).output_shape
        for body in self.answers:
            found = list(misfits(shape, json.loads(body)))
            # The model limits a token to 300 characters; real ones are longer.
            assert [f for f in found if not f.startswith(".TokenValue:")] == []
        self.answers.clear()
        self.seen.append(operation)


@pytest.fixture
def calls():
    nodes = {
        target: Node(name=f"web-{number}", address="10.0.0.1", tags={"Role": "web"})
        for number, target in enumerate(IDS)
    }
    with EmulatorThread(EmulatorSettings(nodes=nodes, max_duration=3600)) as emulator:
        found = Calls(emulator)
        yield found
        found.close()


def test_every_operation_answers_as_the_model_says(calls):
    ssm = calls.of("ssm")
    grants = [
        ssm.start_session(Target=target, DocumentName=DOCUMENT, Reason="a test")
        for target in IDS
    ]
    calls.check("ssm", "StartSession")
    for grant in grants:
        ssm.resume_session(SessionId=grant["SessionId"])
    calls.check("ssm", "ResumeSession")
    for grant in grants[:3]:
        ssm.terminate_session(SessionId=grant["SessionId"])
    calls.check("ssm", "TerminateSession")
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
    calls.check("ssm", "DescribeSessions")
    assert ssm.get_connection_status(Target=IDS[0])["Status"] == "connected"
    assert ssm.get_connection_status(Target="nobody")["Status"] == "notconnected"
    calls.check("ssm", "GetConnectionStatus")
    _check_nodes(ssm, calls)
    push = {"InstanceId": IDS[0], "InstanceOSUser": "me", "SSHPublicKey": KEY}
    assert calls.of("ec2-instance-connect").send_ssh_public_key(**push)["Success"]
    calls.check("ec2-instance-connect", "SendSSHPublicKey")
    assert calls.of("sts").get_caller_identity()["Account"] == "123456789012"
    known = calls.emulator._call(operations)
    assert known == {*calls.seen}


def operations(emulator):
    """Return the names of all operations, from the emulator's own table."""
    (route,) = (
        r
        for r in emulator._runner.app.router.routes()
        if r.method == "POST" and r.resource.canonical == "/"
    )
    table = route.handler.__self__._operations
    return {"StartSession", *(name.rpartition(".")[2] for name in table)}


def _check_nodes(ssm, calls):
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
    calls.check("ssm", "DescribeInstanceInformation")
    pages = ssm.get_paginator("get_inventory")
    name = "AWS:InstanceInformation.ComputerName"
    for how, value, count in (("Equal", "web-3", 1), ("BeginWith", "web-", 7)):
        chosen = {"Filters": [{"Key": name, "Values": [value], "Type": how}]}
        found = pages.paginate(**chosen, PaginationConfig={"PageSize": 3})
        assert len([e for page in found for e in page["Entities"]]) == count
    calls.check("ssm", "GetInventory")


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
