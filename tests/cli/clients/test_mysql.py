"""MySQL's client and MariaDB's; the latter is run for real in an interop test."""

import pytest

from ssmtunneld.base.secret import Secret
from ssmtunneld.cli import hosts_block
from ssmtunneld.cli.clients.mysql import mariadb_version, prepare
from ssmtunneld.cli.destination import Local
from ssmtunneld.cli.exit_codes import CommandError
from tests.cli.clients.conftest import task

MYSQL = "mysql  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)"
OLD = "mariadb  Ver 15.1 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)"
NEW = "mariadb from 11.8.3-MariaDB, client 15.2 for debian-linux-gnu (x86_64)"
OPTIONS = "mysql would have been started with the following arguments:\n--port=1 "
TOKEN = Secret.derived("token")
TO = ["--protocol=TCP", "--host=127.0.1.2", "--port=15432"]


@pytest.fixture
def prepared(stand_in):
    """Return a function that prepares a client, and returns its words but the first."""

    def run(*arguments, version=MYSQL, options=OPTIONS, **settings):
        program = stand_in("mysql", version=version, print_defaults=options)
        ours = prepare(task("mysql", program, *arguments, **settings))
        assert ours.words[0] == program
        return ours.words[1:], ours.secret

    return run


@pytest.mark.parametrize(
    ("text", "version"), [(MYSQL, None), (OLD, (10, 11)), (NEW, (11, 8)), ("", None)]
)
def test_a_version_tells_the_two_apart(text, version):
    assert mariadb_version(text) == version


def test_it_connects_to_the_tunnels_address(prepared):
    words, secret = prepared("-e", "select 1", db_user="app", db_name="orders")
    ours = [*TO, "--user=app", "--database=orders"]
    assert (words, secret) == ([*ours, "-e", "select 1"], {})


def test_a_socket_is_a_socket(prepared):
    words, _ = prepared(local=Local("/run/m", None), db_tls="require")
    assert words == ["--socket=/run/m"]


def test_what_says_which_files_are_read_stays_in_front(prepared):
    words, _ = prepared("--defaults-file=x", "--no-defaults", "-e", "1")
    assert words == ["--defaults-file=x", "--no-defaults", *TO, "-e", "1"]


def test_a_token_is_a_variable_and_in_no_argument(prepared):
    words, secret = prepared(password=TOKEN, user="app", db_tls="require")
    assert words == [*TO, "--ssl-mode=REQUIRED", "--user=app"]
    assert secret["MYSQL_PWD"] == "token"


def test_a_password_in_a_file_would_come_before_a_token(prepared):
    options = f"{OPTIONS}--password=***** "
    words, _ = prepared(password=TOKEN, user="app", options=options)
    assert words == ["--no-defaults", *TO, "--user=app"]


ASKED = {"asks": True, "db_user": "app"}


@pytest.mark.parametrize(
    ("arguments", "given", "asked"),
    [
        ((), {}, True),
        ((), {"asks": False}, False),
        ((), {"options": f"{OPTIONS}--password=x "}, False),
        ((), {"environ": {"MYSQL_PWD": "x"}}, False),
        (("-px",), {}, False),
        (("--skip-password",), {}, False),
        (("--login-path=x",), {}, False),
        (("--port=1",), {}, True),
    ],
)
def test_a_password_is_asked_for_if_nothing_else_has_it(
    prepared, arguments, given, asked
):
    words, _ = prepared(*arguments, **{**ASKED, **given})
    assert ("--password" in words) is asked


NO_CHECK = "--skip-ssl-verify-server-cert"
CHECK = "--ssl-verify-server-cert"


@pytest.mark.parametrize(
    ("version", "level", "named", "expected"),
    [
        (MYSQL, "disable", False, ["--ssl-mode=DISABLED"]),
        (MYSQL, "require", False, ["--ssl-mode=REQUIRED"]),
        (MYSQL, "verify-ca", False, ["--ssl-mode=VERIFY_CA", "--ssl-ca=CA"]),
        (MYSQL, "verify-full", True, ["--ssl-mode=VERIFY_IDENTITY", "--ssl-ca=CA"]),
        (OLD, "disable", False, ["--skip-ssl"]),
        (OLD, "require", False, ["--ssl", NO_CHECK]),
        (OLD, "verify-ca", False, ["--ssl", "--ssl-ca=CA", NO_CHECK]),
        (OLD, "verify-full", True, ["--ssl", "--ssl-ca=CA", CHECK]),
        (NEW, "require", False, ["--ssl", NO_CHECK]),
        (NEW, "verify-ca", False, ["--ssl", "--ssl-ca=CA", CHECK]),
        (NEW, "verify-full", True, ["--ssl", "--ssl-ca=CA", CHECK]),
    ],
)
def test_each_has_its_own_words_for_tls(
    prepared, tmp_path, monkeypatch, version, level, named, expected
):
    file = tmp_path / "ca.pem"
    file.touch()
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.1.2 db.x\n" if named else "")
    monkeypatch.setattr(hosts_block, "HOSTS_FILE", hosts)
    settings = {"host": "db.x", "db_tls": level, "db_ca": str(file)}
    words, _ = prepared(version=version, **settings)
    to = ["--protocol=TCP", "--host=db.x" if named else TO[1], TO[2]]
    assert [word.replace(str(file), "CA") for word in words] == [*to, *expected]


def test_a_name_that_does_not_lead_here_cannot_be_checked(prepared):
    with pytest.raises(CommandError, match="mariadb cannot check the name"):
        prepared(version=OLD, host="db.x", db_tls="verify-full")


def test_mariadb_is_called_by_its_own_name(stand_in, tmp_path):
    program = stand_in("mariadb", version=OLD)
    link = tmp_path / "bin" / "mysql"
    link.symlink_to("mariadb")
    assert prepare(task("mysql", str(link))).words[0] == program
