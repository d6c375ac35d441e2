"""Errors of a search that finds nothing: place, identity, counts, and nearest names."""

import pytest

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.targets.not_found import explain
from ssmtunneld.aws.targets.search import Candidate, SearchResult, search
from ssmtunneld.config.targets import parse_target
from ssmtunneld.errors import Recovery
from tests.aws.stub import Reply, error
from tests.support.moto import ACCOUNT, REGION

ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}"


@pytest.fixture
def account(stub, cloud, keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", stub.url)
    stub.answer("DescribeInstanceInformation", {"InstanceInformationList": []})
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    yield account
    account.close()


def miss(account, text):
    target = parse_target(text)
    return explain(account, target, search(account, target))


def test_a_similar_name_is_proposed(account, cloud):
    cloud.launch(Name="Web-1")
    cloud.launch(Name="database")
    cloud.launch(Role="bastion")
    found = miss(account, "name:web-2")
    assert str(found) == (
        f"instance with tag Name=web-2: none found in {REGION} (account {ACCOUNT})"
    )
    assert found.advice == "did you mean name:Web-1?"
    assert found.recovery is Recovery.WAIT


def test_a_similar_value_of_a_tag_is_proposed(account, cloud):
    cloud.launch(Role="bastion", Env="prod")
    assert miss(account, "tag:Role=bastoin,tag:Env=prod").advice == (
        "did you mean tag:Role=bastion?"
    )


def test_a_similar_group_is_proposed(account, cloud):
    cloud.create_group("bastions", 0)
    found = miss(account, "asg:bastion")
    assert found.advice == "did you mean asg:bastions?"
    assert found.operation == "DescribeAutoScalingGroups"


def test_a_similar_service_is_proposed(account, stub):
    stub.answer("ListTasks", error("ServiceNotFoundException"))
    stub.answer("ListServices", {"serviceArns": [f"{ARN}:service/prod/api"]})
    assert miss(account, "ecs:prod/app/x").advice == "did you mean ecs:prod/api/x?"


def test_a_similar_cluster_is_proposed(account, stub):
    stub.answer("ListTasks", error("ClusterNotFoundException"))
    stub.answer("ListServices", error("ClusterNotFoundException"))
    stub.answer("ListClusters", {"clusterArns": [f"{ARN}:cluster/prod"]})
    assert miss(account, "ecs:prd/api").advice == "did you mean ecs:prod/api?"


@pytest.mark.parametrize("text", ["ecs:prod/api", "name:nothing", "ip:10.9.9.9"])
def test_without_anything_similar_the_reader_is_told_what_to_check(account, stub, text):
    stub.answer("ListTasks", error("ServiceNotFoundException"))
    stub.answer("ListServices", error("AccessDeniedException"))
    assert miss(account, text).advice == (
        "check spelling, region and profile, and that it is running"
    )


def test_the_profile_is_named(stub, cloud, aws_files):
    aws_files.write_keys("AKIAPROFILE", profile="prod")
    stub.answer("DescribeInstanceInformation", {"InstanceInformationList": []})
    account = AwsClient(Identity("prod", REGION, stub.url))
    assert f"in {REGION} (profile prod, account {ACCOUNT})" in str(
        miss(account, "name:nothing")
    )
    account.close()


def test_an_account_that_is_not_told_is_left_out(account, stub, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    assert str(miss(account, "ip:10.9.9.9")).endswith(f"none found in {REGION}")


def group(desired, *states):
    """Return the answer about a group whose instances are in these states."""
    members = "".join(
        f"<member><InstanceId>i-{number:017x}</InstanceId>"
        f"<LifecycleState>{state}</LifecycleState></member>"
        for number, state in enumerate(states)
    )
    arn = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:1:name"
    return Reply(
        body="<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult>"
        f"<AutoScalingGroups><member><AutoScalingGroupARN>{arn}</AutoScalingGroupARN>"
        f"<DesiredCapacity>{desired}</DesiredCapacity><Instances>{members}</Instances>"
        "</member></AutoScalingGroups></DescribeAutoScalingGroupsResult>"
        "</DescribeAutoScalingGroupsResponse>"
    )


@pytest.mark.parametrize("states", [[], ["Pending"], ["Pending:Wait", "Terminating"]])
def test_a_group_that_has_started_none_yet_may_do_so(
    account, stub, monkeypatch, states
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_AUTO_SCALING", stub.url)
    stub.answer("DescribeAutoScalingGroups", group(2, *states))
    found = miss(account, "asg:my bastions")
    assert str(found) == (
        "instance in service of Auto Scaling group my bastions: none found in "
        f"{REGION} (account {ACCOUNT}) yet, of 2"
    )
    assert found.passes
    assert found.advice.endswith("--auto-scaling-group-name 'my bastions'")


def test_a_group_that_is_to_have_none_is_not_waited_for(account, cloud):
    cloud.create_group("asleep", 0)
    found = miss(account, "asg:asleep")
    assert not found.passes
    assert found.advice == "scale it up: it is there, and is to have none"


def test_a_service_that_has_started_no_task_yet_may_do_so(account, stub):
    stub.answer("ListTasks", {"taskArns": []})
    stub.answer("DescribeServices", {"services": [{"desiredCount": 2}]})
    found = miss(account, "ecs:prod/api")
    assert str(found).endswith(f"none found in {REGION} (account {ACCOUNT}) yet, of 2")
    assert found.passes
    assert found.advice.endswith("describe-services --cluster prod --services api")
    (asked,) = stub.calls("DescribeServices")
    assert asked == {"cluster": "prod", "services": ["api"]}
    stub.answer("DescribeServices", {"services": [{"desiredCount": 0}]})
    none = miss(account, "ecs:prod/api")
    assert not none.passes
    assert none.advice == "scale it up: it is there, and is to have none"


def test_a_service_whose_size_nobody_may_see_is_not_waited_for(account, stub):
    stub.answer("ListTasks", {"taskArns": []})
    stub.answer("DescribeServices", error("AccessDeniedException"))
    stub.answer("ListServices", {"serviceArns": []})
    assert not miss(account, "ecs:prod/api").passes


def test_what_is_offline_is_listed(account):
    target = parse_target("tag:Role=bastion")
    found = SearchResult(
        "instance with tag Role=bastion",
        tuple(Candidate(f"i-{n}", state="ConnectionLost") for n in range(5)),
        ACCOUNT,
    )
    account.call("DescribeInstanceInformation")
    said = explain(account, target, found)
    assert str(said) == (
        f"instance with tag Role=bastion: 5 found in {REGION} (account {ACCOUNT}), "
        "none online: i-0 (ConnectionLost), i-1 (ConnectionLost), i-2 (ConnectionLost)"
        " and 2 more"
    )
    assert "AmazonSSMManagedInstanceCore" in said.advice
    assert said.passes, "as for one that is named by its id"
    assert not explain(account, target, SearchResult("x", (), ACCOUNT)).passes
    task = explain(account, parse_target("ecs:prod/api"), found)
    assert "enableExecuteCommand" in task.advice
