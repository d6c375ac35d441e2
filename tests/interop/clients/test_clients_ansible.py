"""Ansible, which runs ssh with ControlPersist, through ``ssmtunneld proxy``."""

import getpass
import json
import subprocess
import sys

import pytest

from tests.interop.conftest import TARGET
from tests.interop.programs import run

PATIENCE = 120


@pytest.fixture
def ansible(client, environ, sshd, tmp_path):
    """Return a function that has Ansible run a command on the target."""
    program = client("ansible-core") / "bin" / "ansible"
    command = f"{sys.executable} -m ssmtunneld proxy %h %p"
    options = f"-o ProxyCommand='{command}' -o StrictHostKeyChecking=no"
    options += " -o UserKnownHostsFile=/dev/null"
    inventory = tmp_path / "inventory.json"
    facts = {
        "ansible_user": getpass.getuser(),
        "ansible_port": sshd.port,
        "ansible_ssh_private_key_file": str(sshd.folder / "user_key"),
        "ansible_ssh_common_args": options,
        "ansible_python_interpreter": sys.executable,
    }
    inventory.write_text(json.dumps({"all": {"hosts": {TARGET: facts}}}))
    environ["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(tmp_path)
    environ["ANSIBLE_NOCOLOR"] = "1"
    # Its own, but for the time: the end of the test would wait for the 60 s.
    environ["ANSIBLE_SSH_ARGS"] = "-C -o ControlMaster=auto -o ControlPersist=2s"
    environ["LC_ALL"] = "C.UTF-8"
    return [
        *(str(program), "-i", str(inventory), "all"),
        *("-m", "ansible.builtin.raw", "-a", "echo through"),
    ], environ


def test_a_command_runs_on_the_target(ansible):
    argv, environ = ansible
    assert "through" in run(*argv, env=environ)


def test_the_reason_of_a_denied_target_is_shown(ansible, emulator):
    argv, environ = ansible
    with emulator.faults("start-error=AccessDeniedException"):
        result = subprocess.run(
            argv,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    assert result.returncode != 0
    told = result.stdout + result.stderr
    assert "UNREACHABLE" in told
    assert "StartSession failed: AccessDeniedException" in told
