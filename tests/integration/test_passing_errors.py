"""Commands that start sessions outlast errors that pass, as a daemon does."""

import os
import socket
import subprocess
import sys

import pytest

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.testing import EmulatorThread
from tests.integration.world import TARGET, tunnel
from tests.interop.programs import environment

pytestmark = pytest.mark.integration
PATIENCE = 120
PASSING = ("ThrottlingException", "TargetNotConnected", "500")


@pytest.fixture
def call(tmp_path_factory):
    """Run a command against an emulator whose StartSession fails three times."""

    def run(error, *command, port, said=b""):
        with EmulatorThread(EmulatorSettings(pace=Pace.NONE)) as aws:
            aws.set_faults(f"start-error={error}*3")
            # The path of a Unix socket is short.
            folder = tmp_path_factory.mktemp("d")
            path = folder / "config.toml"
            path.write_text(tunnel("db", port=port, linger="200ms"))
            environ = environment(**aws.environment, XDG_CONFIG_HOME=os.devnull)
            environ["XDG_STATE_HOME"] = str(folder)
            return subprocess.run(
                [sys.executable, "-m", "ssmtunneld", *command, "--config", str(path)]
                if command[0] != "exec"
                else [
                    *(sys.executable, "-m", "ssmtunneld", "exec"),
                    *("--config", str(path), "--", *command[1:]),
                ],
                env=environ,
                input=said,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )

    return run


@pytest.fixture
def destination():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("error", PASSING)
@pytest.mark.parametrize(
    "command",
    [("doctor", "db"), ("check", "--live"), ("exec", sys.executable, "-c", "")],
    ids=lambda command: command[0],
)
def test_a_command_outlasts_three_passing_errors(call, destination, command, error):
    result = call(error, *command, port=destination.getsockname()[1])
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("error", PASSING)
def test_proxy_outlasts_three_passing_errors(call, destination, error):
    port = destination.getsockname()[1]
    document = "AWS-StartPortForwardingSession"
    command = ("proxy", TARGET, str(port), "--document", document, "--no-daemon")
    result = call(error, *command, port=port, said=b"hello")
    assert result.returncode == 0, result.stderr
    destination.settimeout(PATIENCE)
    far, _ = destination.accept()
    with far:
        assert far.recv(100) == b"hello"


@pytest.mark.parametrize("error", ["AccessDeniedException", "ValidationException"])
def test_an_error_that_stays_ends_proxy_at_once(call, destination, error):
    port = destination.getsockname()[1]
    result = call(error, "proxy", TARGET, str(port), "--no-daemon", port=port)
    assert result.returncode == 255
    assert error.encode() in result.stderr
