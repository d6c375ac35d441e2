"""Users and passwords for Redshift: whom is asked, for what, by the host's name."""

import boto3
import pytest
from botocore.config import Config

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.databases.redshift import (
    LIFETIME,
    Warehouse,
    get_login,
    warehouse_of,
)
from ssmtunneld.errors import AwsError, RequestRejected
from tests.aws.stub import Reply
from tests.support.moto import REGION

CLUSTER = Warehouse("sales", REGION, serverless=False)
WORKGROUP = Warehouse("sales", REGION, serverless=True)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("sales.abc123.eu-west-1.redshift.amazonaws.com", CLUSTER),
        ("Sales.ABC123.EU-WEST-1.redshift.amazonaws.com.", CLUSTER),
        (
            "a-b.c1.cn-north-1.redshift.amazonaws.com.cn",
            Warehouse("a-b", "cn-north-1", serverless=False),
        ),
        ("sales.123456789012.eu-west-1.redshift-serverless.amazonaws.com", WORKGROUP),
        (
            "wg.123456789012.cn-northwest-1.redshift-serverless.amazonaws.com.cn",
            Warehouse("wg", "cn-northwest-1", serverless=True),
        ),
        (
            "sales.abc123.us-gov-west-1.redshift.amazonaws.com",
            Warehouse("sales", "us-gov-west-1", serverless=False),
        ),
        ("sales.abc123.eu-west-1.rds.amazonaws.com", None),
        ("sales.abc123.eu-west-1.redshift.amazonaws.com.evil.example", None),
        ("sales.wg.eu-west-1.redshift-serverless.amazonaws.com", None),
        ("redshift.example.internal", None),
    ],
)
def test_the_hosts_name_says_cluster_or_workgroup_and_region(host, found):
    assert warehouse_of(host) == found


@pytest.fixture
def redshift(cloud, keys, monkeypatch):
    """An account with one cluster."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT", cloud.url)
    client = boto3.client("redshift", REGION, config=Config(proxies={}))
    client.create_cluster(
        ClusterIdentifier="sales",
        NodeType="ra3.large",
        MasterUsername="admin",
        MasterUserPassword="Password1",
        ClusterType="single-node",
    )
    client.close()


def test_a_named_user_of_a_cluster_gets_a_password(redshift):
    login = get_login(Identity(), CLUSTER, "app", "dev")
    assert login.user == "IAM:app"
    assert len(login.password.reveal()) == 32
    assert login.password.reveal() not in repr(login)


def test_a_cluster_that_is_not_there_is_what_aws_says(redshift):
    with pytest.raises(AwsError, match="ClusterNotFound"):
        get_login(Identity(), Warehouse("x", REGION, serverless=False), "app", None)


def answer(user, password):
    return Reply(
        200,
        "<GetClusterCredentialsWithIAMResponse><GetClusterCredentialsWithIAMResult>"
        f"<DbUser>{user}</DbUser>{password}</GetClusterCredentialsWithIAMResult>"
        "</GetClusterCredentialsWithIAMResponse>",
    )


def test_without_a_name_the_identitys_own_user_gets_it(stub, keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT", stub.url)
    given = answer("IAMR:Developer", "<DbPassword>secret</DbPassword>")
    stub.answer("GetClusterCredentialsWithIAM", given)
    login = get_login(Identity(region="us-east-1"), CLUSTER, None, "dev")
    assert (login.user, login.password.reveal()) == ("IAMR:Developer", "secret")
    (asked,) = stub.asked
    assert asked.body["ClusterIdentifier"] == "sales"
    assert asked.body["DbName"] == "dev"
    assert asked.body["DurationSeconds"] == str(LIFETIME)
    # Signed for the region in the host's name, whatever the identity's own is.
    assert f"/{REGION}/redshift/" in asked.headers["authorization"]


def test_a_workgroup_is_asked_by_its_name(stub, keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", stub.url)
    stub.answer("GetCredentials", {"dbUser": "IAM:me", "dbPassword": "secret"})
    login = get_login(Identity(), WORKGROUP, None, None)
    assert (login.user, login.password.reveal()) == ("IAM:me", "secret")
    asked = {"workgroupName": "sales", "durationSeconds": LIFETIME}
    assert stub.calls("GetCredentials") == [asked]
    get_login(Identity(), WORKGROUP, None, "dev")
    assert stub.calls("GetCredentials")[1] == asked | {"dbName": "dev"}


def test_an_answer_without_a_password_is_refused(stub, keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT", stub.url)
    stub.answer("GetClusterCredentialsWithIAM", answer("IAM:me", ""))
    with pytest.raises(RequestRejected, match="no password"):
        get_login(Identity(), CLUSTER, None, None)
