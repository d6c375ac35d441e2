"""URIs, read back by Python's own parser; libpq reads its own in an interop test."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from ssmtunneld.cli.database_uris import libpq_parameters, mysql_uri, uri
from ssmtunneld.cli.destination import Local
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.test_database import made

ODD = {"db_user": "a@b/c", "db_name": "o d?#"}


def parameters(text):
    return {key: values[0] for key, values in parse_qs(urlsplit(text).query).items()}


@pytest.mark.parametrize("kind", ["postgres", "mysql", "redis", "mongodb"])
def test_user_and_name_survive(kind):
    found = urlsplit(uri(made(kind, host="db.x", **ODD)))
    assert unquote(found.username) == "a@b/c"
    assert unquote(found.path) == "/o d?#"
    assert found.port == 15432


def test_a_postgres_has_its_own_name_and_the_tunnels_address():
    ours = uri(made(host="db.x", db_user="app", db_name="orders"))
    assert ours == "postgresql://app@db.x:15432/orders?hostaddr=127.0.1.2"
    assert uri(made(local=Local("::1", 1))) == "postgresql://[::1]:1/"


def test_a_postgres_says_how_far_tls_goes():
    found = parameters(uri(made(host="db.x", db_ca="/a b/ca.pem")))
    assert found["sslmode"] == "verify-full"
    assert found["sslrootcert"] == "/a b/ca.pem"
    # Of these, libpq reads + as it stands.
    assert "a%20b" in uri(made(host="db.x", db_ca="/a b/ca.pem"))


def test_a_socket_with_postgres_name_is_a_folder_and_a_number():
    database = made(local=Local("/run/o/.s.PGSQL.5433", None), db_tls="require")
    assert uri(database) == "postgresql:///?host=%2Frun%2Fo&port=5433"
    assert libpq_parameters(database) == {"host": "/run/o", "port": "5433"}


def test_any_other_socket_is_of_no_use_to_postgres():
    with pytest.raises(CommandError, match="cannot open"):
        uri(made(local=Local("/run/o/db.sock", None)))


def test_mysql_checks_the_name_only_where_it_leads_here():
    settings = {"host": "db.x", "db_ca": "/ca.pem"}
    assert uri(made("mysql", **settings)) == (
        "mysql://127.0.1.2:15432/?ssl-mode=VERIFY_CA&ssl-ca=%2Fca.pem"
    )
    assert uri(made("mysql", named=True, **settings)) == (
        "mysql://db.x:15432/?ssl-mode=VERIFY_IDENTITY&ssl-ca=%2Fca.pem"
    )
    assert mysql_uri(made("mysql", **settings), tls=False) == "mysql://127.0.1.2:15432/"


@pytest.mark.parametrize(
    ("settings", "scheme"),
    [
        ({"host": "r.x"}, "redis"),
        ({"host": "r.x", "db_tls": "disable", "db_ca": "/ca.pem"}, "redis"),
        ({"host": "r.x", "db_tls": "require"}, "rediss"),
        ({"host": "master.c.a.euw1.cache.amazonaws.com"}, "rediss"),
    ],
)
def test_redis_says_it_by_the_scheme(settings, scheme):
    found = uri(made("redis", db_name="3", **settings))
    assert found == f"{scheme}://127.0.1.2:15432/3"


@pytest.mark.parametrize(
    ("named", "settings", "expected"),
    [
        (False, {}, {}),
        (False, {"db_tls": "disable"}, {"tls": "false"}),
        (
            False,
            {"db_tls": "require"},
            {"tls": "true", "tlsAllowInvalidCertificates": "true"},
        ),
        (
            False,
            {"db_ca": "/ca.pem"},
            {"tls": "true", "tlsCAFile": "/ca.pem", "tlsAllowInvalidHostnames": "true"},
        ),
        (True, {"db_ca": "/ca.pem"}, {"tls": "true", "tlsCAFile": "/ca.pem"}),
    ],
)
def test_mongodb_goes_nowhere_but_through_the_tunnel(named, settings, expected):
    found = parameters(uri(made("mongodb", host="m.x", named=named, **settings)))
    assert found == {"directConnection": "true", **expected}


def test_documentdb_is_not_quite_mongodb():
    host = "d.cluster-a.eu-west-1.docdb.amazonaws.com"
    found = parameters(uri(made("mongodb", host=host)))
    assert (found["retryWrites"], found["authSource"]) == ("false", "admin")
    assert found["tls"] == "true"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {}),
        ({"db_tls": "disable"}, {"encrypt": "disable"}),
        ({"db_tls": "require"}, {"encrypt": "true", "TrustServerCertificate": "true"}),
        (
            {"db_ca": "/ca.pem"},
            {
                "encrypt": "true",
                "hostNameInCertificate": "s.x",
                "certificate": "/ca.pem",
            },
        ),
    ],
)
def test_sql_server_is_told_the_name_in_the_certificate(settings, expected):
    found = uri(made("sqlserver", host="s.x", db_name="o d", db_user="sa", **settings))
    assert parameters(found) == {"database": "o d", **expected}
    assert found.startswith("sqlserver://sa@127.0.1.2:15432/?")
