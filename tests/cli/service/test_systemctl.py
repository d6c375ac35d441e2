"""Calls of systemctl, and reports of its answers."""

from dataclasses import replace
from pathlib import Path

import pytest

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.service.systemctl import Systemd
from tests.cli.standin import Machine


@pytest.fixture
def machine(tmp_path, monkeypatch):
    machine = Machine(tmp_path, "linux", ["systemctl", "loginctl"])
    monkeypatch.setenv("PATH", str(machine.bin))
    return machine


def state(machine, *, system=False, **known):
    """Return what is told of a unit of which systemd knows this."""
    text = "".join(f"{key}={value}\n" for key, value in known.items())
    machine.answer(show_ssmtunneld=(0, text, ""))
    return Systemd(machine.place, system=system).state()


def test_an_active_service_says_since_when_and_what_it_says_itself(machine):
    found = state(
        machine,
        UnitFileState="enabled",
        ActiveState="active",
        ActiveEnterTimestamp="Sun 2026-11-22 16:41:28 UTC",
        MainPID=7,
        StatusText="2 tunnels, 2 usable; a=b",
        NRestarts=3,
        NeedDaemonReload="yes",
    )
    assert found.active
    assert found.lines == {
        "enabled": "yes: it starts at login, and ends with the last logout",
        "active": "yes, since Sun 2026-11-22 16:41:28 UTC, pid 7",
        "says": "2 tunnels, 2 usable; a=b",
        "restarts": "3 after a failure",
        "note": "the unit has changed; ssmtunneld service install takes it up",
    }


def test_a_service_that_reloads_is_active(machine):
    assert state(machine, ActiveState="reloading").active


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"ActiveState": "inactive"}, "no: inactive"),
        ({}, "no: unknown"),
        (
            {"ActiveState": "activating", "SubState": "start"},
            "not yet: it waits for its required tunnels; ssmtunneld status says why",
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart"},
            "not yet: it has failed and is tried again every two seconds; see its log",
        ),
        (
            {
                "ActiveState": "failed",
                "ExecMainStatus": "2",
                "InactiveEnterTimestamp": "today",
            },
            "no: the configuration cannot be used (since today); ssmtunneld check",
        ),
        (
            {
                "ActiveState": "failed",
                "Result": "watchdog",
                "InactiveEnterTimestamp": "today",
            },
            "no: it failed with watchdog (since today)",
        ),
    ],
)
def test_a_service_that_is_not_active_says_why(machine, known, told):
    found = state(machine, **known)
    assert not found.active
    assert found.lines["active"] == told


@pytest.mark.parametrize(("known", "told"), [("disabled", "no (disabled)"), ("", "no")])
def test_a_service_that_is_not_enabled_says_so(machine, known, told):
    assert state(machine, UnitFileState=known).lines["enabled"] == told


def test_the_machines_service_is_enabled_at_boot(machine):
    found = state(machine, system=True, UnitFileState="enabled")
    assert found.lines["enabled"] == "yes: it starts at boot"


def test_lingering_keeps_a_users_service_and_needs_no_hint(machine):
    machine.answer(
        **{
            "show-user 1234": (0, "Linger=yes\n", ""),
            "show ssm": (0, "UnitFileState=enabled\n", ""),
        }
    )
    manager = Systemd(machine.place, system=False)
    assert manager.hints() == []
    assert "stays while you are logged out" in manager.state().lines["enabled"]


def test_systemd_without_its_logind_gives_the_hint_too(tmp_path, monkeypatch):
    machine = Machine(tmp_path / "m", "linux", ["systemctl"])
    monkeypatch.setenv("PATH", str(machine.bin))
    (hint,) = Systemd(machine.place, system=False).hints()
    assert hint.endswith("loginctl enable-linger")
    assert Systemd(machine.place, system=True).hints() == []


def test_a_systemd_that_does_not_answer_says_why(machine):
    machine.answer(show=(1, "", "Failed to connect to bus: No medium found\n"))
    with pytest.raises(CommandError, match="does not answer") as caught:
        Systemd(machine.place, system=True).state()
    assert caught.value.advice == ""
    with pytest.raises(CommandError, match="does not answer") as caught:
        Systemd(machine.place, system=False).state()
    assert "not through su or sudo" in caught.value.advice


@pytest.mark.parametrize("system", [True, False])
def test_where_another_init_runs_the_machine_no_login_helps(machine, system):
    machine.answer(show=(1, "", "System has not been booted with systemd\n"))
    place = replace(machine.place, booted=machine.folder / "not-there")
    with pytest.raises(CommandError, match="is not run by systemd") as caught:
        Systemd(place, system=system).state()
    assert "ssmtunneld run" in caught.value.advice
    assert "su " not in caught.value.advice


def test_a_service_that_has_ended_says_nothing_any_more(machine):
    told = {"StatusText": "4 tunnels, 4 usable"}
    assert "says" not in state(machine, ActiveState="inactive", **told).lines
    assert "says" not in state(machine, ActiveState="failed", **told).lines
    assert state(machine, ActiveState="active", **told).lines["says"].startswith("4 ")


def test_variables_of_the_shell_belong_into_the_services_file(machine):
    machine.answer(**{"show-user 1234": (0, "Linger=yes\n", "")})
    keys = ("AWS_ACCESS_KEY_ID", "AWS_REGION")
    (hint,) = Systemd(machine.place, system=False).hints(keys)
    assert "does not see this shell's AWS_ACCESS_KEY_ID, AWS_REGION: write" in hint
    assert f" {machine.home}/.config/ssmtunneld/environment " in hint
    assert hint.endswith("then: systemctl --user restart ssmtunneld")
    (hint,) = Systemd(machine.place, system=True).hints(keys)
    assert " /etc/ssmtunneld/environment " in hint
    assert hint.endswith("then: sudo systemctl restart ssmtunneld")


def test_the_unit_is_where_systemd_looks_for_it(machine):
    place = replace(machine.place, environ={"XDG_CONFIG_HOME": "/x"})
    expected = Path("/x/systemd/user/ssmtunneld.service")
    assert Systemd(place, system=False).path == expected
    place = replace(machine.place, environ={"XDG_CONFIG_HOME": "relative"})
    expected = machine.home / ".config/systemd/user/ssmtunneld.service"
    assert Systemd(place, system=False).path == expected


def test_what_a_hidden_folder_is_linked_to_is_found_out(machine, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    link = tmp_path / "open"
    link.symlink_to(hidden)
    place = replace(machine.place, hidden=(hidden,))
    with pytest.raises(CommandError, match="does not see"):
        Systemd(place, system=True).check([str(link / "x")], Path("/c.toml"))
    Systemd(place, system=False).check([str(link / "x")], link)
