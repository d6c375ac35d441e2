"""The rule of every command about the endpoint of the API.

The option, then the variables, then the file of those that read one (networks.md).
"""

import shutil
import subprocess
import sys

import pytest

from ssmtunneld.emulator.settings import EmulatorSettings, Node, Pace
from ssmtunneld.testing import EmulatorThread
from tests.integration.world import PATIENCE, use_loopback_aws

TARGET = "i-0123456789abcdef0"
NOWHERE = "http://127.0.0.1:9"
ALL = ("open", "ssh", "proxy", "targets", "discover")
WITH_A_FILE = ("ssh", "proxy")


@pytest.fixture
def service(home, monkeypatch, tmp_path):
    """An emulator of which nothing but keys and region is known."""
    use_loopback_aws(monkeypatch, tmp_path)
    settings = EmulatorSettings(pace=Pace.NONE, nodes={TARGET: Node(name="web-1")})
    with EmulatorThread(settings) as emulator:
        for name, value in emulator.environment.items():
            if not name.startswith("AWS_ENDPOINT_URL"):
                monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        monkeypatch.delenv("AWS_ENDPOINT_URL_SSM", raising=False)
        yield emulator


@pytest.fixture
def run(service, home, greeter):
    """Run a command; return what it says, and whether the emulator was asked."""

    def run(command, *options, endpoint=None):
        if endpoint is not None:
            path = home / "config" / "ssmtunneld" / "config.toml"
            path.parent.mkdir(parents=True)
            path.write_text(f'[defaults]\nendpoint_url = "{endpoint}"\n')
        words = {
            "open": (TARGET, greeter, *options, "--timeout", "20s", "--", "true"),
            "ssh": ("-p", greeter, *options, TARGET),
            "proxy": (*options, TARGET, greeter),
            "targets": options,
            "discover": options,
        }[command]
        done = subprocess.run(
            [sys.executable, "-m", "ssmtunneld", command, *map(str, words)],
            input=b"words",
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        said = (done.stdout + done.stderr).decode()
        if command in {"targets", "discover"}:
            return said, "EndpointConnectionError" not in said
        return said, len(service.sessions()) == 1

    return run


@pytest.fixture(params=ALL)
def command(request):
    if request.param == "ssh" and shutil.which("ssh") is None:
        pytest.skip("ssh is not installed")
    return request.param


def test_the_option_goes_before_the_variables(command, run, service, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", NOWHERE)
    said, asked = run(command, "--endpoint-url", service.endpoint_url, endpoint=NOWHERE)
    assert asked, said


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL"])
def test_the_variables_go_before_the_file(command, run, service, variable, monkeypatch):
    monkeypatch.setenv(variable, service.endpoint_url)
    said, asked = run(command, endpoint=NOWHERE)
    assert asked, said


def test_what_the_option_names_is_asked_and_nothing_else(
    command, run, service, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", service.endpoint_url)
    said, asked = run(command, "--endpoint-url", NOWHERE, endpoint=service.endpoint_url)
    assert not asked, said


@pytest.mark.parametrize("command", WITH_A_FILE, indirect=True)
def test_the_file_counts_where_nothing_else_names_one(command, run, service):
    said, asked = run(command, endpoint=service.endpoint_url)
    assert asked, said
