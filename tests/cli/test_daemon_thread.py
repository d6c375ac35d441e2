"""A daemon in a thread of a command."""

import socket

import pytest

from ssmtunneld.cli.ad_hoc import Forward, configure
from ssmtunneld.cli.daemon_thread import DaemonThread
from ssmtunneld.errors import AddressInUse, SsmtunneldError
from ssmtunneld.testing import EmulatorThread
from tests.integration.world import TARGET, use_loopback_aws


@pytest.fixture
def service(monkeypatch, tmp_path):
    use_loopback_aws(monkeypatch, tmp_path)
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator


def config(listen, **settings):
    return configure(TARGET, [Forward(None, 1, listen)], settings)


def ask_for_ever(daemon):
    while True:
        daemon.document()


def test_it_runs_for_the_block_and_leaves_no_session(service):
    with DaemonThread(config("127.0.0.1:0")) as daemon:
        while not (found := daemon.document()["tunnels"][0])["usable"]:
            assert found["state"] in {"unbound", "starting"}
    assert {session["status"] for session in service.sessions()} == {"Terminated"}
    with pytest.raises(SsmtunneldError, match="the tunnels have ended"):
        daemon.document()


def test_an_address_that_is_taken_is_the_reason_of_its_end(service):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with DaemonThread(config(address)) as daemon, pytest.raises(AddressInUse):
            ask_for_ever(daemon)


def test_what_the_block_raises_ends_the_daemon(service):
    with pytest.raises(KeyError), DaemonThread(config("127.0.0.1:0")) as daemon:
        raise KeyError
    with pytest.raises(SsmtunneldError):
        daemon.document()
