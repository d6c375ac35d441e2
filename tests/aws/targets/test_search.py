"""Searches: EC2 and Auto Scaling are moto's, Systems Manager and ECS are scripted."""

import pytest

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.targets import search as targets
from ssmtunneld.aws.targets.search import TargetFate, learn_fates, search
from ssmtunneld.config.targets import parse_target
from ssmtunneld.errors import (
    AccessDenied,
    AwsError,
    ServiceUnavailable,
    TargetNotFound,
)
from tests.aws.stub import Reply, error
from tests.support.moto import ACCOUNT, REGION

TASK = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
LAUNCHED = 1_700_000_000.0


@pytest.fixture
def account(stub, cloud, keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", stub.url)
    stub.answer("DescribeInstanceInformation", {"InstanceInformationList": []})
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    yield account
    account.close()


@pytest.fixture
def register(stub):
    """Let Systems Manager know of nodes, by their ids and states."""

    def answer(**nodes):
        listed = [
            {"InstanceId": i.replace("_", "-"), "PingStatus": status}
            for i, status in nodes.items()
        ]
        stub.answer("DescribeInstanceInformation", {"InstanceInformationList": listed})

    return answer


def as_keyword(instance):
    return instance.replace("-", "_")


def task(task_id=TASK, status="RUNNING", started=LAUNCHED, containers=None):
    return {
        "taskArn": f"{ARN}:task/prod/{task_id}",
        "lastStatus": status,
        "startedAt": started,
        "containers": containers or [container()],
    }


def container(name="app", runtime=f"{TASK}-1", status="RUNNING", agent="RUNNING"):
    agents = [{"name": "ExecuteCommandAgent", "lastStatus": agent}] if agent else []
    found = {"name": name, "lastStatus": status, "managedAgents": agents}
    return found | ({"runtimeId": runtime} if runtime else {})


def serve(stub, *tasks):
    stub.answer("ListTasks", {"taskArns": [t["taskArn"] for t in tasks]})
    stub.answer("DescribeTasks", {"tasks": list(tasks)})


def find(account, text):
    return search(account, parse_target(text))


def online(account, text):
    return [c.id for c in find(account, text).online]


def test_an_instance_is_found_by_its_name(account, cloud, register):
    wanted = cloud.launch(Name="web-1")
    cloud.launch(Name="web-2")
    register(**{as_keyword(wanted): "Online"})
    found = find(account, "name:web-1")
    assert [c.id for c in found.online] == [wanted]
    assert found.account == ACCOUNT
    assert found.searched == "instance with tag Name=web-1"


def test_an_instance_is_found_by_all_of_its_tags(account, cloud, register):
    wanted = cloud.launch(Role="bastion", Env="prod")
    other = cloud.launch(Role="bastion", Env="test")
    register(**{as_keyword(wanted): "Online", as_keyword(other): "Online"})
    assert online(account, "tag:Role=bastion,tag:Env=prod") == [wanted]
    assert set(online(account, "tag:Role=bastion")) >= {wanted, other}


def test_a_wildcard_in_a_tag_is_a_letter(account, cloud, register, stub):
    instance = cloud.launch(Name="plain")
    register(**{as_keyword(instance): "Online"})
    assert online(account, "name:pl*") == []
    assert online(account, "name:plai?") == []


def test_an_instance_is_found_by_its_addresses(account, cloud, register):
    wanted = cloud.launch()
    register(**{as_keyword(wanted): "Online"})
    known = cloud.describe(wanted)
    assert online(account, f"ip:{known['PrivateIpAddress']}") == [wanted]
    assert online(account, f"dns:{known['PrivateDnsName'].upper()}") == [wanted]


def test_an_instance_is_found_by_its_ipv6_address(account, stub, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", stub.url)
    stub.answer("DescribeInstances", Reply(body="<DescribeInstancesResponse/>"))
    assert online(account, "ip:2001:DB8::5") == []
    (asked,) = stub.calls("DescribeInstances")
    assert asked["Filter.1.Name"] == "network-interface.ipv6-addresses.ipv6-address"
    assert asked["Filter.1.Value.1"] == "2001:db8::5"


def test_what_is_not_online_is_found_with_its_state(account, cloud, register):
    silent = cloud.launch(Name="silent")
    lost = cloud.launch(Name="silent")
    register(**{as_keyword(lost): "ConnectionLost"})
    found = find(account, "name:silent")
    assert not found.online
    assert {c.id: c.state for c in found.candidates} == {
        silent: "its agent has not registered",
        lost: "ConnectionLost",
    }


def test_what_was_terminated_is_not_found(account, cloud):
    gone = cloud.launch(Name="gone")
    cloud.terminate(gone)
    assert find(account, "name:gone").candidates == ()


def test_the_oldest_comes_first(account, cloud, register, stub):
    stub.answer("DescribeInstanceInformation", {"InstanceInformationList": []})
    for _ in range(3):
        cloud.launch(Name="several")
    found = find(account, "name:several")
    order = [(c.born, c.id) for c in found.candidates]
    assert len(order) == 3
    assert order == sorted(order)
    assert order[0][0] > 0


def test_managed_nodes_are_found_by_their_tags(account, register, stub):
    node = "mi-0123456789abcdef0"
    listed = [
        {"InstanceId": node, "PingStatus": "Online", "RegistrationDate": LAUNCHED},
        {"InstanceId": "i-0123456789abcdef0", "PingStatus": "Online"},
    ]
    stub.answer("DescribeInstanceInformation", {"InstanceInformationList": listed})
    (candidate,) = find(account, "tag:Plant=north").candidates
    assert (candidate.id, candidate.born, candidate.online) == (node, LAUNCHED, True)
    (asked,) = stub.calls("DescribeInstanceInformation")
    assert asked["Filters"] == [{"Key": "tag:Plant", "Values": ["north"]}]


def test_a_group_is_its_instances_in_service(account, cloud, register):
    (first,) = cloud.create_group("bastions", 1)
    register(**{as_keyword(first): "Online"})
    found = find(account, "asg:bastions")
    assert [c.id for c in found.online] == [first]
    assert found.account == ACCOUNT
    cloud.replace_member(first)
    (second,) = cloud.members("bastions")
    assert [c.id for c in find(account, "asg:bastions").candidates] == [second]
    assert find(account, "asg:none").candidates == ()


def test_nodes_are_asked_for_in_portions(account, cloud, stub):
    answer = cloud.ec2.run_instances(
        ImageId=cloud.image,
        MinCount=45,
        MaxCount=45,
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "many"}]}
        ],
    )
    assert len(find(account, "name:many").candidates) == 45
    asked = stub.calls("DescribeInstanceInformation")
    sizes = [len(call["Filters"][0]["Values"]) for call in asked]
    assert sizes == [40, 5]
    cloud.terminate(*[i["InstanceId"] for i in answer["Instances"]])


def test_answers_come_in_pages(account, stub):
    stub.answer(
        "ListTasks",
        {"taskArns": [f"{ARN}:task/prod/{TASK}"], "nextToken": "more"},
        {"taskArns": [f"{ARN}:task/prod/{OTHER}"]},
    )
    stub.answer("DescribeTasks", {"tasks": []})
    find(account, "ecs:prod/api")
    assert stub.calls("DescribeTasks")[0]["tasks"] == [
        f"{ARN}:task/prod/{TASK}",
        f"{ARN}:task/prod/{OTHER}",
    ]
    assert stub.calls("ListTasks")[1]["nextToken"] == "more"


def test_pages_that_take_too_long_are_an_error(account, stub, monkeypatch):
    monkeypatch.setattr(targets, "LIST_TIMEOUT", 0.0)
    stub.answer("ListTasks", {"taskArns": [], "nextToken": "more"})
    with pytest.raises(ServiceUnavailable, match="no complete list") as caught:
        find(account, "ecs:prod/api")
    assert caught.value.advice
    assert len(stub.calls("ListTasks")) == 1


def test_pages_without_an_end_are_not_read_for_ever(account, stub):
    stub.answer("ListTasks", {"taskArns": [], "nextToken": "more"})
    assert find(account, "ecs:prod/api").candidates == ()
    assert len(stub.calls("ListTasks")) == 20


def test_a_service_is_its_running_tasks(account, stub):
    newer = task(OTHER, started=LAUNCHED + 60, containers=[container(runtime="r-2")])
    serve(stub, newer, task())
    found = find(account, "ecs:prod/api")
    assert [c.id for c in found.online] == [
        f"ecs:prod_{TASK}_{TASK}-1",
        f"ecs:prod_{OTHER}_r-2",
    ]
    assert found.account == ACCOUNT
    (asked,) = stub.calls("ListTasks")
    assert asked == {
        "cluster": "prod",
        "serviceName": "api",
        "desiredStatus": "RUNNING",
    }


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (task(containers=[container(agent=None)]), "without enableExecuteCommand"),
        (task(containers=[container(agent="PENDING")]), "its agent is pending"),
        (task(containers=[container(agent="")]), "without enableExecuteCommand"),
        (task(containers=[container(status="PENDING")]), "PENDING"),
        (task(status="STOPPED"), "STOPPED"),
        (task(status="", containers=[container(status="")]), "not started"),
    ],
)
def test_a_task_is_online_when_its_agent_runs(account, stub, given, state):
    serve(stub, given)
    (candidate,) = find(account, "ecs:prod/api").candidates
    assert not candidate.online
    assert state in candidate.state


def test_a_task_without_a_runtime_id_is_not_online_yet(account, stub):
    serve(stub, task(containers=[container(runtime="")]))
    assert find(account, "ecs:prod/api").online == ()


def test_one_of_several_containers_must_be_named(account, stub):
    serve(stub, task(containers=[container("envoy", "r-1"), container("app", "r-2")]))
    with pytest.raises(TargetNotFound, match="several containers: app, envoy") as told:
        find(account, "ecs:prod/api")
    assert told.value.advice == "add one of them to target, such as ecs:prod/api/app"
    assert online(account, "ecs:prod/api/app") == [f"ecs:prod_{TASK}_r-2"]
    assert online(account, "ecs:prod/api/other") == []


@pytest.mark.parametrize(
    "code", ["ClusterNotFoundException", "ServiceNotFoundException"]
)
def test_a_service_that_is_not_there_has_no_tasks(account, stub, code):
    stub.answer("ListTasks", error(code))
    assert find(account, "ecs:prod/api").candidates == ()


def test_other_refusals_are_passed_on(account, stub):
    stub.answer("ListTasks", error("AccessDeniedException", "not authorized"))
    with pytest.raises(AccessDenied):
        find(account, "ecs:prod/api")
    stub.answer("ListTasks", error("SomethingElse"))
    with pytest.raises(AwsError, match="SomethingElse"):
        find(account, "ecs:prod/api")


def test_an_instance_is_gone_when_it_does_not_run(account, cloud):
    running, ended = cloud.launch(), cloud.launch()
    cloud.terminate(ended)
    unknown, node = "i-0123456789abcdef0", "mi-0123456789abcdef0"
    assert learn_fates(account, [running, ended, unknown, node]) == {
        running: TargetFate.LIVES,
        ended: TargetFate.GONE,
        unknown: TargetFate.GONE,
        node: TargetFate.LIVES,
    }


@pytest.mark.parametrize(
    ("given", "fate"),
    [
        (task(), TargetFate.LIVES),
        (task(status="STOPPING"), TargetFate.LIVES),
        (task(status="DEACTIVATING"), TargetFate.LIVES),
        (task(status="STOPPED"), TargetFate.GONE),
        (task(status="DEPROVISIONING"), TargetFate.GONE),
        (task(containers=[container(status="STOPPED")]), TargetFate.GONE),
        (task(containers=[container(runtime="another")]), TargetFate.GONE),
    ],
)
def test_a_task_is_gone_when_its_container_has_stopped(account, stub, given, fate):
    target = f"ecs:my_prod_{TASK}_{TASK}-1"
    serve(stub, given)
    assert learn_fates(account, [target]) == {target: fate}
    (asked,) = stub.calls("DescribeTasks")
    assert asked == {"cluster": "my_prod", "tasks": [TASK]}


def test_answers_that_make_no_sense_are_empty_ones(account, stub):
    stub.answer("ListTasks", {"taskArns": ["nonsense"]})
    stub.answer("DescribeTasks", {"tasks": [{"containers": [{}]}]})
    found = find(account, "ecs:prod/api")
    assert found.account == ""
    assert found.online == ()


# Lists without end.


def test_of_a_list_without_end_some_are_enough(account, stub, monkeypatch):
    monkeypatch.setattr(targets, "FOUND_LIMIT", 30)
    monkeypatch.setattr(targets, "CONTAINER_LIMIT", 40)
    arns = [f"{ARN}:task/prod/{number:032x}" for number in range(1000)]
    stub.answer("ListTasks", {"taskArns": arns, "nextToken": "more"})
    described = [task(f"{number:032x}") for number in range(1000)]
    stub.answer("DescribeTasks", {"tasks": described})
    found = search(account, parse_target("ecs:prod/web"))
    assert len(found.candidates) == 40
    assert len(stub.calls("ListTasks")) == len(stub.calls("DescribeTasks")) == 1
    assert len(stub.calls("DescribeTasks")[0]["tasks"]) == 30


def test_of_nodes_that_nobody_asked_for_nothing_is_kept(account, cloud, register):
    ids = [cloud.launch(Name="bastion") for _ in range(3)]
    register(**{as_keyword(i): "Online" for i in (*ids, "i-00000000000000bad")})
    assert targets._agents(account, ids) == dict.fromkeys(ids, "Online")


def test_all_that_is_asked_of_a_list_has_one_time(account, stub, monkeypatch):
    monkeypatch.setattr(targets, "LIST_TIMEOUT", 0.0)
    arns = [f"{ARN}:task/prod/{number:032x}" for number in range(60)]
    stub.answer("ListTasks", {"taskArns": arns})
    stub.answer("DescribeTasks", {"tasks": [task()]})
    with pytest.raises(ServiceUnavailable, match="no complete list"):
        search(account, parse_target("ecs:prod/web"))
    assert len(stub.calls("DescribeTasks")) == 1
