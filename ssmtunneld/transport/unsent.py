"""Little of what is not yet on the wire lies in the kernel (design D23).

What it holds cannot be overtaken: a keystroke that is ready later waits behind it.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    import asyncio

WRITE_BUFFER: Final = 16 << 10
"""Bytes queued in front of a socket before its link is congested: a burst of messages,
13 ms of 10 Mbit/s."""
UNSENT: Final = 32 << 10
"""Bytes that a kernel takes beyond what TCP can send now."""

_DARWIN_NOTSENT_LOWAT: Final = 0x201
"""From macOS's netinet/tcp.h; Python does not name it."""


def _option() -> int | None:
    if sys.platform == "darwin":
        return _DARWIN_NOTSENT_LOWAT
    return getattr(socket, "TCP_NOTSENT_LOWAT", None)


def keep_unsent_little(transport: asyncio.BaseTransport) -> None:
    """Bound what waits in ``transport`` and, where the system can, in its socket.

    Args:
        transport: The one of the socket itself, not one that encrypts for it.

    Raises:
        ConnectionResetError: The connection was cut by now.
    """
    if transport.is_closing():
        # uvloop's would raise RuntimeError, as if that was a defect.
        raise ConnectionResetError("the connection was cut at once")
    # uvloop's transports are no asyncio.WriteTransport by inheritance.
    writing = cast("asyncio.WriteTransport", transport)
    writing.set_write_buffer_limits(WRITE_BUFFER)
    sock = transport.get_extra_info("socket")
    option = _option()
    if sock is not None and option is not None:
        with contextlib.suppress(OSError):  # a sandbox's sockets need not know it
            sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT)
