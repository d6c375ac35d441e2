"""Single connections: half-closing clients, and destinations that refuse."""

import socket
import struct
import threading
from contextlib import ExitStack, closing, contextmanager
from time import perf_counter

import pytest

from tests.interop.conftest import tunnel_table
from tests.interop.content import noise
from tests.interop.destination import TIMEOUT, Destination
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def ports(daemon):
    """Local ports, and behind them: one destination of ours, and nothing at all."""
    local, gone, destination, nobody = (free_port() for _ in range(4))
    daemon(
        # One session carries all connections of this tunnel.
        tunnel_table("one", local, destination, max_sessions=1)
        + tunnel_table("gone", gone, nobody)
    )
    return {"one": local, "destination": destination, "gone": gone}


@pytest.fixture
def destination(ports):
    with Destination(ports["destination"]) as server:
        yield server


def _connect(port, timeout=TIMEOUT):
    return closing(socket.create_connection(("127.0.0.1", port), timeout))


def _read_exactly(connection, size):
    received = bytearray()
    while len(received) < size:
        data = connection.recv(size - len(received))
        assert data, f"ended after {len(received)} bytes"
        received += data
    return bytes(received)


def _read_all(connection):
    received = bytearray()
    while data := connection.recv(65536):
        received += data
    return bytes(received)


def _send_across(sender, receiver, data):
    thread = threading.Thread(target=sender.sendall, args=(data,))
    thread.start()
    assert _read_exactly(receiver, len(data)) == data
    thread.join()


def _there_and_back(near, far):
    _send_across(near, far, noise(300_000, seed=1))
    _send_across(far, near, noise(300_000, seed=2))


@contextmanager
def _joined(port, destination):
    """Yield both ends of a connection that is known to lead there."""
    with _connect(port) as near:
        near.sendall(b"!")
        with closing(destination.accepted()) as far:
            assert _read_exactly(far, 1) == b"!"
            yield near, far


def test_what_the_destination_says_after_a_half_close_arrives(ports, destination):
    with _joined(ports["one"], destination) as (near, far):
        near.shutdown(socket.SHUT_WR)
        # A whole connection comes and goes in the same session meanwhile, so the
        # daemon has seen the end of file of the first one by now.
        with _joined(ports["one"], destination) as other:
            _there_and_back(*other)
        far.sendall(b"answer" * 100_000)
        far.close()
        assert _read_all(near) == b"answer" * 100_000


def test_a_destination_that_closes_ends_the_client_after_its_last_byte(
    ports, destination
):
    with _joined(ports["one"], destination) as (near, far):
        far.sendall(b"bye")
        far.close()
        assert _read_all(near) == b"bye"


def test_a_client_that_resets_ends_the_connection_of_the_destination(
    ports, destination
):
    with _joined(ports["one"], destination) as (near, far):
        near.sendall(b"last words")
        assert _read_exactly(far, 10) == b"last words"
        # A reset, not an end of file: nobody is left to read an answer.
        linger = struct.pack("ii", 1, 0)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        near.close()
        assert _read_all(far) == b""


@contextmanager
def _talking(near, far):
    """Keep a connection busy, both ways at once; yield its count of rounds."""
    over, rounds, failures = threading.Event(), [], []

    def talk():
        try:
            while not over.is_set():
                _there_and_back(near, far)
                rounds.append(True)
        except (OSError, AssertionError) as error:
            failures.append(error)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield rounds
    finally:
        over.set()
        thread.join()
        assert failures == []


def test_a_refused_destination_resets_the_client_and_nobody_else(ports, destination):
    with ExitStack() as stack:
        # All of them share the one session of this tunnel.
        pairs = [
            stack.enter_context(_joined(ports["one"], destination)) for _ in range(4)
        ]
        destination.refuse_from_now()
        talks = [stack.enter_context(_talking(*pair)) for pair in pairs]
        before = [len(rounds) for rounds in talks]
        for _ in range(20):
            _expect_reset(ports["one"])
        # No matter how slow the machine: each went on beside refusals.
        for rounds, count in zip(talks, before, strict=True):
            deadline = perf_counter() + TIMEOUT
            while len(rounds) < count + 2 and perf_counter() < deadline:
                _expect_reset(ports["one"])
            assert len(rounds) >= count + 2


def test_a_tunnel_that_leads_nowhere_leaves_the_others_alone(ports, destination):
    for _ in range(3):
        _expect_reset(ports["gone"])
    with _joined(ports["one"], destination) as (near, far):
        _there_and_back(near, far)


def _expect_reset(port):
    # Two seconds are what users are promised; a timeout would be another error. The
    # reset may come so soon that it is connect() which reports it.
    with pytest.raises(ConnectionResetError), _connect(port, timeout=2) as refused:
        refused.recv(1)
