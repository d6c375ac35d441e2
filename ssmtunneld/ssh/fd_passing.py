"""Connected sockets for ssh itself: ``ProxyUseFdpass`` of ssh_config(5).

ssh gives its ProxyCommand a Unix socket as standard output. It waits until a descriptor
comes through it, with one byte, and then until the command has ended; from then on the
descriptor is its connection.
"""

import os
import signal
import socket
import stat
import sys
from typing import Final

STDOUT: Final = 1
EXIT_FAILED: Final = 255
_BYTE: Final = b"\0"  # ssh insists on exactly one, and does not look at it


IS_USUAL: Final = sys.platform != "darwin"
"""True if ssh is told to take sockets unless somebody says otherwise. Without a daemon
``proxy`` goes on in a child that has executed nothing, and there macOS's own look for
proxies can crash (python/cpython#105912)."""


def can_pass(descriptor: int = STDOUT) -> bool:
    """Say whether whoever reads ``descriptor`` may take a socket from there.

    Other programs read ssh's configuration too, know nothing of this option, and give
    their proxy command a pipe.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return sock.family == socket.AF_UNIX
    except OSError:
        return False


def pass_socket(sock: socket.socket, descriptor: int = STDOUT) -> None:
    """Hand ``sock`` over to ssh; ours is closed.

    Raises:
        OSError: ssh has gone.
    """
    with sock, socket.socket(fileno=os.dup(descriptor)) as ssh:
        # ssh makes it non-blocking itself, but other programs need not.
        sock.settimeout(None)
        socket.send_fds(ssh, [_BYTE], [sock.fileno()])


class Handover:
    """A socket that is handed over later, by a process that goes on after that.

    ssh waits for the end of the command that it has started. So that one waits here,
    for a child of it, which does everything else.

    Args:
        waiting: Tells the process that waits to end.
        descriptor: Where ssh reads.

    Attributes:
        done: True once the socket has been handed over.
    """

    def __init__(self, waiting: int, descriptor: int = STDOUT) -> None:
        self.descriptor = descriptor
        self.done = False
        self._waiting = waiting

    @classmethod
    def begin(cls) -> "Handover":
        """Return in a child of this process; this process never returns.

        It ends with the child, or with the hand-over. Call it before any thread is
        started.
        """
        told, waiting = os.pipe()
        child = os.fork()
        if child:
            os.close(waiting)
            _wait_for(child, told)
        os.close(told)
        return cls(waiting)

    def give(self, sock: socket.socket) -> None:
        """Hand ``sock`` over, and leave ssh alone from then on; ours is closed.

        Raises:
            OSError: ssh has gone.
        """
        assert not self.done, "ssh takes one socket"
        self.done = True
        pass_socket(sock, self.descriptor)
        _leave_terminal()
        os.write(self._waiting, _BYTE)
        os.close(self._waiting)


def _wait_for(child: int, told: int) -> None:
    """End as soon as the child says so, or as it ends."""
    # What ends ssh's whole group must end this process too; the child tidies up.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if os.read(told, 1):
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else EXIT_FAILED)


def _leave_terminal() -> None:
    """Give ssh's socket back, and take no signal of its terminal any more.

    The end of the connection says when ssh has gone; a master of ControlPersist lives
    longer than its terminal.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, STDOUT):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    os.setsid()
