"""EKS clusters by name: moto's, and what no service should say."""

import base64

import pytest

from ssmtunneld.aws.api.permissions import section
from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.client import AwsClient
from ssmtunneld.aws.clusters import FRESH, Cluster, ClusterEndpoints, describe_cluster
from ssmtunneld.errors import AccessDenied, RequestRejected, Throttled
from tests.aws.stub import Reply, error
from tests.support.moto import REGION

HOST = "0A1B2C.gr7.eu-west-1.eks.amazonaws.com"
AUTHORITY = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()
ASKED = "GET /clusters/prod"


@pytest.fixture
def account(stub, keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", stub.url)
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    yield account
    account.close()


def answer(**changes):
    cluster = {
        "name": "prod",
        "status": "ACTIVE",
        "endpoint": f"https://{HOST}",
        "certificateAuthority": {"data": AUTHORITY},
    }
    return {"cluster": {**cluster, **changes}}


def test_a_cluster_of_the_account_is_found(account, cloud, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", cloud.url)
    eks = cloud.client("eks")
    subnet = cloud.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    made = eks.create_cluster(
        name="prod",
        roleArn="arn:aws:iam::123456789012:role/eks",
        resourcesVpcConfig={"subnetIds": [subnet]},
    )["cluster"]
    eks.close()
    found = describe_cluster(account, "prod")
    assert found.authority == made["certificateAuthority"]["data"]
    assert made["endpoint"].lower().rstrip("/") == f"https://{found.host}"
    assert (found.name, found.port) == ("prod", 443)


def test_a_cluster_that_is_not_there_is_told_with_region_and_profile(
    account, cloud, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", cloud.url)
    with pytest.raises(RequestRejected) as caught:
        describe_cluster(account, "prod")
    assert caught.value.code == "ResourceNotFoundException"
    assert "prod" in str(caught.value)
    assert caught.value.advice == (
        f"check its name, and that it is in {REGION} and in the account of profile "
        "default"
    )


def test_name_port_and_certificates_are_those_of_the_answer(account, stub):
    stub.answer(ASKED, answer(), answer(endpoint=f"https://{HOST}:8443/"))
    found = describe_cluster(account, "prod")
    assert found == Cluster("prod", HOST.lower(), 443, AUTHORITY)
    assert describe_cluster(account, "prod").port == 8443


@pytest.mark.parametrize("data", ["", "-----BEGIN", "AAA", 7, None, "A" * 70_000])
def test_certificates_that_are_none_are_left_out(account, stub, data):
    stub.answer(ASKED, answer(certificateAuthority={"data": data}))
    assert describe_cluster(account, "prod").authority == ""


@pytest.mark.parametrize(
    "endpoint",
    ["", None, "http://x", "https://", "https://a b", "https://x@y", "https://-x/y"],
)
def test_without_an_endpoint_the_status_is_told(account, stub, endpoint):
    stub.answer(ASKED, answer(endpoint=endpoint, status="CREATING"))
    with pytest.raises(RequestRejected) as caught:
        describe_cluster(account, "prod")
    assert "cluster prod has no endpoint; its status is CREATING" in str(caught.value)
    assert "ACTIVE" in caught.value.advice


def test_what_is_denied_is_told_with_the_policys_place(account, stub):
    said = "User: arn:aws:iam::1:user/a is not authorized to perform: "
    said += "eks:DescribeCluster on resource: arn:aws:eks:::cluster/prod"
    stub.answer(ASKED, error("AccessDeniedException", said, 403))
    with pytest.raises(AccessDenied) as caught:
        describe_cluster(account, "prod")
    assert caught.value.advice == (
        "allow eks:DescribeCluster on arn:aws:eks:::cluster/prod "
        f"(see {section('Looking clusters up')})"
    )


def test_keys_of_an_emulator_are_not_sent_to_aws(stub, keys):
    account = AwsClient(Identity(region=REGION, endpoint_url=stub.url))
    try:
        with pytest.raises(RequestRejected, match="SSM is an emulator here") as caught:
            describe_cluster(account, "prod")
    finally:
        account.close()
    assert "AWS_ENDPOINT_URL_EKS" in caught.value.advice


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_an_endpoint_is_remembered_for_a_minute(account, stub):
    clock = Clock()
    endpoints = ClusterEndpoints(clock)
    stub.answer(ASKED, answer(), answer(endpoint="https://other"))
    assert endpoints.find(account, "prod") == HOST.lower()
    clock.now += FRESH - 1
    assert endpoints.find(account, "prod") == HOST.lower()
    clock.now += 1
    assert endpoints.find(account, "prod") == "other"
    clock.now -= 3600  # the machine's clock was put right
    stub.answer(ASKED, answer())
    assert endpoints.find(account, "prod") == HOST.lower()


def test_what_is_known_is_used_while_eks_does_not_answer(account, stub):
    clock = Clock()
    endpoints = ClusterEndpoints(clock)
    stub.answer(ASKED, answer())
    endpoints.find(account, "prod")
    clock.now += FRESH
    for trouble in (error("ThrottlingException"), Reply(503, {})):
        stub.answer(ASKED, trouble)
        assert endpoints.find(account, "prod") == HOST.lower()
    stub.answer(ASKED, error("ResourceNotFoundException", status=404))
    with pytest.raises(RequestRejected):
        endpoints.find(account, "prod")
    stub.answer("GET /clusters/new", error("ThrottlingException"))
    with pytest.raises(Throttled):
        endpoints.find(account, "new")
