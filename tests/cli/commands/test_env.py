"""``ssmtunneld env`` prints what database programs need, from the file alone."""

import json

import pytest

from tests.aws.conftest import stub  # noqa: F401 - this is a fixture
from tests.cli.household import Household, call, document, serving, tunnel_document
from tests.integration.world import tunnel

HOST = "orders.cluster-abc.eu-west-1.rds.amazonaws.com"


@pytest.fixture
def env(home, monkeypatch, capsys):
    """Return a function that asks for the environment of the tunnel ``db``."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    path = home / "config.toml"

    def run(*options, **settings):
        path.write_text(tunnel("db", **settings))
        return call(capsys, "env", "db", "-c", path, *options)

    run.path = path
    return run


def test_a_shell_gets_lines_to_evaluate(env):
    code, out, err = env(listen=5433, host=HOST, port=5432, db_user="app")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"export PGHOST={HOST}",
        "export PGHOSTADDR=127.0.0.1",
        "export PGPORT=5433",
        "export PGUSER=app",
        f"export DATABASE_URL='postgresql://app@{HOST}:5433/?hostaddr=127.0.0.1'",
    ]


@pytest.mark.parametrize(
    ("style", "line"),
    [
        ("shell", "export PGPORT=5433"),
        ("fish", "set -gx PGPORT '5433';"),
        ("dotenv", "PGPORT=5433"),
        ("uri", f"postgresql://{HOST}:5433/?hostaddr=127.0.0.1"),
        ("jdbc", "jdbc:postgresql://127.0.0.1:5433/"),
        ("pgservice", f"host={HOST}"),
        ("datagrip", "#LocalDataSource: db"),
    ],
)
def test_other_formats_may_be_chosen(env, style, line):
    _, out, _ = env("--format", style, listen=5433, host=HOST, port=5432)
    assert line in out.splitlines()


@pytest.mark.parametrize(
    ("kind", "variable"), [("postgres", "PGPASSWORD"), ("mysql", "MYSQL_PWD")]
)
def test_a_token_is_the_password_and_in_no_url(env, kind, variable):
    options = ("--kind", kind, "--token", "--format", "json")
    _, out, _ = env(*options, listen=5433, host=HOST, port=5432, db_user="app")
    found = json.loads(out)
    token = found.pop(variable)
    assert token.startswith(f"{HOST}:5432/?Action=connect&DBUser=app&")
    assert "X-Amz" not in json.dumps(found)


@pytest.mark.parametrize("style", ["uri", "jdbc", "pgservice", "dbeaver", "datagrip"])
def test_what_is_pasted_holds_no_token(env, style):
    options = ("--format", style, "--token")
    code, out, err = env(*options, listen=5433, host=HOST, port=5432, db_user="app")
    assert (code, out) == (2, "")
    assert "good for 15 minutes" in err


def test_what_is_to_be_known_of_a_form_goes_to_standard_error(env):
    settings = {"host": HOST, "port": 5432, "db_user": "app", "db_auth": "iam"}
    code, out, err = env("--format", "dbeaver", listen=5433, **settings)
    assert (code, out[:13]) == (0, "dbeaver -con ")
    assert err.endswith("good for 15 minutes: ssmtunneld db-token db\n")


def test_redis_takes_no_token(env):
    code, out, err = env("--token", listen=1, host=HOST, port=6379, db_user="app")
    assert (code, out) == (2, "")
    assert "redis does not support IAM passwords" in err


def test_a_free_port_comes_from_the_daemon_of_the_file(env):
    status = document(tunnel_document("db", listen=["127.0.0.1:34567"]))
    env.path.touch()
    with serving(Household(status), env.path):
        _, out, _ = env(listen=0, host=HOST, port=5432)
    assert "export PGPORT=34567" in out.splitlines()


def test_a_tunnel_whose_clients_name_the_destination_has_no_environment(env):
    settings = {"mode": "socks5", "destinations": ["*.x:443"]}
    code, out, err = env(listen=1080, **settings)
    assert (code, out) == (2, "")
    assert "has no fixed destination" in err


def test_redshifts_own_user_is_in_the_environment_and_the_url(env, stub, monkeypatch):  # noqa: F811 - the way of pytest
    answer = {"dbUser": "IAMR:Developer", "dbPassword": "a-password"}
    stub.answer("GetCredentials", answer)
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", stub.url)
    monkeypatch.setenv("NO_PROXY", "*")
    host = "sales.123456789012.eu-west-1.redshift-serverless.amazonaws.com"
    options = ("--token", "--format", "json")
    code, out, _ = env(*options, listen=5433, host=host, port=5439, db_name="dev")
    found = json.loads(out)
    assert (code, found["PGUSER"]) == (0, "IAMR:Developer")
    assert found["PGPASSWORD"] == "a-password"
    assert f"//IAMR%3ADeveloper@{host}:5433/dev?" in found["DATABASE_URL"]
    assert stub.calls("GetCredentials")[0]["dbName"] == "dev"
