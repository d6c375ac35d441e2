"""Calls of launchctl, and reports of its answers."""

import pytest

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.service.launchctl import Launchd
from tests.cli.standin import Machine

TARGET = "gui/1234/io.github.ssmtunneld"
RUNNING = f"""\
{TARGET} = {{
\tactive count = 1
\tpath = /Users/ann/Library/LaunchAgents/io.github.ssmtunneld.plist
\ttype = LaunchAgent
\tstate = running

\tprogram = /opt/bin/ssmtunneld
\tendpoints = {{
\t\tstate = other
\t}}
\truns = 2
\tpid = 77
\tlast exit code = 1
}}
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    machine = Machine(tmp_path, "darwin", ["launchctl"])
    monkeypatch.setenv("PATH", str(machine.bin))
    return machine


def commands(steps):
    """Return the steps' commands as they are typed."""
    return [" ".join(step.command) for step in steps]


def test_an_agent_that_runs_says_so(machine):
    machine.answer(**{f"print {TARGET}": (0, RUNNING, "")})
    found = Launchd(machine.place).state()
    assert found.active
    assert found.lines == {
        "enabled": "yes: it starts at login",
        "active": "yes, pid 77",
        "runs": "2 since it was loaded",
    }


def test_an_agent_that_does_not_run_says_how_it_ended(machine):
    waiting = RUNNING.replace("state = running", "state = spawn scheduled")
    waiting = waiting.replace("\truns = 2\n", "")
    machine.answer(**{f"print {TARGET}": (0, waiting, "")})
    found = Launchd(machine.place).state()
    assert not found.active
    assert found.lines["active"] == "no: spawn scheduled, last exit 1"
    assert "runs" not in found.lines


def test_an_agent_that_is_not_loaded_says_so(machine):
    machine.answer(**{f"print {TARGET}": (113, "", "Could not find service\n")})
    found = Launchd(machine.place).state()
    assert not found.active
    assert found.lines == {"active": "no: it is not loaded"}


def test_an_agent_that_has_not_changed_is_not_interrupted(machine):
    machine.answer(**{f"print {TARGET}": (0, RUNNING, "")})
    steps = Launchd(machine.place).begin(changed=False)
    assert commands(steps) == [
        f"launchctl enable {TARGET}",
        f"launchctl kickstart {TARGET}",
    ]


def test_an_agent_that_was_unloaded_is_loaded_again(machine):
    machine.answer(**{f"print {TARGET}": (113, "", "")})
    manager = Launchd(machine.place)
    assert commands(manager.begin(changed=False)) == [
        f"launchctl enable {TARGET}",
        f"launchctl bootstrap gui/1234 {manager.path}",
    ]


def test_a_launchd_without_a_login_says_what_to_do(machine):
    machine.answer(print=(112, "", "Could not find domain for\n"))
    with pytest.raises(CommandError, match="Could not find domain") as caught:
        Launchd(machine.place).probe()
    assert "log in" in caught.value.advice


def test_its_logs_are_in_a_file(machine):
    assert Launchd(machine.place).logs == (
        f"tail -F {machine.home}/Library/Logs/ssmtunneld.log"
    )
