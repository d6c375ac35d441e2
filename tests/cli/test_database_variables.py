"""The variables of database programs: the real name where they take one."""

import pytest

from ssmtunneld.base.secret import Secret
from ssmtunneld.cli.database_variables import (
    password_variables,
    takes_iam_password,
    variables,
)
from ssmtunneld.cli.destination import Local
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.test_database import made

SOCKET = Local("/run/x", None)


def test_postgres_gets_the_real_name_and_the_tunnels_address():
    assert variables(made(host="db.x", db_user="a@b", db_name="o d")) == {
        "PGHOST": "db.x",
        "PGHOSTADDR": "127.0.1.2",
        "PGPORT": "15432",
        "PGUSER": "a@b",
        "PGDATABASE": "o d",
        "DATABASE_URL": "postgresql://a%40b@db.x:15432/o%20d?hostaddr=127.0.1.2",
    }


def test_postgres_gets_tls_only_if_the_file_says_so():
    found = variables(made(host="db.x", db_tls="verify-ca", db_ca="/ca.pem"))
    assert (found["PGSSLMODE"], found["PGSSLROOTCERT"]) == ("verify-ca", "/ca.pem")


def test_the_target_itself_has_no_name_of_its_own():
    assert variables(made(local=Local("::1", 1))) == {
        "PGHOST": "::1",
        "PGHOSTADDR": "::1",
        "PGPORT": "1",
        "DATABASE_URL": "postgresql://[::1]:1/",
    }


def test_a_socket_with_postgres_name_is_a_folder_and_a_number():
    assert variables(made(local=Local("/run/o/.s.PGSQL.5433", None), host="db.x")) == {
        "PGHOST": "/run/o",
        "PGPORT": "5433",
        "DATABASE_URL": "postgresql:///?host=%2Frun%2Fo&port=5433",
    }


@pytest.mark.parametrize(("named", "host"), [(False, "127.0.1.2"), (True, "db.x")])
def test_mysql_has_the_real_name_only_where_it_leads_here(named, host):
    found = made("mysql", host="db.x", db_user="app", db_ca="/ca.pem", named=named)
    assert variables(found) == {
        "MYSQL_HOST": host,
        "MYSQL_TCP_PORT": "15432",
        "MYSQL_PORT": "15432",
        "MYSQL_USER": "app",
        "DATABASE_URL": f"mysql://app@{host}:15432/",
    }


def test_redis_gets_a_url():
    assert variables(made("redis", host="db.x", db_name="3")) == {
        "REDIS_HOST": "127.0.1.2",
        "REDIS_PORT": "15432",
        "REDIS_URL": "redis://127.0.1.2:15432/3",
    }


def test_mongodb_gets_a_uri():
    uri = "mongodb://127.0.1.2:15432/?directConnection=true"
    assert variables(made("mongodb", host="m.x")) == {"MONGODB_URI": uri}


def test_sql_server_gets_what_sqlcmd_reads():
    assert variables(made("sqlserver", host="s.x", db_user="sa", db_name="o")) == {
        "SQLCMDSERVER": "tcp:127.0.1.2,15432",
        "SQLCMDUSER": "sa",
        "SQLCMDDBNAME": "o",
        "DATABASE_URL": "sqlserver://sa@127.0.1.2:15432/?database=o",
    }


@pytest.mark.parametrize("kind", ["mysql", "redis", "mongodb", "sqlserver"])
def test_others_need_tcp(kind):
    with pytest.raises(CommandError, match="Unix socket only"):
        variables(made(kind, SOCKET))


def test_a_password_is_where_programs_look_for_it():
    token = Secret.derived("token")
    assert password_variables("postgres", token) == {"PGPASSWORD": "token"}
    assert password_variables("mysql", token) == {
        "MYSQL_PWD": "token",
        "LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN": "1",
    }
    assert password_variables("redis", token) == {}
    assert [takes_iam_password(kind) for kind in ("mysql", "redis")] == [True, False]
