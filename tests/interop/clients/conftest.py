"""Clients that nobody here wrote, in environments of their own.

``sh tests/interop/install-clients`` installs them. One that could not be installed is
skipped by its name and the reason; where the script never ran all are skipped, unless
SSMTUNNELD_REQUIRE_INTEROP is set, as it is in CI.
"""

import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.clients.forwarding import echo_server
from tests.interop.conftest import _command, _lack, run_emulator
from tests.interop.names import may_replace_hosts, with_hosts
from tests.interop.programs import (
    Program,
    aws_environment,
    environment,
)
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
REMOTE_HOST = "orders.example.internal"
REMOTE_ADDRESS = "127.0.79.1"
"""The address at which the emulator's agents find it: nobody else listens there."""

STREAM_NAME = "ssmmessages.eu-west-1.amazonaws.com"


@dataclass(frozen=True)
class TlsEmulator:
    """An emulator that is reached by a name, over TLS, as docs/emulator.md shows it."""

    port: int
    authority: Path
    environment: dict[str, str]
    """Variables that a client needs in its environment, besides the usual."""
    prefix: tuple[str, ...]
    """Words before a client's command, which give it another hosts file."""

    def sessions(self):
        """Return the sessions of the emulator's admin path."""
        context = ssl.create_default_context(cafile=self.authority)
        context.check_hostname = False
        url = f"https://127.0.0.1:{self.port}/_emulator/state"
        with urllib.request.urlopen(url, context=context) as answer:
            return json.load(answer)["sessions"]


def printed_commands(name, port, folder):
    """Return the commands of docs/emulator.md for another name, port and folder."""
    text = (ROOT / "docs/emulator.md").read_text()
    section = text.split("### Clients that insist on AWS's names")[1].split("\n#")[0]
    for printed, ours in ((STREAM_NAME, name), ("4566", port), ("$PWD", folder)):
        assert printed in section
        section = section.replace(printed, str(ours))
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return re.findall(r"^\$ ((?:.*\\\n)*.*)", "".join(blocks), re.MULTILINE)


@pytest.fixture(scope="session")
def client():
    """Return a function that finds the folder of a client by its name, or skips."""
    folder = Path(os.environ.get("SSMTUNNELD_CLIENTS", ROOT / ".clients"))

    def find(name):
        reason = folder / f"{name}.missing"
        if reason.exists():
            pytest.skip(
                f"{name} cannot be installed here: {reason.read_text().strip()}"
            )
        if not (folder / name / ".complete").exists():
            _lack(name)
        return folder.resolve() / name

    return find


@pytest.fixture(scope="session")
def emulator():
    """The AWS side of these clients alone: some leave sessions as ours never would."""
    with run_emulator({REMOTE_HOST: REMOTE_ADDRESS}) as running:
        yield running


@pytest.fixture
def environ(emulator, tmp_path):
    """The environment of a client's process: the way to the emulator, and no other."""
    url = emulator.endpoint
    return aws_environment(
        url,
        AWS_ENDPOINT_URL_STS=url,
        AWS_DEFAULT_REGION="eu-west-1",
        HOME=str(tmp_path),
        XDG_STATE_HOME=str(tmp_path),
        XDG_CONFIG_HOME=os.devnull,
    )


@contextmanager
def run_tls_emulator(name, folder, *more):
    """Run an emulator whose stream URLs have ``name``; files are in ``folder``."""
    if not may_replace_hosts():
        pytest.skip("only root can give a process another hosts file, on Linux")
    if shutil.which("openssl") is None:
        _lack("openssl")
    port = free_port()
    commands = printed_commands(name, port, folder)
    naming, options, *keys, hosts_line, serving, exporting = commands
    subprocess.run(
        ["sh", "-ec", "\n".join([naming, options, *keys])],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    assert hosts_line == 'echo "127.0.0.1 $name" | sudo tee -a /etc/hosts'
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n127.0.0.1 {name}\n")
    known, *arguments = shlex.split(serving.replace("$name", name))
    assert known == "ssmtunneld"
    command, *pairs = shlex.split(exporting.replace("$name", name))
    assert command == "export"
    program = Program(
        *_command(*arguments, "--pace=none", *more),
        env=environment(
            AWS_ACCESS_KEY_ID="AKIAEMULATOR00000000",
            AWS_SECRET_ACCESS_KEY="emulator-secret",
        ),
        cwd=folder,
    )
    try:
        program.wait_for("emulator listening on https://")
        yield TlsEmulator(
            port,
            folder / "ca.pem",
            dict(pair.split("=", 1) for pair in pairs),
            tuple(with_hosts(hosts)),
        )
        assert program.stop() == 0, program.log()
    finally:
        program.kill()


@pytest.fixture
def names_of_aws(tmp_path):
    """Run an emulator for clients that refuse stream URLs without a name of AWS's."""
    with run_tls_emulator(STREAM_NAME, tmp_path) as running:
        yield running


@pytest.fixture
def echo():
    """The port of a server that sends back what it gets."""
    with echo_server() as port:
        yield port
