"""Managed nodes: EC2 is moto's, Systems Manager is scripted."""

import pytest

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.targets.inventory import Node, list_nodes
from ssmtunneld.errors import AccessDenied
from tests.aws.stub import Reply, error
from tests.support.moto import ACCOUNT, REGION

SEEN = 1_700_000_000.0


@pytest.fixture
def account(stub, cloud, keys):
    stub.answer("DescribeInstanceInformation", {"InstanceInformationList": []})
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    yield account
    account.close()


def information(node, ping="Online", **more):
    return {
        "InstanceId": node,
        "PingStatus": ping,
        "LastPingDateTime": SEEN,
        "AgentVersion": "3.3.808.0",
        "PlatformType": "Linux",
        "PlatformName": "Amazon Linux",
        "PlatformVersion": "2023",
        "IPAddress": "10.0.0.5",
        "ComputerName": "ip-10-0-0-5",
        **more,
    }


def answer(stub, *pages):
    stub.answer(
        "DescribeInstanceInformation",
        *(
            {"InstanceInformationList": page, "NextToken": f"page{number}"}
            if number < len(pages)
            else {"InstanceInformationList": page}
            for number, page in enumerate(pages, 1)
        ),
    )


def test_a_node_is_known_by_its_name_in_ec2(stub, cloud, account):
    instance = cloud.launch(Name="web-1")
    answer(stub, [information(instance), information("mi-" + "a" * 17, Name="rack")])
    found = list_nodes(account)
    rack, web = found.nodes
    assert (rack.name, web.name) == ("rack", "web-1")
    assert web == Node(
        instance,
        "web-1",
        "Online",
        "3.3.808.0",
        "Amazon Linux 2023",
        "10.0.0.5",
        SEEN,
        cloud.describe(instance)["VpcId"],
    )
    assert (found.region, found.account, found.shortcoming) == (REGION, ACCOUNT, "")


def test_five_hundred_nodes_come_in_ten_pages(stub, account):
    ids = [f"i-{number:017x}" for number in range(500)]
    answer(
        stub,
        *([information(i) for i in ids[at : at + 50]] for at in range(0, 500, 50)),
    )
    assert {node.id for node in list_nodes(account).nodes} == set(ids)
    asked = stub.calls("DescribeInstanceInformation")
    assert [body.get("NextToken") for body in asked] == [
        None,
        *(f"page{number}" for number in range(1, 10)),
    ]
    assert {body["MaxResults"] for body in asked} == {50}


def test_those_that_are_not_online_are_left_out_unless_asked_for(stub, cloud, account):
    lost = "i-0aaaaaaaaaaaaaaaa"
    stopped, bare = cloud.launch(Name="stopped"), cloud.launch(Name="bare")
    cloud.ec2.stop_instances(InstanceIds=[stopped])
    answer(
        stub, [information(lost, "ConnectionLost"), information(stopped, "Inactive")]
    )
    assert list_nodes(account).nodes == ()
    reasons = {n.id: n.reason for n in list_nodes(account, everything=True).nodes}
    assert reasons[lost].startswith("it is stopped, or its agent no longer")
    assert reasons[stopped] == "it is stopped: start it"
    assert reasons[bare].startswith("it has no instance profile: give it a role")


def test_one_with_a_role_whose_agent_never_came_is_explained(stub, cloud, account):
    answer(stub, [])
    cloud.add_instance_profile("anything")
    cloud.ec2.run_instances(
        ImageId=cloud.image,
        MinCount=1,
        MaxCount=1,
        IamInstanceProfile={"Name": "anything"},
    )
    (node,) = list_nodes(account, everything=True).nodes
    assert node.reason.startswith("its agent has never registered")
    assert (node.ping, node.online) == ("", False)


def test_without_ec2_there_are_nodes_and_a_line_why_they_have_no_names(
    stub, account, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", stub.url)
    refusal = (
        "<Response><Errors><Error><Code>UnauthorizedOperation</Code>"
        "<Message>no</Message></Error></Errors></Response>"
    )
    stub.answer("DescribeInstances", Reply(403, refusal))
    answer(stub, [information("i-0aaaaaaaaaaaaaaaa")])
    found = list_nodes(account)
    assert [node.name for node in found.nodes] == ["ip-10-0-0-5"]
    assert found.shortcoming.startswith("without EC2 there are no names or VPCs: ")


def test_an_emulator_has_no_ec2_that_could_be_asked(stub, keys, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_EC2", raising=False)
    answer(stub, [information("i-0aaaaaaaaaaaaaaaa")])
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    assert len(list_nodes(account).nodes) == 1
    account.close()
    assert {asked.operation for asked in stub.asked} == {"DescribeInstanceInformation"}


def test_a_denial_of_systems_manager_is_the_end(stub, account):
    stub.answer("DescribeInstanceInformation", error("AccessDeniedException"))
    with pytest.raises(AccessDenied):
        list_nodes(account)


def test_what_nodes_say_of_themselves_is_cleaned(stub, account):
    evil = information("i-0aaaaaaaaaaaaaaaa", ComputerName="a\x1b[2Jb\n" + "c" * 999)
    answer(stub, [evil])
    (node,) = list_nodes(account).nodes
    assert node.name.startswith("a b c")
    assert len(node.name) == 300


@pytest.mark.parametrize(
    ("version", "mux", "hosts"),
    [
        ("3.3.808.0", True, True),
        ("3.1.1374.0", True, True),
        ("3.1.1373.0", True, False),
        ("3.0.222.0", True, False),
        ("2.3.714.0", False, False),
        ("", None, None),
        ("newest", None, None),
    ],
)
def test_what_an_agent_can_do_depends_on_its_version(version, mux, hosts):
    node = Node("i-0", agent_version=version)
    assert (node.can_multiplex, node.can_reach_hosts) == (mux, hosts)
