"""A socket handed over to ssh, at once or by a process that goes on."""

import os
import socket
import subprocess
import sys

import pytest

from ssmtunneld.ssh.fd_passing import can_pass, pass_socket

PATIENCE = 30


def test_a_unix_socket_takes_sockets_and_nothing_else_does(tmp_path):
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours, theirs, socket.socket() as tcp, (tmp_path / "file").open("w") as file:
        assert can_pass(ours.fileno())
        for other in (writing, tcp.fileno(), file.fileno()):
            assert not can_pass(other)
    os.close(reading)
    os.close(writing)
    assert not can_pass(writing)


def test_ssh_gets_one_byte_and_one_socket_that_blocks():
    ours, theirs = socket.socketpair()
    near, far = socket.socketpair()
    near.setblocking(False)
    with ours, theirs, far:
        pass_socket(near, theirs.fileno())
        assert near.fileno() == -1
        byte, passed, _, _ = socket.recv_fds(ours, 2, 2)
        assert len(byte) == 1
        (descriptor,) = passed
        assert os.get_blocking(descriptor)
        with socket.socket(fileno=descriptor) as sock:
            sock.sendall(b"words")
            assert far.recv(100) == b"words"
        assert theirs.fileno() != -1, "it is not ours to close"


def test_an_ssh_that_has_gone_is_an_error():
    ours, theirs = socket.socketpair()
    near, far = socket.socketpair()
    ours.close()
    with theirs, far:
        with pytest.raises(OSError, match="pipe"):
            pass_socket(near, theirs.fileno())
        assert far.recv(100) == b"", "somebody still holds it"


_LATER = """
import os, socket, sys
from ssmtunneld.ssh.fd_passing import Handover
handover = Handover.begin()
{before}
near, far = socket.socketpair()
handover.give(far)
alone = os.getsid(0) == os.getpid()
near.sendall(f"{{alone}} {{os.readlink('/proc/self/fd/0')}}".encode())
near.recv(1)  # until the other side has gone
"""


def later(ours, theirs, before=""):
    return subprocess.Popen(
        [sys.executable, "-c", _LATER.format(before=before)],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_that_ssh_waits_for_ends_while_another_one_goes_on():
    ours, theirs = socket.socketpair()
    with ours, later(ours, theirs) as waited:
        theirs.close()
        ours.settimeout(PATIENCE)
        _, (descriptor,), _, _ = socket.recv_fds(ours, 2, 1)
        assert waited.wait(PATIENCE) == 0
        with socket.socket(fileno=descriptor) as sock:
            sock.settimeout(PATIENCE)
            # It has left the terminal, and ssh's own socket.
            assert sock.recv(100) == b"True /dev/null"
            assert ours.recv(1) == b""
        assert waited.stderr.read() == b""


@pytest.mark.parametrize(
    ("before", "code"),
    [("sys.exit(7)", 7), ("os.kill(os.getpid(), 15)", 255), ("os._exit(0)", 0)],
)
def test_the_process_that_ssh_waits_for_ends_as_the_other_one_does(before, code):
    ours, theirs = socket.socketpair()
    with ours, later(ours, theirs, before) as waited:
        theirs.close()
        assert waited.wait(PATIENCE) == code
        assert ours.recv(1) == b"", "nothing was handed over"
