"""pyssm-client, a plugin in Python: port forwarding through the emulator."""

import asyncio
import hashlib
import os
import re
import signal
import socket

import pytest

from ssmtunneld.api import open_tunnel
from tests.integration import world
from tests.interop.clients.conftest import REMOTE_ADDRESS, REMOTE_HOST
from tests.interop.clients.forwarding import (
    PATIENCE,
    come_back_whole,
    echo_server,
    exchanged,
)
from tests.interop.conftest import TARGET, run_emulator
from tests.interop.programs import Program
from tests.support.ports import free_port


@pytest.fixture
def forward(client, environ):
    """Return a function that starts ``pyssm port-forward`` and returns its port."""
    program = client("pyssm-client") / "bin" / "pyssm"
    running = []

    def begin(port, *arguments, prefix=(), **more):
        local = free_port()
        ours = {**environ, **more}
        target = ("--target", TARGET, "--endpoint-url", ours["AWS_ENDPOINT_URL_SSM"])
        ports = ("--remote-port", port, "--local-port", local)
        command = (*prefix, program, "port-forward", *target, *ports, *arguments)
        running.append(Program(*command, env=ours))
        running[-1].wait_for(rf"(?i)(forward|listen)[^\n]*{local}")
        return local

    begin.running = running
    yield begin
    for process in running:
        process.kill()


def test_bytes_come_back_whole_one_by_one_and_at_once(forward, echo):
    assert come_back_whole(forward(echo))


def test_a_remote_host_is_reached_by_its_name(forward, emulator):
    with echo_server(REMOTE_ADDRESS) as port:
        assert come_back_whole(forward(port, "--remote-host", REMOTE_HOST))
    (session,) = (
        session
        for session in emulator.state()["sessions"]
        if session["properties"].get("host") == REMOTE_HOST
    )
    assert session["document"] == "AWS-StartPortForwardingSessionToRemoteHost"
    assert session["properties"]["portNumber"] == str(port)


def test_a_forbidden_host_ends_it_without_the_agents_reason(forward, echo, emulator):
    # Its own fault, seen with 0.2: it ends as if all were well, and the agent's words,
    # which come with channel_closed, are not shown.
    forward(echo, "--remote-host", "127.0.0.1")
    (process,) = forward.running
    assert process.process.wait(PATIENCE) == 0
    assert "forbidden" not in process.log()
    outputs = [
        session["output"]
        for session in emulator.state()["sessions"]
        if session["properties"].get("host") == "127.0.0.1"
    ]
    (output,) = outputs
    assert output.endswith("Forwarding to IP address 127.0.0.1 is forbidden.")


def test_it_comes_by_names_of_aws_and_tls(forward, echo, names_of_aws):
    port = forward(echo, prefix=names_of_aws.prefix, **names_of_aws.environment)
    assert come_back_whole(port)
    (session,) = names_of_aws.sessions()
    assert session["attached"]


def test_a_refused_destination_ends_the_connection(forward):
    port = forward(free_port())
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        assert connection.recv(1) == b""


def test_an_interrupt_leaves_its_session_open(forward, emulator, echo):
    # Its own fault, seen with 0.2: it closes its websocket and neither sends
    # TerminateSession nor calls it, so that the session waits for its idle timeout.
    port = forward(echo)
    assert exchanged(port, b"x") == hashlib.sha256(b"x").hexdigest()
    (process,) = forward.running
    process.stop(signal.SIGINT)
    ours = [
        session
        for session in emulator.state()["sessions"]
        if re.search(str(echo), str(session["properties"]))
    ]
    assert [session["status"] for session in ours] == ["Disconnected"]


async def test_its_session_is_played_to_our_driver(
    forward, echo, monkeypatch, tmp_path
):
    world.use_loopback_aws(monkeypatch, tmp_path)
    path, data = tmp_path / "sessions.jsonl", os.urandom(100_000)
    expected = hashlib.sha256(data).hexdigest()
    with run_emulator(None, "--record", path, "--record-payloads") as recording:
        port = forward(echo, AWS_ENDPOINT_URL_SSM=recording.endpoint)
        assert exchanged(port, data) == expected
        forward.running[0].stop(signal.SIGINT)
    with run_emulator(None, "--replay", path) as playing:
        # Nobody listens there: the recording speaks in the destination's place.
        where = {"endpoint_url": playing.endpoint, "region": "eu-west-1"}
        async with open_tunnel(TARGET, free_port(), **where) as tunnel:
            found = await asyncio.to_thread(exchanged, tunnel.port, data)
    assert found == expected
