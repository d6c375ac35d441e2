"""``ssmtunneld logs``: from the journal, a file, or what a daemon remembers."""

import os
import re
import sys

import pytest

from ssmtunneld.cli.commands import logs as logs_command
from ssmtunneld.cli.daemon_client import NotRunning
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.service.manager import ServicePaths
from ssmtunneld.cli.service.systemctl import Systemd
from ssmtunneld.observe import logs
from ssmtunneld.observe.log_place import LogPlace
from ssmtunneld.serve import control_socket
from tests.cli.household import (
    call,
    document,
    older_daemon,
    serving_app,
    tunnel_document,
)

JOURNAL = """\
#!{python} -IS
import sys
if {code}:
    sys.exit("No journal files were opened due to insufficient permissions.")
print(" ".join(sys.argv[1:]))
for name in ("db", "web"):
    print("link.lost tunnel=" + name)
"""


@pytest.fixture
def memory():
    logs.recent.clear()
    logs.recent(None, "info", {"event": "daemon.ready"})
    logs.recent(None, "warning", {"event": "link.lost", "tunnel": "db", "why": "x y"})
    logs.recent(None, "info", {"event": "link.lost", "tunnel": "web"})
    yield
    logs.recent.clear()


@pytest.fixture
def place(monkeypatch):
    """Let the daemon's log be where the test says; nowhere at first."""

    def set_place(**how):
        found = LogPlace(**how)
        monkeypatch.setattr(control_socket, "log_place", lambda _: found)

    set_place()
    return set_place


def journalctl(monkeypatch, folder, code=0):
    """Put a stand-in for the journal's command where it is looked for first."""
    file = folder / "bin" / "journalctl"
    file.parent.mkdir()
    file.write_text(JOURNAL.format(python=os.path.realpath(sys.executable), code=code))
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")


def test_a_daemon_without_another_log_tells_what_it_remembers(
    operator, capsys, memory, place
):
    code, out, err = call(capsys, "logs")
    assert (code, err) == (0, "")
    assert [re.sub("^.{19} ", "", line) for line in out.splitlines()] == [
        "info    daemon.ready",
        'warning link.lost db why="x y"',
        "info    link.lost web",
    ]
    assert len(call(capsys, "logs", "-n", "2")[1].splitlines()) == 2


def test_a_name_selects_a_tunnel(operator, capsys, memory, place):
    _, out, _ = call(capsys, "logs", "db")
    assert [line.split()[3:5] for line in out.splitlines()] == [["link.lost", "db"]]
    code, _, err = call(capsys, "logs", "bd")
    assert code == 2
    assert "the tunnels are: db" in err


def test_a_file_is_read_where_the_log_is_one(operator, capsys, tmp_path, place):
    file = tmp_path / "log"
    file.write_text("one tunnel=db\ntwo tunnel=web\nthree tunnel=db\n" * 30)
    place(file=str(file))
    assert call(capsys, "logs", "-n", "2") == (
        0,
        "two tunnel=web\nthree tunnel=db\n",
        "",
    )
    _, out, _ = call(capsys, "logs", "db", "-n", "3")
    assert out.splitlines() == ["three tunnel=db", "one tunnel=db", "three tunnel=db"]


def test_a_tunnel_of_which_nothing_is_in_reach_says_how_far_was_looked(
    operator, capsys, tmp_path, place
):
    file = tmp_path / "log"
    file.write_text("old tunnel=db\n" + "new tunnel=web\n" * 40)
    place(file=str(file))
    code, out, err = call(capsys, "logs", "db", "-n", "2")
    assert (code, out) == (0, "")
    assert "nothing about db in the last 40 lines" in err
    assert call(capsys, "logs", "db", "-n", "3") == (0, "old tunnel=db\n", "")


def test_a_log_without_lines_is_said_to_be_empty(
    operator, capsys, tmp_path, place, memory
):
    file = tmp_path / "log"
    file.touch()
    place(file=str(file))
    assert call(capsys, "logs") == (0, "", "the log has no lines yet\n")
    place()
    logs.recent.clear()
    assert call(capsys, "logs") == (0, "", "the daemon remembers no line\n")
    words = "the daemon remembers no line about db\n"
    assert call(capsys, "logs", "db") == (0, "", words)


def test_the_journal_is_read_where_the_daemon_writes_to_it(
    operator, capsys, tmp_path, place, monkeypatch
):
    journalctl(monkeypatch, tmp_path)
    place(unit="my.service", user=True)
    code, out, err = call(capsys, "logs", "db", "-f")
    assert (code, out, err) == (0, "link.lost tunnel=db\n", "")
    _, out, _ = call(capsys, "logs", "-f", "-n", "7")
    assert {"--user", "--follow", "--unit=my.service", "--lines=7"} <= set(out.split())


def test_whoever_may_not_read_the_journal_gets_what_the_daemon_remembers(
    operator, capsys, tmp_path, place, monkeypatch, memory
):
    journalctl(monkeypatch, tmp_path, code=1)
    place(unit="my.service")
    code, out, err = call(capsys, "logs")
    assert (code, len(out.splitlines())) == (0, 3)
    assert "insufficient permissions" in err
    assert "this is what the daemon remembers" in err


def test_without_the_journals_command_the_memory_has_to_do(
    operator, capsys, place, monkeypatch, memory
):
    monkeypatch.setattr("shutil.which", lambda _: None)
    place(unit="my.service")
    assert len(call(capsys, "logs")[1].splitlines()) == 3


def test_without_a_daemon_its_service_has_the_last_word(
    home, capsys, tmp_path, monkeypatch
):
    assert call(capsys, "logs")[0] == 3
    journalctl(monkeypatch, tmp_path)
    unit = Systemd(ServicePaths.here(), system=False).path
    assert unit.is_relative_to(tmp_path), "not somebody's own unit"
    unit.parent.mkdir(parents=True)
    unit.touch()
    code, out, err = call(capsys, "logs")
    assert code == 0
    assert "--unit=ssmtunneld.service" in out
    assert err.endswith("no daemon runs; this is what its service said last\n")


def test_a_daemon_that_knows_no_log_is_told_to_be_restarted(home, capsys):
    with serving_app(older_daemon(document(tunnel_document()))):
        code, _, err = call(capsys, "logs")
    assert code == 1
    assert "restart it" in err


def test_it_follows_until_ctrl_c_and_ends_in_peace(
    operator, capsys, monkeypatch, place, memory
):
    asked = []

    def ask(daemon, after):
        asked.append(after)
        if len(asked) == 4:
            raise KeyboardInterrupt
        if len(asked) == 3:
            logs.recent(None, "error", {"event": "listener.failed"})
        return real(daemon, after)

    real = logs_command.ask_log
    monkeypatch.setattr(logs_command, "ask_log", ask)
    monkeypatch.setattr("ssmtunneld.cli.log_reader.INTERVAL", 0.0)
    code, out, err = call(capsys, "logs", "-f", "-n", "1")
    assert (code, err) == (0, "")
    assert [line.split()[3] for line in out.splitlines()] == [
        *("link.lost", "listener.failed")
    ]
    assert asked[:2] == [0, 0]
    assert asked[3] == asked[2] + 1


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (NotRunning(), "no daemon runs; waiting for one"),
        (CommandError("no answer"), "no answer; asking again"),
    ],
)
def test_whoever_follows_is_told_once_that_the_daemon_does_not_answer(
    operator, capsys, monkeypatch, place, memory, failure, said
):
    asked = []

    def ask(daemon, after):
        asked.append(after)
        if len(asked) > 2:
            raise failure if len(asked) < 5 else KeyboardInterrupt
        return real(daemon, after)

    real = logs_command.ask_log
    monkeypatch.setattr(logs_command, "ask_log", ask)
    monkeypatch.setattr("ssmtunneld.cli.log_reader.INTERVAL", 0.0)
    code, _, err = call(capsys, "logs", "-f")
    assert (code, err) == (0, f"ssmtunneld: {said}\n")
