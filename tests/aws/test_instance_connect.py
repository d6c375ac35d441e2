"""Keys are pushed to instances only, no oftener than needed; refusals are explained."""

import asyncio

import pytest

from ssmtunneld.aws.api.answers import Answer
from ssmtunneld.aws.api.permissions import section
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.instance_connect import (
    FRESH,
    LIFETIME,
    KeyPusher,
    check_instance,
    push_key,
    read_public_key,
)
from ssmtunneld.errors import (
    AccessDenied,
    AwsError,
    RequestRejected,
    ServiceUnavailable,
    Throttled,
)
from tests.aws.stub import REGION, error
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse

OPERATION = "SendSSHPublicKey"
INSTANCE = "i-0123456789abcdef0"
OTHER = "i-0fffffffffffffff0"
KEY = "ssh-ed25519 " + "A" * 68
TAKEN = {"RequestId": "1", "Success": True}
ENDPOINT = "AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT"
ARN = f"arn:aws:ec2:{REGION}:123456789012:instance/{INSTANCE}"


@pytest.fixture
def account(stub, identity, keys, monkeypatch):
    monkeypatch.setenv(ENDPOINT, stub.url)
    account = AwsClient(identity)
    yield account
    account.close()


def test_moto_takes_a_key(running_cloud, keys, monkeypatch):
    monkeypatch.setenv(ENDPOINT, running_cloud.url)
    account = AwsClient(Identity(region=REGION))
    push_key(account, INSTANCE, "ubuntu", KEY)
    account.close()


def test_the_service_is_told_instance_user_and_public_key(account, stub):
    stub.answer(OPERATION, TAKEN)
    push_key(account, INSTANCE, "ubuntu", KEY)
    assert stub.calls(OPERATION) == [
        {"InstanceId": INSTANCE, "InstanceOSUser": "ubuntu", "SSHPublicKey": KEY}
    ]


def test_a_key_that_was_not_taken_is_an_error(account, stub):
    stub.answer(OPERATION, {"RequestId": "1", "Success": False})
    with pytest.raises(ServiceUnavailable, match="did not accept the key"):
        push_key(account, INSTANCE, "ubuntu", KEY)


@pytest.mark.parametrize("target", ["mi-0123456789abcdef0", "ecs:c_t_r"])
def test_only_instances_take_keys(account, stub, target):
    with pytest.raises(RequestRejected, match=r"only for EC2 instances .* not for"):
        push_key(account, target, "ubuntu", KEY)
    assert stub.calls(OPERATION) == []
    check_instance(INSTANCE)


@pytest.mark.parametrize(
    ("said", "resource"),
    [
        (
            "User: arn:aws:iam::123456789012:user/me is not authorized to perform: "
            f"ec2-instance-connect:SendSSHPublicKey on resource: {ARN} because no "
            "identity-based policy allows it",
            ARN,
        ),
        ("no", f"arn:aws:ec2:{REGION}:*:instance/{INSTANCE}"),
    ],
)
@pytest.mark.parametrize("code", ["AccessDeniedException", "AuthException"])
def test_a_refusal_names_the_action_and_the_policy(account, stub, code, said, resource):
    stub.answer(OPERATION, error(code, said))
    with pytest.raises(AccessDenied) as caught:
        push_key(account, INSTANCE, "ubuntu", KEY)
    assert caught.value.advice == (
        f"allow ec2-instance-connect:SendSSHPublicKey on {resource} "
        f"(see {section('Keys for ssh')})"
    )


@pytest.mark.parametrize(
    ("code", "kind"),
    [("EC2InstanceNotFoundException", AwsError), ("ThrottlingException", Throttled)],
)
def test_other_refusals_are_told_in_the_service_s_words(account, stub, code, kind):
    stub.answer(OPERATION, error(code, "its own words"))
    with pytest.raises(kind, match="its own words"):
        push_key(account, INSTANCE, "ubuntu", KEY)


def test_a_key_comes_from_its_file_without_its_comment(tmp_path):
    path = tmp_path / "key.pub"
    path.write_text(f"{KEY} me@here\n")
    assert read_public_key(path) == KEY


def test_without_a_file_it_is_the_one_that_ssh_has_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_rsa.pub").write_text("ssh-rsa AAAA me")
    assert read_public_key(None) == "ssh-rsa AAAA"
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(KEY)
    assert read_public_key(None) == KEY


@pytest.mark.parametrize(
    "content",
    [b"-----BEGIN OPENSSH PRIVATE KEY-----\ncanary", b"ssh-dss AAAA", b"", b"\xff\xfe"],
)
def test_what_is_no_public_key_is_refused_and_not_told(tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(RequestRejected, match="there is no public key") as caught:
        read_public_key(path)
    assert "canary" not in str(caught.value)
    assert "instance_connect_key" in caught.value.advice


def test_without_any_key_the_places_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RequestRejected, match=r"id_ed25519\.pub or ~/\.ssh/id_rsa"):
        read_public_key(None)


class Calls:
    """Answers a call after 0.1 s, with what the test said, and counts."""

    def __init__(self):
        self.asked = []
        self.failure = None

    async def ask(self, work):
        await elapse(0.1)
        work(self)

    def call_service(self, _service, _operation, **parameters):
        self.asked.append((parameters["InstanceId"], parameters["InstanceOSUser"]))
        if self.failure is not None:
            raise self.failure
        return Answer({"Success": True})


class Log:
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def warning(self, event, **facts):
        self.lines.append((event, facts))

    debug = warning


@pytest.fixture
def public_key(tmp_path):
    path = tmp_path / "key.pub"
    path.write_text(KEY)
    return path


@virtual
async def test_connections_of_the_same_moments_share_a_push(public_key):
    calls, log = Calls(), Log()
    pusher = KeyPusher(calls, log)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(pusher.push([INSTANCE], "me", public_key))
    assert calls.asked == [(INSTANCE, "me")]
    assert log.lines == [("key.pushed", {"target": INSTANCE, "user": "me"})]
    await pusher.push([INSTANCE, OTHER], "me", public_key)
    await pusher.push([INSTANCE], "you", public_key)
    assert calls.asked[1:] == [(OTHER, "me"), (INSTANCE, "you")]
    await elapse(FRESH)
    await pusher.push([INSTANCE], "me", public_key)
    assert calls.asked[3:] == [(INSTANCE, "me")]
    assert FRESH < LIFETIME / 2


@virtual
async def test_a_push_that_fails_is_told_and_tried_again_by_the_next_one(public_key):
    calls, log = Calls(), Log()
    pusher = KeyPusher(calls, log)
    calls.failure = AccessDenied(OPERATION, "AccessDenied", "no", "allow it")
    await pusher.push([INSTANCE], "me", public_key)
    ((event, facts),) = log.lines
    assert event == "key.push_failed"
    assert (facts["target"], facts["advice"]) == (INSTANCE, "allow it")
    calls.failure = None
    await pusher.push([INSTANCE], "me", public_key)
    assert len(calls.asked) == 2


@virtual
async def test_a_node_that_is_no_instance_is_told(public_key):
    calls, log = Calls(), Log()
    await KeyPusher(calls, log).push(["mi-0123456789abcdef0"], "me", public_key)
    assert calls.asked == []
    assert "only for EC2 instances" in log.lines[0][1]["reason"]
