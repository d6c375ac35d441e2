"""Inherited sockets (socket activation), checked by what they are.

A unit's ``ListenStream=5432`` listens on every network, and a Unix socket of systemd's
has mode 0666 unless ``SocketMode=`` says otherwise, whatever the configuration says: so
each socket is asked for its own address and mode.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Final

from ssmtunneld.config import TcpAddress
from ssmtunneld.config.parsers import format_mode
from ssmtunneld.errors import InheritedSocketRefused
from ssmtunneld.listener.sockets import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

    from ssmtunneld.config import Address

_LOOPBACK: Final = "127.0.0.1"
# Connecting needs the right to write; these bits are group's and others'.
_OTHERS_WRITE: Final = 0o022


def check_inherited(
    sock: socket.socket,
    *,
    listen: Sequence[Address],
    allow: Sequence[IPv4Network | IPv6Network],
    socket_mode: int,
) -> None:
    """Refuse a socket that lets in more than the settings of its tunnel would.

    Args:
        sock: A listening socket.
        listen: The addresses of the tunnel in the configuration.
        allow: Networks that clients may come from; without any, only this machine.
        socket_mode: The permissions that a Unix socket may have.

    Raises:
        InheritedSocketRefused: It does; says which line to change.
    """
    if sock.family == socket.AF_UNIX:
        _check_unix(sock, socket_mode)
    elif sock.family in {socket.AF_INET, socket.AF_INET6}:
        _check_tcp(sock, listen, exposed=bool(allow))
    else:
        raise InheritedSocketRefused(
            "a socket of an unknown kind",
            "it is neither TCP nor Unix",
            f"write in its unit: ListenStream={_LOOPBACK}:PORT",
        )


def _check_tcp(
    sock: socket.socket, listen: Sequence[Address], *, exposed: bool
) -> None:
    host, port = sock.getsockname()[:2]
    address = TcpAddress(host.partition("%")[0], port)
    if address.is_loopback or exposed:
        return
    wanted = next(
        (a.host for a in listen if isinstance(a, TcpAddress) and a.is_loopback),
        _LOOPBACK,
    )
    local = TcpAddress(_LOOPBACK if wanted == "localhost" else wanted, port)
    raise InheritedSocketRefused(
        str(address),
        "it is open to other machines, and the tunnel has no allow",
        f"write in its unit: ListenStream={local}; or set allow, and listen to match",
    )


def _check_unix(sock: socket.socket, socket_mode: int) -> None:
    name = sock.getsockname()
    shown = name_of(sock, name)
    line = f"SocketMode={format_mode(socket_mode)}"
    if not isinstance(name, str) or not name:
        raise InheritedSocketRefused(
            shown,
            "everybody on this machine can connect to an abstract name",
            f"write in its unit: ListenStream=/run/..., and {line}",
        )
    try:
        mode = stat.S_IMODE(os.stat(name).st_mode)  # noqa: PTH116 - a name, not a path
    except FileNotFoundError:
        return  # then no client finds it
    except OSError as error:
        reason = f"its mode is not known: {error.strerror}"
        raise InheritedSocketRefused(shown, reason, f"check {name}") from None
    if mode & _OTHERS_WRITE & ~socket_mode:
        raise InheritedSocketRefused(
            shown,
            f"its mode is {format_mode(mode)}, and socket_mode is "
            f"{format_mode(socket_mode)}",
            f"write in its unit: {line}",
        )
