"""pyssm-client, a plugin in Python: port forwarding through the emulator."""

import hashlib
import os
import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.interop.conftest import TARGET
from tests.interop.programs import Program, free_port

SIZE = 300_000
PATIENCE = 60


@pytest.fixture
def echo():
    """The port of a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=[connection], daemon=True).start()

    def answer(connection):
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    with closing(server):
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def forward(client, environ, emulator):
    """Return a function that starts ``pyssm port-forward`` and returns its port."""
    program = client("pyssm-client") / "bin" / "pyssm"
    running = []

    def begin(port, *arguments):
        local = free_port()
        words = ("--remote-port", port, "--local-port", local, *arguments)
        running.append(
            Program(
                program,
                "port-forward",
                "--target",
                TARGET,
                *words,
                "--endpoint-url",
                emulator.endpoint,
                env=environ,
            )
        )
        running[-1].wait_for(rf"(?i)(forward|listen)[^\n]*{local}")
        return local

    begin.running = running
    yield begin
    for process in running:
        process.kill()


def exchanged(port, data):
    """Return the digest of what comes back for ``data``."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        sender = threading.Thread(target=connection.sendall, args=[data])
        sender.start()
        digest, size = hashlib.sha256(), 0
        while size < len(data):
            piece = connection.recv(65536)
            if not piece:
                break
            digest.update(piece)
            size += len(piece)
        sender.join()
    return digest.hexdigest()


def test_bytes_come_back_whole_one_by_one_and_at_once(forward, echo):
    port = forward(echo)
    data = [os.urandom(SIZE) for _ in range(4)]
    expected = [hashlib.sha256(piece).hexdigest() for piece in data]
    assert exchanged(port, data[0]) == expected[0]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda piece: exchanged(port, piece), data))
    assert found == expected


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
