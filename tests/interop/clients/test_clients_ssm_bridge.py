"""aws-ssm-bridge, a client in Rust with a module for Python: forwarding over TLS.

Its wheel asks for glibc 2.39 (Debian 13, Ubuntu 24.04). It opens a data channel only at
a name of AWS's, over TLS, and looks at the digests of messages.
"""

import signal
import socket
import subprocess

import pytest

from tests.interop.clients.conftest import STREAM_NAME, run_tls_emulator
from tests.interop.clients.forwarding import PATIENCE, come_back_whole
from tests.interop.conftest import TARGET
from tests.interop.programs import Program
from tests.support.ports import free_port

SCRIPT = """
import asyncio, signal, sys
from aws_ssm_bridge import PortForwarder, SessionManager

async def main(target, port, host=None):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    manager = await SessionManager.new(region="eu-west-1")
    if host is None:
        session = await manager.start_port_forward(target, int(port))
    else:
        session = await manager.start_remote_port_forward(target, host, int(port))
    await session.wait_ready()
    forwarder = await PortForwarder.bind()
    forwarding = asyncio.ensure_future(forwarder.forward(session))
    print("forwarding from", forwarder.port, session.agent_version, flush=True)
    await stop.wait()
    forwarder.stop()
    await session.terminate()
    await forwarding

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def python(client):
    return client("aws-ssm-bridge") / "bin" / "python"


@pytest.fixture
def names_of_aws(tmp_path):
    """The same, and it verifies the upgrade's signature: this client makes one."""
    with run_tls_emulator(STREAM_NAME, tmp_path, "--require-signature") as running:
        yield running


@pytest.fixture
def forward(python, environ, names_of_aws):
    """Return a function that starts a forwarder and returns its port."""
    running = []

    def begin(*arguments):
        command = (*names_of_aws.prefix, python, "-c", SCRIPT, TARGET, *arguments)
        running.append(Program(*command, env={**environ, **names_of_aws.environment}))
        port, version = running[-1].wait_for(r"forwarding from (\d+) (\S+)").groups()
        assert version == "3.3.5068.0"
        return int(port)

    begin.running = running
    yield begin
    for process in running:
        process.kill()


def test_bytes_come_back_whole_and_the_session_is_ended(forward, echo, names_of_aws):
    assert come_back_whole(forward(echo))
    (process,) = forward.running
    assert process.stop(signal.SIGTERM) == 0, process.log()
    (session,) = names_of_aws.sessions()
    assert session["status"] == "Terminated"


def test_a_refused_destination_ends_the_connection_alone(forward):
    port = forward(free_port())
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            assert connection.recv(1) == b""


def refused(python, environ, *, prefix=()):
    """Return the last words of the script, which must fail."""
    result = subprocess.run(
        [*prefix, python, "-c", SCRIPT, TARGET, "80"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 1, result.stdout
    return result.stderr.strip().splitlines()[-1]


def test_stream_urls_without_tls_or_a_name_of_aws_are_refused(
    python, environ, tmp_path
):
    # No fault: tokens are kept from strangers, and its Python has no switch for it.
    assert "must use wss://" in refused(python, environ)
    with run_tls_emulator("ssmmessages.example.com", tmp_path) as running:
        environ = {**environ, **running.environment}
        said = refused(python, environ, prefix=running.prefix)
    assert "not an AWS SSM messages endpoint" in said
