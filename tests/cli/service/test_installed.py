"""How a service is started that is installed and does not run."""

from dataclasses import replace

import pytest

from ssmtunneld.cli.service.installed import start_command
from ssmtunneld.cli.service.systemctl import Systemd
from tests.cli.standin import Machine


@pytest.fixture
def linux(tmp_path):
    return Machine(tmp_path / "m", "linux", ["systemctl", "loginctl"])


def test_without_one_there_is_nothing_to_start(linux):
    assert start_command(None, linux.place) == ""
    assert start_command(None, replace(linux.place, platform="other")) == ""


def test_the_users_service_is_started_for_its_own_file_only(linux):
    linux.install()
    start = "systemctl --user start ssmtunneld"
    assert start_command(None, linux.place) == start
    assert start_command(linux.config, linux.place) == start
    assert start_command(linux.config.with_suffix(".tom"), linux.place) == ""
    assert start_command(linux.folder / "other.toml", linux.place) == ""


def test_a_unit_of_somebody_else_is_none(linux):
    path = Systemd(linux.place, system=False).path
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/bin/true\n")
    assert start_command(None, linux.place) == ""


def test_the_machines_service_takes_root(linux):
    manager = Systemd(linux.place, system=True)
    manager.path.write_text(manager.text(linux.place.program, linux.config))
    assert start_command(None, linux.place) == "sudo systemctl start ssmtunneld"


def test_an_agent_of_launchd_is_loaded_again(tmp_path):
    mac = Machine(tmp_path / "m", "darwin", ["launchctl"])
    mac.install()
    assert start_command(mac.config, mac.place) == "ssmtunneld service install"
    assert start_command(mac.folder / "other.toml", mac.place) == ""
