"""``ssmtunneld service``, with service managers that take notes."""

import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ssmtunneld.daemon.instance_lock import claim_instance
from tests.cli.standin import Machine

RELOAD = "systemctl --user daemon-reload"
ENABLE = "systemctl --user enable ssmtunneld.service"
START = "systemctl --user start --no-block ssmtunneld.service"
RESTART = "systemctl --user restart --no-block ssmtunneld.service"
SHOWN = (0, "UnitFileState=enabled\nActiveState=active\nMainPID=7\n", "")


@pytest.fixture
def linux(tmp_path):
    return Machine(tmp_path, "linux", ["systemctl", "loginctl"])


@pytest.fixture
def mac(tmp_path):
    return Machine(tmp_path, "darwin", ["launchctl"])


def unit(machine):
    """Return the path of the user's unit."""
    return machine.home / ".config" / "systemd" / "user" / "ssmtunneld.service"


def plist(machine):
    """Return the path of the launchd agent."""
    return machine.home / "Library" / "LaunchAgents" / "io.github.ssmtunneld.plist"


def test_installing_writes_the_unit_and_says_what_each_step_is_for(linux):
    result = linux.install()
    assert result.exit_code == 0, result.exception
    assert linux.notes() == [RELOAD, ENABLE, RESTART]
    assert unit(linux).stat().st_mode & 0o777 == 0o644
    run = f"ExecStart=/opt/bin/ssmtunneld run --config {linux.config}\n"
    assert run in unit(linux).read_text()
    for command in (RELOAD, ENABLE, RESTART):
        assert f"{command}: " in result.output
    assert "Hint: to keep it while you are logged out" in result.output


def test_installing_tells_which_variables_of_this_shell_the_service_misses(linux):
    environ = {
        "HOME": str(linux.home),
        "AWS_ACCESS_KEY_ID": "AKIACANARY",
        "AWS_SECRET_ACCESS_KEY": "canary",
        "AWS_REGION": "eu-west-1",  # the file has one
    }
    place = replace(linux.place, environ=environ)
    arguments = ("install", "-c", str(linux.config))
    said = linux.service(*arguments, place=place).output
    names = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
    assert f"Hint: the service does not see this shell's {names}: write" in said
    assert "canary" not in said.lower()
    file = linux.home / ".config" / "ssmtunneld" / "environment"
    file.parent.mkdir(parents=True)
    file.write_text("AWS_ACCESS_KEY_ID=x\nAWS_SECRET_ACCESS_KEY=y\n")
    assert "does not see" not in linux.service(*arguments, place=place).output


def test_a_daemon_that_has_the_ports_is_told_unless_it_is_the_service(
    linux, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(linux.folder / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    with claim_instance(linux.config):
        said = linux.install().output
        hint = f"Hint: a daemon runs {linux.config} already (pid {os.getpid()}): end"
        assert hint in said
        linux.answer(show_ssm=SHOWN)
        assert "already" not in linux.install().output
    linux.answer()
    assert "already" not in linux.install().output


def test_installing_again_changes_nothing_and_interrupts_nobody(linux):
    linux.install()
    before = unit(linux).stat()
    linux.notes()
    result = linux.install()
    assert f"{unit(linux)} is up to date" in result.output
    assert linux.notes() == [RELOAD, ENABLE, START]
    assert unit(linux).stat().st_ino == before.st_ino


def test_a_unit_that_differs_is_shown_and_kept_where_nobody_can_agree(linux):
    linux.install()
    text = unit(linux).read_text().replace("WatchdogSec=30", "WatchdogSec=5")
    unit(linux).write_text(text)
    linux.notes()
    result = linux.install()
    assert "-WatchdogSec=5\n+WatchdogSec=30\n" in result.output
    assert str(result.exception) == "no terminal to confirm on"
    assert unit(linux).read_text() == text
    assert linux.notes() == []


def test_yes_replaces_a_unit_that_differs(linux):
    linux.install()
    ours = unit(linux).read_text()
    unit(linux).write_text("[Service]\nExecStart=/bin/true\n")
    linux.notes()
    assert linux.install("--yes").exit_code == 0
    assert unit(linux).read_text() == ours
    assert linux.notes() == [RELOAD, ENABLE, RESTART]
    assert [p.name for p in unit(linux).parent.iterdir()] == ["ssmtunneld.service"]


def ask(machine, answer, *arguments):
    """Run the real command on a terminal, give ``answer``; return status and output."""
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode() + b"\n")
    try:
        result = subprocess.run(
            [sys.executable, "-m", "ssmtunneld", "service", *arguments],
            stdin=theirs,
            capture_output=True,
            text=True,
            env=machine.environ(),
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return result.returncode, result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="asks the stand-in for systemd")
def test_a_person_is_asked_before_anything_is_replaced_or_removed(linux):
    arguments = ["install", "-c", str(linux.config)]
    unit(linux).parent.mkdir(parents=True)
    unit(linux).write_text("# mine\n")
    code, output = ask(linux, "n", *arguments)
    assert code == 130
    assert "Replace" in output
    assert unit(linux).read_text() == "# mine\n"
    assert ask(linux, "y", *arguments)[0] == 0
    assert "run --config" in unit(linux).read_text()
    linux.notes()
    code, output = ask(linux, "n", "uninstall")
    assert code == 130
    assert "remove" in output
    assert linux.notes() == []
    assert ask(linux, "y", "uninstall")[0] == 0
    assert not unit(linux).exists()


def test_a_configuration_that_cannot_be_used_is_not_installed(linux):
    linux.config.write_text("[tunnels.db]\n")
    result = linux.install()
    assert "target" in str(result.exception)
    assert linux.notes() == []
    assert not unit(linux).exists()


def test_print_only_shows_what_would_be_written_and_run(linux, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    result = linux.service("install", "--print", "-c", "/not/there.toml")
    assert result.exit_code == 0, result.exception
    lines = result.output.splitlines()
    assert lines[0] == f"# {unit(linux)}"
    assert "ExecStart=/opt/bin/ssmtunneld run --config /not/there.toml" in lines
    assert [line.split("  # ")[0] for line in lines[-3:]] == [RELOAD, ENABLE, RESTART]
    assert not unit(linux).exists()
    assert linux.notes() == []


def test_print_takes_the_usual_place_where_no_configuration_is_yet(linux):
    result = linux.service("install", "--print")
    assert "/config.toml\n" in result.output
    named = replace(linux.place, environ={"SSMTUNNELD_CONFIG": "/named.toml"})
    result = linux.service("install", "--print", place=named)
    assert "--config /named.toml\n" in result.output


def test_the_machines_service_is_enabled_at_boot(linux):
    result = linux.install("--system")
    assert result.exit_code == 0, result.exception
    path = linux.system / "ssmtunneld.service"
    assert "DynamicUser=yes" in path.read_text()
    assert linux.notes() == [
        "systemctl daemon-reload",
        "systemctl enable ssmtunneld.service",
        "systemctl restart --no-block ssmtunneld.service",
    ]
    assert "Hint" not in result.output
    assert "ssmtunneld service status --system" in result.output


def test_the_machines_service_reads_the_machines_configuration(linux):
    result = linux.service("install", "--system", "--print")
    assert "run --config /etc/ssmtunneld/config.toml\n" in result.output


def test_the_machines_service_is_not_given_what_it_cannot_see(linux):
    place = replace(linux.place, software=(Path("/home/ann/.local/pipx"),))
    result = linux.service("install", "--system", "-c", str(linux.config), place=place)
    assert "does not see /home/ann/.local/pipx" in str(result.exception)
    place = replace(linux.place, hidden=(linux.config.parent,))
    result = linux.service("install", "--system", "-c", str(linux.config), place=place)
    assert str(result.exception).endswith(f"does not see {linux.config}")
    assert linux.notes() == []


def test_what_is_in_the_way_of_the_unit_is_named(linux):
    # A file in the place of the folder, because nothing else stops root.
    (linux.home / ".config").write_text("")
    result = linux.install()
    assert str(result.exception) == f"{unit(linux)} cannot be read: Not a directory"


def test_writing_whole_or_not_at_all_leaves_nothing_behind(linux, monkeypatch):
    def refuse(path, target):
        raise PermissionError(13, "Permission denied", str(path), None, str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    result = linux.install()
    assert str(result.exception).endswith("cannot be written: Permission denied")
    assert "sudo" in result.exception.advice
    assert list(unit(linux).parent.iterdir()) == []


def test_a_step_that_fails_ends_it_with_what_the_manager_said(linux):
    linux.answer(enable=(1, "", "Failed to enable unit: it is masked\n"))
    result = linux.install()
    assert str(result.exception) == f"{ENABLE}: Failed to enable unit: it is masked"
    assert linux.notes() == [RELOAD, ENABLE]


def test_without_systemd_nothing_is_written(tmp_path):
    bare = Machine(tmp_path, "linux", [])
    result = bare.install()
    assert "systemctl cannot be run" in str(result.exception)
    assert "ssmtunneld run" in result.exception.advice
    assert not unit(bare).exists()


def test_without_a_login_nothing_is_written(linux):
    linux.answer(show=(1, "", "Failed to connect to bus: No medium found\n"))
    result = linux.install()
    assert "Failed to connect to bus" in str(result.exception)
    assert "su or sudo" in result.exception.advice
    assert not unit(linux).exists()


def test_uninstalling_stops_disables_and_removes(linux):
    linux.install()
    linux.notes()
    linux.answer(**{"reset-failed": (1, "", "not loaded\n")})
    result = linux.service("uninstall", "--yes")
    assert result.exit_code == 0, result.exception
    assert linux.notes() == [
        "systemctl --user disable --now ssmtunneld.service",
        RELOAD,
        "systemctl --user reset-failed ssmtunneld.service",
    ]
    assert not unit(linux).exists()
    assert linux.config.exists()
    again = linux.service("uninstall", "--yes")
    assert again.output == f"Nothing to do: there is no {unit(linux)}\n"
    assert linux.notes() == []


def test_uninstalling_shows_first_what_it_would_run(linux):
    linux.install()
    linux.notes()
    result = linux.service("uninstall", "--print")
    assert f"rm {unit(linux)}\n" in result.output
    assert unit(linux).exists()
    assert linux.notes() == []


def test_a_unit_of_somebody_elses_is_never_removed(linux):
    unit(linux).parent.mkdir(parents=True)
    unit(linux).write_text("[Service]\nExecStart=/usr/bin/ssmtunneld run\n")
    result = linux.service("uninstall", "--yes")
    assert "was not written by" in str(result.exception)
    assert unit(linux).exists()
    assert linux.notes() == []


def test_a_unit_that_cannot_be_removed_says_so(linux, monkeypatch):
    linux.install()

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    result = linux.service("uninstall", "--yes")
    assert str(result.exception).endswith("cannot be removed: Permission denied")


def test_the_status_tells_everything_in_a_few_lines(linux):
    linux.install()
    linux.answer(**{"show ssmtunneld": SHOWN})
    result = linux.service("status")
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.output.splitlines()]
    assert names == ["installed", "enabled", "active", "logs"]
    assert f"installed  {unit(linux)}\n" in result.output
    assert "journalctl --user -u ssmtunneld" in result.output
    unit(linux).write_text("# mine\n")
    assert "(not written by service install)" in linux.service("status").output


def test_the_status_of_what_does_not_run_ends_with_three(linux):
    result = linux.service("status", "--system")
    assert result.exit_code == 3
    assert "no; to install: ssmtunneld service install --system" in result.output
    linux.install()
    linux.answer(**{"show ssmtunneld": (0, "ActiveState=inactive\n", "")})
    assert linux.service("status").exit_code == 3


def test_an_agent_of_launchd_is_loaded_into_the_users_domain(mac):
    mac.answer(**{"print gui/1234/io": (113, "", "Could not find service\n")})
    result = mac.install()
    assert result.exit_code == 0, result.exception
    target = "gui/1234/io.github.ssmtunneld"
    assert mac.notes() == [
        f"launchctl enable {target}",
        f"launchctl bootout {target}",
        f"launchctl bootstrap gui/1234 {plist(mac)}",
    ]
    assert "Hint: launchd reads no shell profile" in result.output
    assert mac.service("uninstall", "--yes").exit_code == 0
    assert mac.notes() == [f"launchctl bootout {target}"]
    assert not plist(mac).exists()


def test_the_agents_property_list_is_shown_without_launchd(mac, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    result = mac.service("install", "--print", "-c", "/not/there.toml")
    assert "<string>/opt/bin/ssmtunneld</string>" in result.output
    assert "launchctl bootstrap gui/1234" in result.output


def test_macos_has_no_service_of_the_machine(mac):
    result = mac.install("--system")
    assert "would run as root" in str(result.exception)


def test_other_platforms_are_told_how_to_help_themselves(linux):
    result = linux.service("status", place=replace(linux.place, platform="freebsd14"))
    assert str(result.exception) == "no supported service manager on freebsd14"
    assert "ssmtunneld run" in result.exception.advice
