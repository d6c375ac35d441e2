"""docs/iam.md's policies allow what is called, and nothing beside it.

The rules of IAM are those of ``tests/support/iam.py``, and of moto where it knows the
action: it checks actions on ``*``, without conditions and resources. That AWS itself
reads the policies so is not shown here.
"""

import json
import re
from pathlib import Path
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config

from ssmtunneld.aws.api.permissions import section as address
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.targets.search import search
from ssmtunneld.config.targets import parse_target
from ssmtunneld.errors import AccessDenied
from ssmtunneld.testing import EmulatorThread
from tests.support.iam import allows, resources
from tests.support.moto import REGION

TEXT = (Path(__file__).parents[2] / "docs/iam.md").read_text()
INSTANCE = "i-0182d91e85d69cf00"
REMOTE = "AWS-StartPortForwardingSessionToRemoteHost"
ME = {"aws:userid": "AIDAEXAMPLE"}
CLUSTER = "arn:aws:ecs:eu-west-1:111122223333:cluster/prod"


def section(heading):
    """Return the statements of the first policy below a heading."""
    below = TEXT.split(f"# {heading}\n", 1)[1]
    blocks = map(json.loads, re.findall(r"```json\n(.*?)```", below, re.DOTALL))
    found = next(b for b in blocks if isinstance(b, list) or "schemaVersion" not in b)
    return found if isinstance(found, list) else found.get("Statement", [found])


def start(statements, target=INSTANCE, document=REMOTE, **context):
    body = {"Target": target, "DocumentName": document}
    return all(
        allows(statements, "ssm:StartSession", resource, ME | context)
        for resource in resources("StartSession", body)
    )


def test_a_named_instance_can_be_reached_and_no_other():
    policy = section("Named instances")
    assert start(policy)
    assert start(policy, document="AWS-StartPortForwardingSession")
    assert not start(policy, target="i-0182d91e85d69cf01")
    assert not start(policy, target="mi-0182d91e85d69cf00")
    # A shell is another document.
    assert not start(policy, document="SSM-SessionManagerRunShell")
    assert not start(policy, document="AWS-StartInteractiveCommand")


@pytest.mark.parametrize(
    "action",
    ["ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"],
)
def test_sessions_of_ones_own_can_be_used_and_no_others(action):
    mine = "arn:aws:ssm:eu-west-1:111122223333:session/AIDAEXAMPLE-0a1b2c3d"
    other = "arn:aws:ssm:eu-west-1:111122223333:session/AIDAOTHER-0a1b2c3d"
    policy = section("Named instances")
    assert allows(policy, action, mine, ME)
    assert not allows(policy, action, other, ME)
    assert not allows(policy, action, mine, {})
    by_tag = section("The caller's own sessions")
    tag = "ssm:resourceTag/aws:ssmmessages:session-id"
    assert allows(by_tag, action, other, ME | {tag: "AIDAEXAMPLE"})
    assert not allows(by_tag, action, other, ME | {tag: "AIDAOTHER"})
    assert not allows(by_tag, action, other, ME)


def test_instances_by_tag_are_those_with_the_tag():
    policy = section("Instances by tag")
    assert start(policy, **{"ssm:resourceTag/Role": "bastion"}) is True
    assert not start(policy, **{"ssm:resourceTag/Role": "web"})
    assert not start(policy)
    assert not start(policy, document="Other", **{"ssm:resourceTag/Role": "bastion"})


def test_in_one_statement_the_documents_would_lack_the_tag():
    one, two = section("Instances by tag")
    both = {**one, "Resource": [one["Resource"], two["Resource"]]}
    instance, document = resources(
        "StartSession", {"Target": INSTANCE, "DocumentName": REMOTE}
    )
    tagged = ME | {"ssm:resourceTag/Role": "bastion"}
    assert allows([both], "ssm:StartSession", instance, tagged)
    assert not allows([both], "ssm:StartSession", document, ME)


def test_a_document_of_ones_own_is_the_only_one():
    policy = section("Only one destination")
    own = "Acme-OrdersDatabase"
    assert start(policy, document=own)
    assert start(policy, document=own, **{"ssm:SessionDocumentAccessCheck": "true"})
    assert not start(
        policy, document=own, **{"ssm:SessionDocumentAccessCheck": "false"}
    )
    assert not start(policy)


@pytest.mark.parametrize("action", ["ecs:ListTasks", "ecs:DescribeTasks"])
def test_tasks_are_those_of_the_cluster(action):
    policy = section("Looking targets up")
    assert allows(policy, action, "*", {"ecs:cluster": CLUSTER})
    assert not allows(policy, action, "*", {"ecs:cluster": f"{CLUSTER}2"})
    assert not allows(policy, action, "*", {})


@pytest.mark.parametrize(
    "action", ["ec2:StartInstances", "ec2:StopInstances", "ec2:CreateTags"]
)
def test_a_bastion_that_sleeps_is_the_one_that_is_named(action):
    policy = section("Bastions that sleep")
    prefix = "arn:aws:ec2:eu-west-1:111122223333:instance"
    context = {"aws:TagKeys": ["ssmtunneld:0123456789ab"]}
    assert allows(policy, action, f"{prefix}/{INSTANCE}", context)
    assert not allows(policy, action, f"{prefix}/i-0182d91e85d69cf01", context)


@pytest.mark.parametrize("action", ["ec2:CreateTags", "ec2:DeleteTags"])
def test_only_our_own_tags_can_be_written(action):
    policy = section("Bastions that sleep")
    instance = f"arn:aws:ec2:eu-west-1:111122223333:instance/{INSTANCE}"
    ours = "ssmtunneld:0123456789ab"
    assert allows(policy, action, instance, {"aws:TagKeys": [ours]})
    assert not allows(policy, action, instance, {"aws:TagKeys": ["Role"]})
    assert not allows(policy, action, instance, {"aws:TagKeys": [ours, "Role"]})


def test_a_database_is_for_its_user():
    policy = section("Passwords for databases")
    prefix = "arn:aws:redshift:eu-west-1:111122223333"
    action = "redshift:GetClusterCredentials"
    assert allows(policy, action, f"{prefix}:dbuser:sales/app", {})
    assert allows(policy, action, f"{prefix}:dbname:sales/dev", {})
    assert not allows(policy, action, f"{prefix}:dbuser:sales/admin", {})
    own = "redshift:GetClusterCredentialsWithIAM"
    assert allows(policy, own, f"{prefix}:dbname:sales/dev", {})


def test_a_deny_beats_what_is_allowed_and_what_is_strange_is_an_error():
    policy = section("Named instances")
    deny = {"Effect": "Deny", "Action": "ssm:*", "Resource": "*"}
    assert start(policy)
    assert not start([*policy, deny])
    strange = {**deny, "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}
    with pytest.raises(ValueError, match="IpAddress"):
        start([strange], **{"aws:SourceIp": "10.0.0.1"})


# By moto, which asks for the action alone.


@pytest.fixture
def user(cloud, monkeypatch):
    """Return a function that makes us somebody with nothing but these statements."""
    iam = boto3.client(
        "iam",
        REGION,
        endpoint_url=cloud.url,
        config=Config(proxies={}),
        aws_access_key_id="AKIACLOUD00000000000",
        aws_secret_access_key="secret-of-the-cloud",
    )

    def become(statements):
        iam.create_user(UserName="dev")
        policy = {"Version": "2012-10-17", "Statement": statements}
        iam.put_user_policy(
            UserName="dev", PolicyName="p", PolicyDocument=json.dumps(policy)
        )
        key = iam.create_access_key(UserName="dev")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        enforce(cloud, "0")

    yield become
    enforce(cloud, "inf")
    iam.close()


def enforce(cloud, after):
    """Let moto check permissions after so many calls."""
    url = f"{cloud.url}/moto-api/reset-auth"
    plain = {"Content-Type": "text/plain"}  # or it is taken for a form
    request = Request(url, data=after.encode(), headers=plain, method="POST")
    with urlopen(request) as answer:
        answer.read()


def look(target):
    account = AwsClient(Identity(region=REGION))
    try:
        return search(account, parse_target(target))
    finally:
        account.close()


NEEDS = {
    "name:bastion": ["ec2:DescribeInstances"],
    "asg:web": ["autoscaling:DescribeAutoScalingGroups", "ec2:DescribeInstances"],
}


@pytest.fixture
def ssm(monkeypatch):
    with EmulatorThread() as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", aws.endpoint_url)
        yield


def without(statements, action):
    """Return statements that lack one action."""
    kept = []
    for statement in statements:
        actions = statement["Action"]
        actions = [actions] if isinstance(actions, str) else actions
        rest = [a for a in actions if a != action]
        if rest:
            kept.append({**statement, "Action": rest})
    return kept


@pytest.mark.parametrize("target", NEEDS)
def test_what_is_documented_for_a_search_is_enough(cloud, ssm, user, target):
    instance = cloud.launch(Name="bastion")
    members = cloud.create_group("web", 1)
    user(section("Looking targets up"))
    found = {candidate.id for candidate in look(target).online}
    assert found == ({instance} if target == "name:bastion" else set(members))


@pytest.mark.parametrize(
    ("target", "action"), [(t, a) for t, actions in NEEDS.items() for a in actions]
)
def test_an_action_that_is_missing_is_named(cloud, ssm, user, target, action):
    cloud.launch(Name="bastion")
    cloud.create_group("web", 1)
    user(without(section("Looking targets up"), action))
    with pytest.raises(AccessDenied) as caught:
        look(target)
    assert "user/dev" in str(caught.value)
    said = f"allow {action} on * (see {address('Looking targets up')})"
    assert caught.value.advice == said
