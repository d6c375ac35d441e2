"""psql gets everything by variables; a real one is an interop test."""

import pytest

from ssmtunneld.base.secret import Secret
from ssmtunneld.cli.clients import tls
from ssmtunneld.cli.clients.postgres import prepare
from ssmtunneld.cli.destination import Local
from tests.cli.clients.conftest import task
from tests.cli.test_database import RDS


def prepared(*arguments, home="/nowhere", environ=None, **settings):
    environ = {"HOME": str(home), **(environ or {})}
    return prepare(task("postgres", "psql", *arguments, environ=environ, **settings))


def test_the_real_name_is_checked_at_the_tunnels_address():
    ours = prepared("-c", "select 1", host="db.x", db_user="app", db_name="orders")
    assert ours.words == ["psql", "-c", "select 1"]
    assert ours.variables == {
        "PGHOST": "db.x",
        "PGHOSTADDR": "127.0.1.2",
        "PGPORT": "15432",
        "PGUSER": "app",
        "PGDATABASE": "orders",
    }


def test_no_variable_of_the_users_leads_elsewhere():
    environ = {"PGSERVICE": "prod", "PGHOSTADDR": "10.0.0.1", "PGUSER": "me"}
    local = Local("/run/o/.s.PGSQL.5433", None)
    ours = prepared(local=local, environ=environ).environment(environ)
    assert ours == {"PGHOST": "/run/o", "PGPORT": "5433", "PGUSER": "me"}


def test_a_token_is_in_no_argument():
    ours = prepared(host="db.x", password=Secret.derived("token"), user="app")
    assert ours.secret == {"PGPASSWORD": "token"}
    assert "token" not in str(ours)


@pytest.mark.parametrize(
    ("settings", "environ", "mode"),
    [
        ({"host": "db.x"}, {}, None),
        ({"host": RDS}, {}, "require"),
        ({"host": RDS}, {"PGSSLMODE": "verify-full"}, "verify-full"),
        ({"host": RDS, "db_tls": "require"}, {"PGSSLMODE": "disable"}, "require"),
    ],
)
def test_what_the_user_says_of_tls_gives_way_to_the_file_only(settings, environ, mode):
    ours = prepared(environ=environ, **settings)
    assert ours.environment(environ).get("PGSSLMODE") == mode


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """The system's authorities."""
    file = tmp_path / "roots.pem"
    file.touch()
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(tls, "_SYSTEM_ROOTS", (file,))
    return str(file)


def test_a_certificate_is_checked_with_the_files_authorities(tmp_path):
    file = tmp_path / "ca.pem"
    file.touch()
    environ = {"PGSSLROOTCERT": "own.pem"}
    ours = prepared(environ=environ, host="db.x", db_ca=str(file)).environment(environ)
    assert (ours["PGSSLMODE"], ours["PGSSLROOTCERT"]) == ("verify-full", str(file))


def test_else_with_the_users_or_the_systems(roots, tmp_path):
    settings = {"host": "db.x", "db_tls": "verify-full"}
    assert prepared(**settings).variables["PGSSLROOTCERT"] == roots
    environ = {"PGSSLROOTCERT": "own.pem"}
    assert "PGSSLROOTCERT" not in prepared(environ=environ, **settings).variables
    own = tmp_path / ".postgresql" / "root.crt"
    own.parent.mkdir()
    own.touch()
    assert "PGSSLROOTCERT" not in prepared(home=tmp_path, **settings).variables
