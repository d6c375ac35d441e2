"""The variables of database programs: the real name where they take one."""

import pytest

from ssmtunneld.cli.database import kind_of, variables
from ssmtunneld.cli.destination import Local
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.test_destination import only

HERE = Local("127.0.0.1", 15432)


def made(kind, local=HERE, **settings):
    return variables(kind, only(listen=1, port=5432, **settings), local)


@pytest.mark.parametrize(
    ("port", "kind"),
    [(5432, "postgres"), (5439, "postgres"), (3306, "mysql"), (6379, "redis")],
)
def test_a_well_known_port_says_what_it_is(port, kind):
    assert kind_of(only(listen=1, port=port)) == kind


def test_the_configuration_knows_better_than_the_port():
    assert kind_of(only(listen=1, port=5432, db_engine="mysql")) == "mysql"


def test_another_port_says_nothing():
    with pytest.raises(CommandError) as caught:
        kind_of(only(listen=1, port=8080))
    assert caught.value.advice == "pass --kind postgres|mysql|redis, or set db_engine"


def test_postgres_gets_the_real_name_and_the_tunnels_address():
    assert made("postgres", host="db.x", db_user="a@b", db_name="o d") == {
        "PGHOST": "db.x",
        "PGHOSTADDR": "127.0.0.1",
        "PGPORT": "15432",
        "PGUSER": "a@b",
        "PGDATABASE": "o d",
        "DATABASE_URL": "postgresql://a%40b@db.x:15432/o%20d?hostaddr=127.0.0.1",
    }


def test_the_target_itself_has_no_name_of_its_own():
    assert made("postgres", Local("::1", 1)) == {
        "PGHOST": "::1",
        "PGHOSTADDR": "::1",
        "PGPORT": "1",
        "DATABASE_URL": "postgresql://[::1]:1/",
    }


def test_a_socket_with_postgres_name_is_a_folder_and_a_number():
    assert made("postgres", Local("/run/o/.s.PGSQL.5433", None), host="db.x") == {
        "PGHOST": "/run/o",
        "PGPORT": "5433",
        "DATABASE_URL": "postgresql:///?host=%2Frun%2Fo&port=5433",
    }


def test_any_other_socket_is_of_no_use_to_postgres():
    with pytest.raises(CommandError, match="cannot open"):
        made("postgres", Local("/run/o/db.sock", None))


def test_mysql_connects_to_the_tunnels_address():
    assert made("mysql", host="db.x", db_user="app") == {
        "MYSQL_HOST": "127.0.0.1",
        "MYSQL_TCP_PORT": "15432",
        "MYSQL_PORT": "15432",
        "MYSQL_USER": "app",
        "DATABASE_URL": "mysql://app@127.0.0.1:15432/",
    }


def test_redis_gets_a_url():
    assert made("redis", host="db.x", db_name="3") == {
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": "15432",
        "REDIS_URL": "redis://127.0.0.1:15432/3",
    }


@pytest.mark.parametrize("kind", ["mysql", "redis"])
def test_others_need_tcp(kind):
    with pytest.raises(CommandError, match="Unix socket only"):
        made(kind, Local("/run/x", None))
