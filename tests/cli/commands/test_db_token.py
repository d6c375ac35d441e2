"""``ssmtunneld db-token`` prints a token and nothing else, or says what is missing."""

import pytest

from tests.aws.conftest import stub  # noqa: F401 - this is a fixture
from tests.aws.stub import error
from tests.cli.household import call
from tests.integration.world import tunnel

HOST = "orders.cluster-abc.eu-west-1.rds.amazonaws.com"


@pytest.fixture
def token(home, monkeypatch, capsys):
    """Return a function that asks for a token of the tunnel ``db``."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    path = home / "config.toml"

    def run(*options, **settings):
        path.write_text(tunnel("db", listen=0, **settings))
        return call(capsys, "db-token", "db", "-c", path, *options)

    return run


def test_only_the_token_goes_to_standard_output(token):
    code, out, err = token(host=HOST, port=5432, db_user="app")
    assert (code, err) == (0, "")
    assert out.startswith(f"{HOST}:5432/?Action=connect&DBUser=app&X-Amz-Algorithm=")
    assert out.count("\n") == 1
    assert "%2Feu-west-1%2Frds-db%2F" in out


def test_another_user_may_be_named(token):
    _, out, _ = token("--user", "me", host=HOST, port=5432, db_user="app")
    assert "&DBUser=me&" in out


def test_without_a_user_there_is_no_token(token):
    code, out, err = token(host=HOST, port=5432)
    assert (code, out) == (2, "")
    assert err.endswith("set db_user, or pass --user USER\n")


def test_the_target_itself_is_no_database_of_rds(token):
    code, out, err = token(port=5432, db_user="app")
    assert (code, out) == (2, "")
    assert "set host and port of the tunnel" in err


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "redis.internal", "port": 6379},
        {"host": "redis.internal", "port": 7000, "db_engine": "redis"},
        {"host": "master.c.abc123.euw1.cache.amazonaws.com", "port": 7000},
        {"host": "clustercfg.m.abc123.memorydb.eu-west-1.amazonaws.com", "port": 1},
    ],
)
def test_redis_does_not_get_a_token_of_rds(token, settings):
    code, out, err = token(db_user="app", **settings)
    assert (code, out) == (2, "")
    assert "leads to Redis or Valkey" in err


def test_an_engine_that_is_named_is_believed(token):
    _, out, _ = token(host=HOST, port=6379, db_user="app", db_engine="postgres")
    assert "Action=connect" in out


@pytest.fixture
def serverless(stub, monkeypatch):  # noqa: F811 - the way of pytest
    """Answer for Redshift Serverless; return the host of a workgroup there."""
    answer = {"dbUser": "IAMR:Developer", "dbPassword": "a-password"}
    stub.answer("GetCredentials", answer)
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", stub.url)
    monkeypatch.setenv("NO_PROXY", "*")
    return "sales.123456789012.eu-west-1.redshift-serverless.amazonaws.com"


def test_redshifts_user_is_named_beside_the_password(token, serverless):
    code, out, err = token(host=serverless, port=5439)
    assert (code, out) == (0, "a-password\n")
    assert err == "ssmtunneld: the user is IAMR:Developer\n"


def test_nobody_chooses_the_user_where_redshift_is_serverless(token, serverless):
    code, out, err = token("--user", "me", host=serverless, port=5439)
    assert (code, out) == (2, "")
    assert "omit --user" in err


def test_what_redshift_refuses_is_told_with_the_policys_place(token, serverless, stub):  # noqa: F811 - the way of pytest
    said = "User: arn:aws:iam::1:user/a is not authorized to perform: "
    said += "redshift-serverless:GetCredentials on resource: arn:aws:r:::workgroup/x"
    stub.answer("GetCredentials", error("AccessDeniedException", said))
    code, out, err = token(host=serverless, port=5439)
    assert (code, out) == (4, "")
    assert "allow redshift-serverless:GetCredentials on arn:aws:r:::workgroup/x" in err
    assert "docs/iam.md#passwords-for-databases" in err
