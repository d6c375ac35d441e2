"""Database tokens are byte for byte what the SDK signs, for the destination's name."""

from datetime import UTC, datetime

import boto3
import pytest

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.aws.databases.rds_tokens import region_of, sign_database_token
from ssmtunneld.errors import AwsError, CredentialsUnusable
from tests.aws.conftest import ACCESS_KEY

HOST = "orders.cluster-abc.eu-central-1.rds.amazonaws.com"
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def noon(monkeypatch):
    """The clock of botocore's signer stands still."""
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: NOON)


@pytest.mark.parametrize("user", ["app", "iam user+é/=&%"])
@pytest.mark.parametrize("port", [5432, 443])
def test_the_token_is_what_the_sdk_signs(keys, noon, user, port):
    rds = boto3.Session().client("rds", region_name="eu-central-1")
    wanted = rds.generate_db_auth_token(HOST, port, user)
    token = sign_database_token(Identity(), HOST, port, user)
    assert token.reveal() == wanted
    assert f"{ACCESS_KEY}%2F20261122%2Feu-central-1%2Frds-db" in wanted


def test_keys_without_a_session_token_sign_as_the_sdk_does(keys, noon, monkeypatch):
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    rds = boto3.Session().client("rds", region_name="us-east-1")
    wanted = rds.generate_db_auth_token("db.example.internal", 3306, "app")
    identity = Identity(region="us-east-1")
    token = sign_database_token(identity, "db.example.internal", 3306, "app")
    assert token.reveal() == wanted
    assert "Security-Token" not in wanted


def test_a_region_in_the_hosts_name_counts_more_than_the_identitys(keys, noon):
    token = sign_database_token(Identity(region="us-east-1"), HOST, 5432, "app")
    assert "%2Feu-central-1%2Frds-db%2F" in token.reveal()


@pytest.mark.parametrize(
    ("host", "region"),
    [
        (HOST, "eu-central-1"),
        ("DB.abc.US-EAST-1.rds.amazonaws.com.", "us-east-1"),
        ("db.abc.cn-north-1.rds.amazonaws.com.cn", "cn-north-1"),
        ("db.proxy-abc.us-gov-west-1.rds.amazonaws.com", "us-gov-west-1"),
        ("db.example.internal", None),
        ("cache.abc.euw1.cache.amazonaws.com", None),
        ("eu-west-1.rds.amazonaws.com", None),
    ],
)
def test_the_region_is_read_from_names_of_rds_only(host, region):
    assert region_of(host) == region


def test_without_credentials_nothing_is_signed(aws_files):
    with pytest.raises(CredentialsUnusable, match="there are no AWS credentials"):
        sign_database_token(Identity(), HOST, 5432, "app")


def test_a_name_without_a_region_needs_one_from_elsewhere(keys):
    with pytest.raises(AwsError) as caught:
        sign_database_token(Identity(), "db.example.internal", 5432, "app")
    assert "region" in caught.value.advice


def test_a_token_does_not_print(keys):
    token = sign_database_token(Identity(), HOST, 5432, "app")
    assert "X-Amz" not in f"{token} {token!r}"
