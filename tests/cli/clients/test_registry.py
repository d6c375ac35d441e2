"""The client that fits: what is spoken, what is wanted, what is installed."""

import pytest

from ssmtunneld.base.secret import Secret
from ssmtunneld.cli.application_protocol import DATABASES, HTTP, KUBERNETES, SSH
from ssmtunneld.cli.clients.registry import CLIENTS, NAMES, choose, installed
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.clients.conftest import task
from tests.cli.test_destination import only


@pytest.fixture
def choice(stand_in, tmp_path, monkeypatch):
    """Return a function that chooses among the programs that are installed."""
    monkeypatch.setattr("sys.platform", "linux")

    def run(*installed, wanted=None, **settings):
        for name in installed:
            stand_in(name)
        tunnel = only(listen=1, **settings)
        return choose(tunnel, wanted, {"PATH": str(tmp_path / "bin")})

    return run


def test_there_is_a_client_for_everything():
    assert {client.protocol for client in CLIENTS} == {
        *DATABASES,
        SSH,
        KUBERNETES,
        HTTP,
    }
    assert all(client.package.page for client in CLIENTS)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("settings", "installed", "expected"),
    [
        ({"port": 5432}, ["psql"], "psql"),
        ({"port": 3306}, ["mariadb"], "mariadb"),
        ({"port": 3306}, ["mariadb", "mysql"], "mysql"),
        ({"port": 7, "probe": "redis"}, ["valkey-cli"], "valkey-cli"),
        ({"port": 7, "db_engine": "sqlserver"}, ["sqlcmd"], "sqlcmd"),
        ({"port": 22}, ["ssh"], "ssh"),
        ({"port": 6443}, ["kubectl"], "kubectl"),
        ({"port": 80}, ["chromium", "xdg-open"], "browser"),
        ({"port": 80, "host": "w.x"}, ["google-chrome", "xdg-open"], "chromium"),
        ({"port": 80, "host": "w.x"}, ["xdg-open"], "browser"),
    ],
)
def test_the_first_that_fits_and_is_there_is_taken(
    choice, tmp_path, settings, installed, expected
):
    found = choice(*installed, **settings)
    assert found.client.name == expected
    assert found.program.startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "words", "advice"),
    [
        ({"port": 5432}, "no psql on", "sudo apt-get install postgresql-client"),
        ({"port": 6379}, "no redis-cli or valkey-cli on", "install redis-tools"),
        ({"port": 27017}, "no mongosh on", "https://www.mongodb.com/"),
        ({"port": 5432, "wanted": "mariadb"}, "no mariadb on", "mariadb-client"),
        ({"port": 5432, "wanted": "/a/psql"}, "no /a/psql on", "postgresql-client"),
    ],
)
def test_without_one_it_is_said_what_to_install(choice, settings, words, advice):
    with pytest.raises(CommandError, match=words) as caught:
        choice("apt-get", **settings)
    assert caught.value.code == 127
    assert advice in caught.value.advice


@pytest.mark.parametrize("settings", [{}, {"host": "wiki.x"}])
def test_a_page_can_be_told_where_no_browser_is(choice, settings):
    found = choice(port=80, **settings)
    assert (found.client.name, found.program) == ("browser", "")
    with pytest.raises(CommandError, match="no browser on this machine") as caught:
        choice(wanted="browser", port=80, **settings)
    assert caught.value.code == 127


def test_what_tells_nothing_is_an_error(choice):
    with pytest.raises(CommandError, match=r"which client fits db \(x:7\)") as caught:
        choice(host="x", port=7)
    assert caught.value.code == 2
    assert "pass --client (psql, mysql, " in caught.value.advice
    assert "as in: ssmtunneld connect db --client psql" in caught.value.advice
    assert 'db_engine = "postgres" (mysql, redis, ' in caught.value.advice


def test_of_each_protocol_one_client_is_offered_that_is_here(stand_in, tmp_path):
    for name in ("mariadb", "mysql", "valkey-cli"):
        stand_in(name)
    found = installed({"PATH": str(tmp_path / "bin")})
    assert [client.name for client in found] == ["mysql", "valkey-cli"]


@pytest.mark.parametrize(
    ("wanted", "expected"), [("redis-cli", "redis-cli"), ("google-chrome", "chromium")]
)
def test_the_user_knows_better(choice, wanted, expected):
    found = choice(wanted, wanted=wanted, port=5432)
    assert found.client.name == expected
    assert found.program.endswith(f"/bin/{wanted}")


def test_a_client_may_be_somewhere_else(choice, stand_in):
    path = stand_in("psql")
    found = choice(wanted=path, port=7)
    assert (found.client.name, found.program) == ("psql", path)


def test_whatever_is_on_libpq_connects_by_its_variables(choice):
    found = choice("pg_dump", wanted="pg_dump", port=5432)
    password = Secret.derived("token")
    ours = found.client.prepare(task("postgres", "pg_dump", "-Fc", password=password))
    assert (ours.words, ours.secret) == (["pg_dump", "-Fc"], {"PGPASSWORD": "token"})
    assert ours.variables["PGHOSTADDR"] == "127.0.1.2"


@pytest.mark.parametrize("name", ["mysqldump", "mariadb-dump", "mysqladmin"])
def test_the_tools_of_mysql_take_its_options(choice, name):
    found = choice(name, wanted=name, port=3306)
    ours = found.client.prepare(task("mysql", found.program, "x", db_name="orders"))
    assert ours.words[1:] == [
        "--protocol=TCP",
        "--host=127.0.1.2",
        "--port=15432",
        "x",
    ]


@pytest.mark.parametrize(
    ("wanted", "port"), [("nc", 22), ("mycli", 3306), ("redis-benchmark", 6379)]
)
def test_others_might_connect_to_something_else(choice, wanted, port):
    with pytest.raises(CommandError, match=f"{wanted} is none of psql, ") as caught:
        choice(wanted, wanted=wanted, port=port)
    assert caught.value.advice.endswith(f"ssmtunneld exec -t db -- {wanted}")


def test_a_mistyped_client_is_corrected(choice):
    with pytest.raises(CommandError, match="no psgl on this machine") as caught:
        choice(wanted="psgl", port=5432)
    assert (caught.value.advice, caught.value.code) == ("did you mean psql?", 127)
    with pytest.raises(CommandError) as caught:
        choice(wanted="zzz", port=5432)
    assert caught.value.advice.startswith("try psql, ")
