"""``systemd/``: what it holds, and what systemd and launchd think of it."""

import configparser
import os
import plistlib
import re
import shutil
import subprocess
import sys

import pytest

from ssmtunneld.cli.service import units
from tests.packaging.units import FOLDER, examples

EXPOSURE = 2.0
SERVICES = sorted(path.name for path in FOLDER.glob("*.service"))


def read(name):
    """Return a unit by its sections."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(FOLDER / name)
    return unit


def analyze(*arguments):
    """Return what systemd-analyze came to; without a terminal, and in English.

    Without it the test is skipped; with SSMTUNNELD_REQUIRE_INTEROP, as in CI, it fails.
    """
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("SSMTUNNELD_REQUIRE_INTEROP"):
            pytest.fail("not installed: systemd-analyze")
        pytest.skip("not installed: systemd-analyze")
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
        check=False,
    )


def test_the_folder_shows_what_the_templates_become():
    # After a change of ssmtunneld/cli/service/templates: make units
    found = {name: (FOLDER / name).read_text() for name in examples()}
    assert found == examples()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_starts_our_command_and_says_when_it_is_ready(name):
    section = read(name)["Service"]
    assert section["Type"] == "notify"
    assert re.search(r"/bin/ssmtunneld run --config \S+\.toml$", section["ExecStart"])
    # Exit code 2 is a configuration that cannot be used.
    assert section["RestartPreventExitStatus"] == "2"
    assert int(section["WatchdogSec"]) >= 10
    # drain_timeout is 30 seconds unless somebody says otherwise; then the daemon asks.
    assert int(section["TimeoutStopSec"]) >= 45
    assert section["LimitCORE"] == "0"
    assert section["MemoryMax"] == "1G"


@pytest.mark.parametrize("name", sorted({*SERVICES, "ssmtunneld.socket"}))
def test_systemd_understands_every_line(name, tmp_path):
    # The program need not be there; any that can be run will do.
    for path in FOLDER.glob("ssmtunneld*"):
        text = path.read_text()
        text = re.sub(r"=\S+/ssmtunneld(?= )", f"={sys.executable}", text)
        (tmp_path / path.name).write_text(text)
    result = analyze("verify", "--recursive-errors=no", tmp_path / name)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", ["ssmtunneld.service", "ssmtunneld@.service"])
def test_the_machines_services_are_locked_in(name):
    result = analyze("security", "--offline=yes", "--no-pager", FOLDER / name)
    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+)", result.stdout)
    assert exposure, result.stderr
    assert float(exposure[1]) <= EXPOSURE


def test_the_machines_service_can_tell_users_apart():
    # In a user namespace of its own it would take everybody else for "nobody".
    assert "PrivateUsers" not in read("ssmtunneld.service")["Service"]


def test_a_users_service_reaches_the_home_directory_and_its_logins():
    section = read("ssmtunneld-user.service")["Service"]
    assert not {"ProtectHome", "ProtectSystem", "DynamicUser", "PrivateUsers"} & {
        *section
    }
    assert read("ssmtunneld-user.service")["Install"]["WantedBy"] == "default.target"


def test_the_socket_belongs_to_the_service():
    assert read("ssmtunneld.socket")["Socket"]["Service"] == "ssmtunneld.service"
    assert read("ssmtunneld.socket")["Socket"]["FileDescriptorName"] == "orders-db"


def test_the_launchd_agent_runs_in_the_foreground_and_comes_back_after_a_crash():
    raw = (FOLDER / "io.github.ssmtunneld.plist").read_bytes()
    agent = plistlib.loads(raw)
    assert agent["Label"] == units.LABEL
    assert agent["ProgramArguments"][0].startswith("/")
    assert agent["ProgramArguments"][1:3] == ["run", "--config"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["Umask"] == 0o77
    assert agent["ExitTimeOut"] >= 45


def test_the_property_list_holds_only_keys_that_launchd_knows():
    raw = (FOLDER / "io.github.ssmtunneld.plist").read_bytes()
    # plutil -lint is as strict as this: plistlib would also take a repeated key.
    keys = re.findall(rb"^  <key>(.*)</key>", raw, re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert {*plistlib.loads(raw)} == {
        "Label",
        "ProgramArguments",
        "EnvironmentVariables",
        "RunAtLoad",
        "KeepAlive",
        "ThrottleInterval",
        "ExitTimeOut",
        "ProcessType",
        "Umask",
        "StandardErrorPath",
    }
