"""``ssmtunneld exec`` beside a daemon; with its own it is an integration test."""

import re
import socket
import sys

import pytest

from ssmtunneld.cli.commands.exec import addresses
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import call, document, off, tunnel_document, waiting
from tests.integration.world import configuration, tunnel

SAY = (sys.executable, "-c")


def test_the_command_finds_where_tunnels_listen_and_its_end_is_ours(operator, capfd):
    program = "import os, sys; print(os.environ['SSMTUNNELD_DB_PORT']); sys.exit(7)"
    code, out, err = call(capfd, "exec", *SAY, program)
    assert (code, out, err) == (7, "5432\n", "")


@pytest.mark.parametrize("code", [0, 7])
def test_a_command_that_fails_is_told_which_connections_were_refused(
    operator, capfd, code
):
    refusal = {"reason": "nobody listens", "advice": "look there", "age": 0.1}
    after = tunnel_document(refused=1, last_refusal=refusal)
    operator.documents = [document(tunnel_document()), document(after)]
    operator.documents.insert(0, operator.documents[0])
    found, _, err = call(capfd, "exec", "sh", "-c", f"exit {code}")
    told = "ssmtunneld: db: 1 connection to orders:5432 refused: nobody listens; look "
    assert (found, told in err) == (code, code != 0)


@pytest.mark.parametrize("separator", [(), ("--",)])
def test_options_after_the_command_are_its_own(operator, capfd, separator):
    echo = ("sh", "-c", 'echo "$@"', "sh", "-t", "x", "--help")
    assert call(capfd, "exec", *separator, *echo)[:2] == (0, "-t x --help\n")


def test_it_waits_for_the_tunnels_that_are_named(operator, capfd):
    late = document(tunnel_document("web", state="starting", usable=False), waiting())
    operator.documents = [late, late, document(tunnel_document("web"), waiting())]
    code, out, _ = call(capfd, "exec", "-t", "web", "echo", "now")
    assert (code, out) == (0, "now\n")


def test_the_command_is_not_run_if_they_are_not_ready_in_time(operator, capfd):
    operator.documents = [document(tunnel_document(), waiting())]
    code, out, err = call(capfd, "exec", "--timeout", "10ms", "echo", "never")
    assert (code, out) == (1, "")
    assert "dead: waiting: nobody answers" in err


def test_the_command_gets_the_addresses_of_a_group(operator, capfd):
    operator.documents = [
        document(
            tunnel_document("db", groups=["x"]),
            tunnel_document("web"),
            off("old", groups=["x"]),
        )
    ]
    show = ("sh", "-c", "env | grep -o '^SSMTUNNELD_[A-Z]*_PORT' | sort")
    assert call(capfd, "exec", "--group", "x", *show)[1] == "SSMTUNNELD_DB_PORT\n"
    assert call(capfd, "exec", *show)[1] == "SSMTUNNELD_DB_PORT\nSSMTUNNELD_WEB_PORT\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "no command; usage:"),
        (("-t", "x", "true"), 2, "no tunnel is called x"),
        (("--group", "x", "true"), 2, "no tunnel is in group x"),
        (("--tunel", "x", "true"), 2, "--tunel"),
        (("/nowhere/at-all",), 127, "/nowhere/at-all cannot be run: No such file"),
    ],
)
def test_what_cannot_be_done_is_said(operator, capfd, arguments, code, words):
    found, out, err = call(capfd, "exec", *arguments)
    assert (found, out) == (code, "")
    assert words in err


def test_without_a_daemon_and_without_a_file_there_is_nothing_to_start(home, capfd):
    code, _, err = call(capfd, "exec", "true")
    assert code == 2
    assert "no configuration file" in err


def test_a_file_with_mistakes_ends_it_with_2_and_what_is_wrong(home, capfd):
    path = home / "config.toml"
    path.write_text("[tunnels.db]\nlisten = 1\n")
    code, out, err = call(capfd, "exec", "-c", path, "echo", "never")
    assert (code, out) == (2, "")
    assert f"ssmtunneld: {path}:" in err
    assert err.endswith(
        "ssmtunneld: the daemon has exited with 2; see its messages above\n"
    )


@pytest.fixture
def service(home, monkeypatch):
    """An emulator that the daemons of this test find."""
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator


def test_without_a_daemon_there_is_one_as_long_as_the_command_runs(
    service, home, capfd
):
    path = home / "config.toml"
    path.write_text(configuration(service.endpoint_url, tunnel("web", port=1)))
    code, out, err = call(capfd, "exec", "-c", path, "sh", "-c", "echo up; exit 4")
    # On a slow machine it says what it waits for.
    said = told(err)
    assert (code, said) == (4, [])
    assert "up" in out.splitlines()  # among what the emulator says
    assert {session["status"] for session in service.sessions()} == {"Terminated"}


def test_a_daemon_of_ones_own_runs_the_tunnels_of_the_group_only(service, home, capfd):
    path = home / "config.toml"
    both = [
        tunnel("web", port=1, groups=["x"]),
        tunnel("wrong", port=1, document="Nobody-Wrote-This"),
    ]
    path.write_text(configuration(service.endpoint_url, *both))
    show = ("sh", "-c", "env | grep -o '^SSMTUNNELD_W[A-Z_]*' | sort")
    code, out, err = call(capfd, "exec", "-c", path, "--group", "x", *show)
    assert code == 0, err
    # What the emulator says may stand on the same line.
    found = re.findall("SSMTUNNELD_W[A-Z_]*", out)
    assert found == ["SSMTUNNELD_WEB_HOST", "SSMTUNNELD_WEB_PORT"]
    code, _, err = call(capfd, "exec", "-c", path, "--group", "y", "true")
    assert (code, "no tunnel is in group y; the groups are: x" in err) == (2, True)


def test_a_daemon_that_has_not_even_started_in_time_is_called_so(service, home, capfd):
    path = home / "config.toml"
    path.write_text(configuration(service.endpoint_url, tunnel("web", port=1)))
    code, _, err = call(capfd, "exec", "-c", path, "--timeout", "10ms", "echo", "never")
    assert code == 1
    assert "the daemon is still starting after 0.01 s; allow more with" in err


def told(err):
    """Return the lines of standard error but for those of a machine that is slow."""
    return [line for line in err.splitlines() if "waiting up to" not in line]


NEVER = ("--timeout", "10m", "sh", "-c", "echo never")


def test_a_setting_that_aws_refuses_is_not_waited_for(service, home, capfd):
    path = home / "config.toml"
    wrong = tunnel("wrong", port=1, document="Nobody-Wrote-This")
    path.write_text(configuration(service.endpoint_url, wrong))
    code, out, err = call(capfd, "exec", "-c", path, *NEVER)
    assert code == 4
    assert "never" not in out
    (said,) = told(err)
    assert said.startswith("ssmtunneld: wrong: giving up: StartSession failed: Invalid")
    assert "check that document Nobody-Wrote-This exists" in said


def test_a_login_is_not_waited_for_and_is_one_line(service, home, capfd, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    path = home / "config.toml"
    both = [tunnel("web", port=1), tunnel("db", port=1)]
    path.write_text(configuration(service.endpoint_url, *both))
    code, out, err = call(capfd, "exec", "-c", path, "-t", "db", *NEVER)
    assert code == 4
    assert "never" not in out
    (said,) = told(err)
    assert said.startswith("ssmtunneld: db: giving up: StartSession failed: NoCredent")


def test_an_address_that_is_taken_is_not_waited_for(service, home, capfd):
    path = home / "config.toml"
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        both = [tunnel("web", port=1), tunnel("db", port=1, listen=address)]
        path.write_text(configuration(service.endpoint_url, *both))
        code, _, err = call(capfd, "exec", "-c", path, *NEVER)
    assert code == 1
    assert f"ssmtunneld: db: giving up: cannot listen on {address}: " in err


def test_a_tunnel_that_is_not_required_ends_nothing(service, home, capfd):
    path = home / "config.toml"
    wrong = tunnel("wrong", port=1, document="Nobody-Wrote-This", required=False)
    config = configuration(service.endpoint_url, wrong, tunnel("web", port=1))
    path.write_text(config)
    assert call(capfd, "exec", "-c", path, "sh", "-c", "exit 4")[0] == 4


def test_warnings_appear_once_the_command_runs(service, home, capfd):
    path = home / "config.toml"
    path.write_text(configuration(service.endpoint_url, tunnel("web", port=1)))
    program = """
import os, socket
address = "127.0.0.1", int(os.environ["SSMTUNNELD_WEB_PORT"])
try:
    socket.create_connection(address).recv(1)
except ConnectionError:
    print("reset")
"""
    code, out, err = call(capfd, "exec", "-c", path, *SAY, program)
    assert (code, "reset" in out) == (0, True)
    assert "connection.refused" in err


@pytest.mark.parametrize(
    ("listen", "variables"),
    [
        (["127.0.0.1:5432"], {"HOST": "127.0.0.1", "PORT": "5432"}),
        (["[::1]:22", "127.0.0.1:22"], {"HOST": "::1", "PORT": "22"}),
        (["0.0.0.0:1"], {"HOST": "127.0.0.1", "PORT": "1"}),
        (["[::]:1"], {"HOST": "::1", "PORT": "1"}),
        (["unix:/run/a:b"], {"SOCKET": "/run/a:b"}),
        (
            ["unix:/run/x", "127.0.0.1:1"],
            {"SOCKET": "/run/x", "HOST": "127.0.0.1", "PORT": "1"},
        ),
        ([], {}),
    ],
)
def test_an_address_becomes_variables(listen, variables):
    expected = {f"SSMTUNNELD_ORDERS_DB_{key}": v for key, v in variables.items()}
    assert addresses([tunnel_document("orders-db", listen=listen)]) == expected


def test_names_that_a_variable_cannot_tell_apart_are_an_error():
    with pytest.raises(CommandError, match="a-b and a_b would both be SSMTUNNELD_A_B"):
        addresses([tunnel_document("a-b"), tunnel_document("a_b")])
