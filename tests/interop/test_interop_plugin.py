"""The official session-manager-plugin against the emulator, where it is installed.

It is in no package archive, so CI has none. Versions up to 1.2.835.0 serve (protocol,
appendix C): newer ones insist on a host name of AWS. SSMTUNNELD_PLUGIN is its path.
"""

import json
import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection

import boto3
import pytest

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.testing import REGION, EmulatorThread
from tests.interop.conftest import TARGET
from tests.interop.content import MEBIBYTE, sha256
from tests.interop.http_server import content
from tests.interop.programs import (
    START_TIMEOUT,
    Program,
    environment,
    run,
)
from tests.support.ports import free_port

FORWARDING = "AWS-StartPortForwardingSession"


@pytest.fixture(scope="module")
def program():
    """The path of the plugin."""
    found = os.environ.get("SSMTUNNELD_PLUGIN") or shutil.which(
        "session-manager-plugin"
    )
    if not found:
        pytest.skip("not installed: session-manager-plugin")
    version = run(found, "--version").strip()
    if tuple(map(int, version.split("."))) > (1, 2, 835, 0):
        pytest.skip(f"session-manager-plugin {version} refuses loopback addresses")
    return found


class Plugin(Program):
    """The plugin as the AWS CLI starts it, with the session that it serves."""

    def __init__(self, program, service, folder, port):
        self._service = service
        ours = service.environment
        client = boto3.client(
            "ssm",
            endpoint_url=service.endpoint_url,
            region_name=REGION,
            aws_access_key_id=ours["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ours["AWS_SECRET_ACCESS_KEY"],
        )
        request = {
            "Target": TARGET,
            "DocumentName": FORWARDING,
            "Parameters": {"portNumber": [str(port)]},
        }
        grant = client.start_session(**request)
        client.close()
        del grant["ResponseMetadata"]
        self._session_id = grant["SessionId"]
        words = [json.dumps(grant), REGION, "StartSession", "", json.dumps(request)]
        super().__init__(
            *(program, *words, service.endpoint_url),
            env=environment(**ours, HOME=folder, TMPDIR=folder),
        )

    def connect(self):
        """Return a connection to the web server, once the plugin listens."""
        port = int(self.wait_for(r"Port (\d+) opened for sessionId")[1])
        return closing(HTTPConnection("localhost", port, START_TIMEOUT))

    def state(self):
        """Return what the emulator says of its session."""
        found = self._service.sessions()
        return next(one for one in found if one["id"] == self._session_id)

    def until(self, condition):
        """Return once ``condition`` holds of its session's state."""
        deadline = time.perf_counter() + START_TIMEOUT
        while not condition(state := self.state()):
            assert time.perf_counter() < deadline, (state, self.log())

    def end_session(self, output):
        self._service.close_session(self._session_id, output)


@contextmanager
def _served(program, port, **settings):
    """Yield an emulator, and the plugin that has a session of it."""
    # Short: the plugin makes a socket in it, whose path has a limit.
    folder = tempfile.mkdtemp(prefix="smp-", dir="/tmp")
    try:
        with EmulatorThread(EmulatorSettings(pace=Pace.NONE, **settings)) as service:
            plugin = Plugin(program, service, folder, port)
            try:
                yield service, plugin
            finally:
                plugin.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(plugin, size, seed):
    with plugin.connect() as connection:
        _get(connection, size, seed)


def _get(connection, size, seed):
    connection.request("GET", f"/{size}/{seed}")
    assert sha256(connection.getresponse().read()) == sha256(content(size, seed))


# With mux, and one connection after the other: before 3.0.222.0 there was no mux.
@pytest.mark.parametrize("version", ["3.3.987.0", "3.1.1374.0", "3.0.100.0"])
def test_it_forwards_and_ends_on_ctrl_c(program, http_server, version):
    with _served(program, http_server.port, agent_version=version) as (_, plugin):
        for seed in range(3):
            _download(plugin, MEBIBYTE, seed)
        if version != "3.0.100.0":
            with ThreadPoolExecutor(20) as crowd:
                jobs = [crowd.submit(_download, plugin, 100_000, n) for n in range(20)]
            assert [job.result() for job in jobs] == [None] * 20
        with plugin.connect() as connection:
            # Quiet: what it sends beside its last message may get the same number.
            _get(connection, 100_000, 9)
            plugin.until(_has_one_stream)
            _get(connection, 100_000, 9)
            assert plugin.stop(signal.SIGINT) == 0, plugin.log()
            plugin.until(lambda state: state["status"] == "Terminated")


def _has_one_stream(state):
    return len(state["streams"]) == 1 and not state["agent"]["unacknowledged"]


@pytest.mark.parametrize("end", ["cut", "bye"])
def test_it_resumes_with_the_url_that_it_had_first(program, http_server, end):
    with (
        _served(program, http_server.port) as (service, plugin),
        plugin.connect() as connection,
    ):
        for count in (2, 3):
            _get(connection, 100_000, 1)
            # Quiet: a byte that it writes while its websocket is down ends its bridge
            # for good, which is its own defect (protocol 8, trap 2).
            plugin.until(lambda s: not s["agent"]["unacknowledged"])
            service.add_faults(end)
            plugin.until(lambda s, count=count: s["websockets"] == count)
        _get(connection, MEBIBYTE, 2)


def test_it_understands_what_the_service_says(program, http_server):
    with _served(program, http_server.port) as (service, plugin):
        _download(plugin, 100_000, 1)
        service.add_faults("down:pause", "down:start")
        _download(plugin, 100_000, 2)
        plugin.end_session("Ended by an administrator.")
        plugin.wait_for(r"Ended by an administrator\.")
        assert plugin.process.wait(START_TIMEOUT) == 0


def test_a_session_that_is_gone_has_timed_out(program, http_server):
    with _served(program, http_server.port) as (service, plugin):
        _download(plugin, 100_000, 1)
        service.set_faults("resume-error=empty-token")
        service.cut_websockets()
        plugin.wait_for(r"timed out")
        assert plugin.process.wait(START_TIMEOUT) == 0


def test_a_refused_destination_is_told(program):
    with _served(program, free_port()) as (_, plugin):
        with pytest.raises(OSError, match=r"closed connection|reset"):
            _download(plugin, 1, 1)
        plugin.wait_for("Connection to destination port failed")
