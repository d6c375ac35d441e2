"""Tell an SSH client why there is no connection, in its own protocol.

ssh throws its ProxyCommand's standard error away under ControlPersist, which Ansible
uses, and says no more than ``kex_exchange_identification``. What it does print is the
reason of an SSH_MSG_DISCONNECT (RFC 4253, sections 4.2, 6 and 11.1), which can come
right after the identification of a server.
"""

import os
import select
import socket
import struct
from contextlib import suppress
from typing import Final

from ssmtunneld.base.foreign import clean
from ssmtunneld.version import __version__

PATIENCE: Final = 0.5
"""Seconds for a client's identification, which it sends as soon as it has begun."""
PARTING_READS: Final = 8
"""Times that a client can still say something after it was refused."""
REASON_LIMIT: Final = 400
"""Characters of a reason; OpenSSH prints no more."""

_SSH: Final = b"SSH-"
_DISCONNECT: Final = 1
_SERVICE_NOT_AVAILABLE: Final = 7
_BLOCK: Final = 8
_PIECE: Final = 4096
_LEAST_PADDING: Final = 4


def refusal(reason: str) -> bytes:
    """Return what a server sends that refuses a connection for ``reason``."""
    text = clean(reason, REASON_LIMIT).encode()
    payload = struct.pack(">BII", _DISCONNECT, _SERVICE_NOT_AVAILABLE, len(text))
    payload += text + struct.pack(">I", 0)  # and no language
    padding = -(5 + len(payload)) % _BLOCK
    padding += _BLOCK if padding < _LEAST_PADDING else 0
    head = struct.pack(">IB", 1 + len(payload) + padding, padding)
    identification = f"SSH-2.0-ssmtunneld_{__version__}\r\n".encode()
    return identification + head + payload + bytes(padding)


def refuse(reason: str, heard: bytes = b"", source: int = 0, sink: int = 1) -> bool:
    """Refuse the SSH client whose transport these descriptors are; say if one was told.

    Anything else that reads there is told nothing. Blocks for ``PATIENCE`` at most.

    Args:
        reason: Why there is no connection.
        heard: What the client has said already; if nothing, it is looked for.
        source: Where the client is read from.
        sink: Where nothing was written yet.
    """
    try:
        if os.isatty(source) or os.isatty(sink):
            return False
        if not heard and select.select([source], [], [], PATIENCE)[0]:
            heard = os.read(source, len(_SSH))
        if not heard.startswith(_SSH):
            return False
        with suppress(BlockingIOError):
            os.write(sink, refusal(reason))
    except OSError:
        return False  # it has left
    return True


def refuse_on(sock: socket.socket, reason: str) -> None:
    """Refuse the SSH client at the other end of ``sock``, and let it read that.

    A Unix socket that is closed with unread data is an error to its peer. Blocks for
    ``PARTING_READS`` times ``PATIENCE`` at most, and once only for OpenSSH.
    """
    refuse(reason, source=sock.fileno(), sink=sock.fileno())
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(PATIENCE)
        for _ in range(PARTING_READS):
            if not sock.recv(_PIECE):
                break
