"""Keep the end of a TCP connection out until its owner is known (design D15).

A client that connects, says its piece and closes at once (Graphite, syslog over TCP,
``echo x > /dev/tcp/...``) is faster than any accept loop. Once its FIN is acknowledged
the kernel keeps no more of its socket than a time-wait entry, without a user: whose it
was cannot be known any more.

Linux lets a filter on a listening socket drop packets, and connections inherit it. The
filter here drops those with a FIN. A client that has closed then stays in FIN_WAIT1,
a whole socket with its user id, until :func:`release` takes the filter away and the
client's kernel repeats the FIN, 200 ms later. Data is not held up.

Kernels before 6.17 forget the user of a socket as soon as its process has closed it
(``sock_i_uid`` became ``sk_uid`` there): nothing is gained, so nothing is held.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import re
import socket
import struct
import sys
from functools import cache
from typing import Final

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_KEEPS_USER: Final = (6, 17)

# linux/filter.h: sock_filter is code, jump if true, jump if false, and a constant. A
# TCP socket's filter sees packets from their TCP header on; its byte 13 has the flags.
_INSTRUCTION: Final = struct.Struct("HBBI")
_PROGRAM: Final = (
    (0x30, 0, 0, 13),  # load byte 13
    (0x45, 0, 1, 0x01),  # is FIN set?
    (0x06, 0, 0, 0),  # yes: drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # no: keep all of it
)
_CODE: Final = ctypes.create_string_buffer(
    b"".join(_INSTRUCTION.pack(*line) for line in _PROGRAM)
)
_SOCK_FPROG: Final = struct.pack("HP", len(_PROGRAM), ctypes.addressof(_CODE))


@cache
def keeps_user() -> bool:
    """Return true if a closed socket keeps its user until its FIN is acknowledged."""
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    return (
        sys.platform == "linux"
        and version is not None
        and tuple(map(int, version.groups())) >= _KEEPS_USER
    )


def hold(listening: socket.socket) -> bool:
    """Hold back the FIN of whoever connects to ``listening``; say whether that works.

    Every connection that is accepted from then on needs :func:`release`.
    """
    if listening.family == socket.AF_UNIX or not keeps_user():
        return False
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _SOCK_FPROG)
    except OSError:
        return False  # a sandbox: those who close at once cannot be told apart then
    return True


def release(sock: socket.socket) -> None:
    """Let the FIN of a connection come in from now on, or hold none at a listener.

    Raises:
        OSError: It cannot be done: the end of this connection would never arrive.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:  # there was none
            raise
