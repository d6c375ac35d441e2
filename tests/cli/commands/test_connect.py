"""``ssmtunneld connect`` beside a daemon that is not there, with stand-in clients."""

import json
import os
import shlex
import sys

import pytest

from ssmtunneld.cli.commands import connect as module
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import Household, call, document, serving, tunnel_document
from tests.integration.terminal import Terminal
from tests.integration.world import configuration, tunnel

HOST = "orders.cluster-abc.eu-west-1.rds.amazonaws.com"
RECORD = """\
import json, os, sys
json.dump([sys.argv[1:], dict(os.environ)], open({record!r}, "w"))
sys.exit({code})
"""


@pytest.fixture
def clients(home, monkeypatch):
    """Return a function that makes clients which note how they are run."""
    folder = home / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def make(*names, code=9):
        for name in names:
            text = RECORD.format(record=str(home / name), code=code)
            words = shlex.join([sys.executable, "-c", text])
            (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            (folder / name).chmod(0o700)

    return make


@pytest.fixture
def told(home):
    """Return a function that tells a client's arguments and environment."""
    return lambda name: json.loads((home / name).read_text())


@pytest.fixture
def connect(home, monkeypatch, capfd):
    """Return a function that connects to the tunnel ``db``, which a daemon serves."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    path = home / "config.toml"
    household = Household()

    def run(*options, listen="127.0.1.2:0", **settings):
        path.write_text(tunnel("db", listen=listen, **settings))
        with serving(household, path):
            return call(capfd, "connect", "-c", path, "db", *options)

    household.documents = [document(tunnel_document(listen=["127.0.1.2:34567"]))]
    run.household = household
    return run


def test_the_client_is_run_at_the_tunnels_address_and_its_code_is_ours(
    connect, clients, told
):
    clients("psql")
    code, out, err = connect("--", "-c", "--version", host="db.x", port=5432)
    assert (code, out, err) == (9, "", "")
    words, environ = told("psql")
    assert words == ["-c", "--version"]
    assert (environ["PGHOST"], environ["PGPORT"]) == ("db.x", "34567")
    assert environ["PGHOSTADDR"] == "127.0.1.2"
    assert environ["HOME"] == os.environ["HOME"]


def test_a_client_that_fails_is_told_that_its_connection_was_refused(connect, clients):
    clients("psql", code=2)
    (now,) = connect.household.documents
    refusal = {"reason": "nobody listens", "advice": "look there", "age": 0.1}
    after = {**now["tunnels"][0], "refused": 1, "last_refusal": refusal}
    connect.household.documents = [now, now, document(after)]
    code, _, err = connect(host="db.x", port=5432)
    assert (code, "db: 1 connection to orders:5432 refused: nobody" in err) == (2, True)


def test_on_a_terminal_it_asks_which_client_where_nothing_tells(
    home, clients, told, monkeypatch
):
    clients("psql", "redis-cli", code=0)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:/bin")
    path = home / "config.toml"
    path.write_text(tunnel("db", host="db.x", port=15432))
    daemon = document(tunnel_document(listen=["127.0.1.2:34567"]), config=str(path))
    with serving(Household(daemon), path):
        words = ("-m", "ssmtunneld", "connect", "-c", path, "db")
        terminal = Terminal(*words, columns=120)
        terminal.wait_for(r"Which client for db \(db\.x:15432\)")
        terminal.wait_for("redis-cli")
        terminal.type("\r")
        terminal.wait_for(r'not asked again with db_engine = "postgres"')
        assert terminal.close() == 0
    assert told("psql")[1]["PGPORT"] == "34567"


def test_without_one_it_says_what_to_pass(connect, clients):
    clients("psql")
    code, _, err = connect(host="db.x", port=15432)
    assert code == 2
    assert "in the file, or pass --client (psql, mysql" in err
    assert err.endswith("as in: ssmtunneld connect db --client psql\n")


def test_it_waits_until_the_tunnel_is_ready(connect, clients, told):
    clients("psql", code=0)
    late = tunnel_document(state="starting", usable=False, listen=[])
    connect.household.documents.insert(0, document(late))
    assert connect(port=5432)[0] == 0
    assert told("psql")[1]["PGPORT"] == "34567"


def test_a_tunnel_that_is_not_ready_in_time_is_said(connect, clients, home):
    clients("psql")
    connect.household.documents = [document(tunnel_document(usable=False))]
    code, _, err = connect("--timeout", "10ms", port=5432)
    assert (code, "not ready within 0.01 s: db" in err) == (1, True)
    assert not (home / "psql").exists()


IAM = {"host": HOST, "port": 5432, "db_user": "app", "db_auth": "iam"}


def test_a_password_by_iam_is_in_the_environment_and_nowhere_else(
    connect, clients, told
):
    clients("psql")
    code, out, err = connect("-v", "--", "-l", **IAM)
    words, environ = told("psql")
    assert (code, out, words) == (9, "", ["-l"])
    token = environ["PGPASSWORD"]
    assert token.startswith(f"{HOST}:5432/?Action=connect&DBUser=app&")
    assert environ["PGSSLMODE"] == "require"
    shown = "PGHOSTADDR=127.0.1.2 PGPORT=34567 PGUSER=app PGSSLMODE=require"
    assert f"ssmtunneld: PGHOST={HOST} {shown} PGPASSWORD=*** " in err
    assert err.endswith("/psql -l\n")
    assert "X-Amz" not in err


def test_whoever_does_not_want_it_gets_none(connect, clients, told):
    clients("psql")
    connect("--no-token", **IAM)
    assert "PGPASSWORD" not in told("psql")[1]
    connect("--token", "--user", "me", **{**IAM, "db_auth": "password"})
    environ = told("psql")[1]
    assert environ["PGUSER"] == "me"
    assert "DBUser=me" in environ["PGPASSWORD"]


@pytest.mark.parametrize(
    ("options", "settings", "words"),
    [
        (("--token",), {}, "redis does not support IAM passwords; omit --token"),
        ((), {"db_auth": "iam"}, 'IAM passwords; set db_auth = "password"'),
    ],
)
def test_not_every_database_has_passwords_by_iam(
    connect, clients, options, settings, words
):
    clients("redis-cli")
    code, _, err = connect(*options, host="r.x", port=6379, **settings)
    assert code == 2
    assert words in err


def test_a_browser_takes_no_user(connect, clients):
    clients("xdg-open")
    code, _, err = connect("--user", "me", port=80)
    assert (code, "--user is not for browser" in err) == (2, True)


def test_db_auth_is_not_for_what_is_no_database(connect, clients, told):
    clients("ssh")
    assert connect("--", "uptime", port=22, db_auth="iam")[0] == 9
    assert told("ssh")[0][-1] == "uptime"


def test_another_client_may_be_named(connect, clients, told):
    clients("psql", "pg_dump")
    assert connect("--client", "pg_dump", "--", "-Fc", port=5432)[0] == 9
    assert told("pg_dump")[0] == ["-Fc"]


def test_without_a_client_nothing_is_waited_for(connect, monkeypatch, home):
    monkeypatch.setenv("PATH", str(home / "bin"))
    connect.household.documents = [document(tunnel_document(usable=False))]
    code, _, err = connect(port=27017)
    assert code == 127
    assert "there is no mongosh on this machine; install it: https://" in err


def test_a_tunnel_whose_clients_name_the_destination_has_no_client(connect):
    settings = {"mode": "socks5", "destinations": ["*.x:443"]}
    code, _, err = connect(**settings)
    cure = "name 127.0.1.2:0 to your program as its SOCKS 5 proxy"
    assert (code, cure in err) == (2, True), err


def test_what_is_completed_are_the_clients():
    found = module._complete_clients(None, None, "m")
    assert [item.value for item in found] == ["mysql", "mariadb", "mongosh"]


URL = "http://127.0.1.2:34567/"
NOT_OPENED = f"ssmtunneld: no browser here opens {URL}"


@pytest.fixture
def opener(clients, home, monkeypatch):
    """Return a function that makes the only program which could open a page."""
    monkeypatch.setenv("PATH", str(home / "bin"))

    def make(script):
        path = home / "bin" / "xdg-open"
        path.write_text(f"#!/bin/sh\necho 'www-browser: not found' >&2\n{script}\n")
        path.chmod(0o700)

    return make


def test_where_no_browser_opens_a_page_its_url_is_said(connect, opener):
    opener("exit 3")
    code, out, err = connect(port=8080)
    assert (code, out) == (1, "")
    assert err == f"{NOT_OPENED} (xdg-open has exited with 3); open it yourself\n"
    code, _, err = connect("-v", port=8080)
    assert (code, len(err.splitlines())) == (1, 3)
    assert "www-browser: not found" in err


@pytest.mark.parametrize("host", [{}, {"host": "wiki.x"}])
def test_where_there_is_no_browser_at_all_the_url_is_said(
    connect, opener, monkeypatch, host
):
    monkeypatch.setattr("sys.platform", "linux")  # macOS always has an opener
    code, out, err = connect("-v", port=8080, **host)
    assert (code, out, err) == (1, "", f"{NOT_OPENED}; open it yourself\n")


def test_what_opens_a_page_says_nothing_and_its_end_by_a_signal_is_ours(
    connect, opener
):
    opener('echo "$1"')
    assert connect(port=8080) == (0, f"{URL}\n", "")
    opener("kill -KILL $$")
    assert connect(port=8080) == (137, "", "")


@pytest.fixture
def own(home, monkeypatch):
    """A file for whose tunnel no daemon runs, and an emulator."""
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        path = home / "config.toml"
        text = configuration(emulator.endpoint_url, tunnel("web", port=8080))
        path.write_text(text)
        yield path


def test_without_a_daemon_there_is_one_as_long_as_the_client_runs(
    own, clients, told, capfd
):
    clients("psql", code=4)
    code, _, _ = call(capfd, "connect", "-c", own, "web", "--client", "psql")
    assert code == 4
    assert told("psql")[1]["PGHOSTADDR"] == "127.0.0.1"


@pytest.mark.parametrize(("script", "code"), [("", 0), ("exit 3", 1)])
def test_our_own_daemon_stays_for_a_page_whoever_opens_it(
    own, opener, capfd, monkeypatch, script, code
):
    stayed = []
    monkeypatch.setattr(module, "_stay", stayed.append)
    opener(script)
    assert call(capfd, "connect", "-c", own, "web")[0] == code
    assert len(stayed) == 1
