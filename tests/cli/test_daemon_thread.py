"""A daemon in a thread of a command."""

import errno
import io
import os
import signal
import socket

import pytest

from ssmtunneld.base.threads import NoThread
from ssmtunneld.cli import daemon_thread
from ssmtunneld.cli.ad_hoc import Forward, configure
from ssmtunneld.cli.daemon_thread import DaemonThread
from ssmtunneld.cli.ending_signals import EndingSignals
from ssmtunneld.config.parsers import TcpAddress
from ssmtunneld.errors import AddressForbidden, AddressInUse, SsmtunneldError
from ssmtunneld.listener import sockets
from ssmtunneld.testing import EmulatorThread
from tests.integration.world import PATIENCE, TARGET, use_loopback_aws
from tests.support.threads import no_thread


@pytest.fixture
def service(monkeypatch, tmp_path):
    use_loopback_aws(monkeypatch, tmp_path)
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator


def config(listen, **settings):
    return configure(TARGET, [Forward(None, 1, listen)], settings)


def thread(address="127.0.0.1:0"):
    return DaemonThread(config(address), EndingSignals())


def await_usable(daemon):
    while not (found := daemon.document()["tunnels"][0])["usable"]:
        assert found["state"] in {"unbound", "starting"}


def ask_for_ever(daemon):
    while True:
        daemon.document()


def test_it_runs_for_the_block_and_leaves_no_session(service):
    with thread() as daemon:
        await_usable(daemon)
    assert {session["status"] for session in service.sessions()} == {"Terminated"}
    with pytest.raises(SsmtunneldError, match="the tunnels have ended"):
        daemon.document()


def test_a_system_that_allows_no_thread_is_said(service):
    with no_thread(), pytest.raises(NoThread), thread():
        pytest.fail("a daemon without a thread")
    assert service.sessions() == []


def test_an_address_that_is_taken_is_the_reason_of_its_end(service):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with thread(address) as daemon, pytest.raises(AddressInUse):
            ask_for_ever(daemon)


def test_an_address_that_is_forbidden_is_the_reason_of_its_end(service, monkeypatch):
    def refuse(*_):
        error = PermissionError(errno.EACCES, "Permission denied")
        raise sockets._CannotListen(TcpAddress("127.0.0.1", 80), error)

    monkeypatch.setattr(sockets, "_bind_tcp", refuse)
    with (
        pytest.raises(AddressForbidden, match="cannot listen on 127") as error,
        thread("127.0.0.1:80") as daemon,
    ):
        ask_for_ever(daemon)
    assert error.value.advice.startswith("choose a port from 1024 up")


def test_what_the_block_raises_ends_the_daemon(service):
    with pytest.raises(KeyError), thread() as daemon:
        raise KeyError
    with pytest.raises(SsmtunneldError):
        daemon.document()


def end_by_two_signals(daemon, signals):
    """Let the second one come before the daemon has heard of the first one."""

    def stop(stop=daemon._stop):
        if signals.came == 1:
            signal.raise_signal(signal.SIGTERM)
        stop()

    daemon._stop = stop
    with daemon, signals.interrupting():
        await_usable(daemon)
        signal.raise_signal(signal.SIGTERM)


def test_a_second_signal_right_behind_the_first_leaves_no_session(service):
    with EndingSignals() as signals:
        daemon = DaemonThread(config("127.0.0.1:0"), signals, PATIENCE)
        with pytest.raises(SystemExit):
            end_by_two_signals(daemon, signals)
    assert signals.came == 2
    assert not daemon.alive
    assert {session["status"] for session in service.sessions()} == {"Terminated"}


def test_a_signal_at_the_start_leaves_no_thread(service):
    with EndingSignals() as signals:
        daemon = DaemonThread(config("127.0.0.1:0"), signals, PATIENCE)
        daemon._begun.wait = lambda wait=daemon._begun.wait: (
            signal.raise_signal(signal.SIGTERM) if not signals.came else None,
            wait(),
        )
        with pytest.raises(SystemExit), daemon, signals.interrupting():
            pass
    assert not daemon.alive


def test_a_signal_between_the_block_and_its_end_leaves_no_session(service):
    def await_and_let_one_come():
        with daemon:
            with signals.interrupting():
                await_usable(daemon)
            signal.raise_signal(signal.SIGTERM)

    with EndingSignals() as signals:
        daemon = DaemonThread(config("127.0.0.1:0"), signals, PATIENCE)
        await_and_let_one_come()
    assert (signals.came, daemon.alive) == (1, False)
    assert {session["status"] for session in service.sessions()} == {"Terminated"}


class Gone(io.StringIO):
    """A terminal that has been closed."""

    tries = 0

    def write(self, text):
        self.tries += 1
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_terminal_that_has_gone_is_no_reason_to_leave_before_all_is_ended(
    service, monkeypatch
):
    gone = Gone()
    # At once, and not only where it takes long.
    monkeypatch.setattr(daemon_thread, "_USUAL_END", 0.0)
    monkeypatch.setattr(daemon_thread, "_SIGNAL_CHECK", 0.0)
    with thread() as daemon:
        await_usable(daemon)
        monkeypatch.setattr("sys.stderr", gone)
    assert gone.tries  # or nothing was said
    assert not daemon.alive
    assert {session["status"] for session in service.sessions()} == {"Terminated"}
