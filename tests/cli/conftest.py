"""A home in which no daemon runs but those that a test serves."""

import socket
import threading

import pytest

from tests.cli.household import PATIENCE, Household, serving, use_home


@pytest.fixture
def tmp_path(tmp_path_factory):
    """A folder whose path is short: those of Unix sockets must be."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture
def home(monkeypatch, tmp_path):
    """The folder in which daemons and files are looked for."""
    use_home(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture
def operator(home):
    """Answer at the control socket; the status document has one tunnel, ``db``."""
    household = Household()
    with serving(household):
        yield household


@pytest.fixture
def greeter():
    """A server that greets one client after its first words; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet():
            far, _ = server.accept()
            with far:
                far.settimeout(PATIENCE)
                far.sendall(b"hello " + far.recv(100))

        thread = threading.Thread(target=greet)
        thread.start()
        port = server.getsockname()[1]
        yield port
        # In case that nobody came.
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join(PATIENCE)
