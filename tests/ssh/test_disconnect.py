"""Messages to an SSH client whose connection could not be made."""

import os
import pty
import socket
import struct

import pytest

from ssmtunneld.ssh import disconnect
from ssmtunneld.ssh.disconnect import refusal, refuse, refuse_on

CLIENT = b"SSH-2.0-OpenSSH_9.9\r\n"


@pytest.fixture
def pipes():
    """Both directions of a transport: theirs to write and read, ours the same."""
    source, theirs = os.pipe()
    mine, sink = os.pipe()
    os.set_blocking(mine, False)
    yield theirs, mine, source, sink
    for descriptor in (theirs, mine, source, sink):
        os.close(descriptor)


def reason_in(data):
    """Take a refusal apart as RFC 4253 says; return its reason."""
    identification, _, packet = data.partition(b"\r\n")
    assert identification.startswith(b"SSH-2.0-ssmtunneld_")
    length, padding = struct.unpack_from(">IB", packet)
    assert len(packet) == 4 + length
    assert len(packet) % 8 == 0
    assert padding >= 4
    payload = packet[5 : len(packet) - padding]
    kind, code, size = struct.unpack_from(">BII", payload)
    assert (kind, code) == (1, 7)
    assert payload[9 + size :] == bytes(4)
    return payload[9 : 9 + size].decode()


@pytest.mark.parametrize("length", range(20))
def test_a_refusal_is_a_packet_of_the_protocol(length):
    assert reason_in(refusal("x" * length)) == "x" * length


def test_a_reason_is_clean_and_bounded():
    reason = reason_in(refusal("\x1b[31mno\r\nway " + "x" * 1000))
    assert "\x1b" not in reason
    assert "\n" not in reason
    assert len(reason) <= 400


def test_a_client_that_has_said_what_it_is_is_told(pipes):
    theirs, mine, source, sink = pipes
    os.write(theirs, CLIENT)
    assert refuse("access denied", source=source, sink=sink)
    assert reason_in(os.read(mine, 1000)) == "access denied"


def test_a_client_that_was_heard_before_is_told(pipes):
    _, mine, source, sink = pipes
    assert refuse("cut", CLIENT, source, sink)
    assert reason_in(os.read(mine, 1000)) == "cut"


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n", b"\x00"])
def test_whoever_speaks_something_else_is_told_nothing(pipes, said):
    theirs, mine, source, sink = pipes
    os.write(theirs, said)
    assert not refuse("no", source=source, sink=sink)
    with pytest.raises(BlockingIOError):
        os.read(mine, 1)


def test_a_person_at_a_terminal_is_told_nothing(pipes):
    ours, terminal = pty.openpty()
    try:
        assert not refuse("no", CLIENT, terminal, pipes[3])
    finally:
        os.close(ours)
        os.close(terminal)


def test_a_client_that_has_left_is_no_trouble(pipes):
    source = pipes[2]
    read, write = os.pipe()
    os.close(read)
    try:
        assert not refuse("no", CLIENT, source, write)
    finally:
        os.close(write)


def test_a_client_on_a_socket_reads_the_refusal_whatever_else_it_has_said():
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(CLIENT + bytes(5000))
        with ours:
            theirs.shutdown(socket.SHUT_WR)
            refuse_on(ours, "no session")
        told = b""
        while more := theirs.recv(4096):
            told += more
    assert reason_in(told) == "no session"


def test_a_client_on_a_socket_that_goes_on_is_left_after_a_while(monkeypatch):
    monkeypatch.setattr(disconnect, "PATIENCE", 0.01)
    ours, theirs = socket.socketpair()
    with theirs, ours:
        theirs.sendall(CLIENT)
        refuse_on(ours, "no session")
        assert reason_in(theirs.recv(4096)) == "no session"
