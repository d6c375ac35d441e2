"""Which local user owns the other end of a loopback connection (design D15).

Every user of a machine can connect to its loopback ports. Linux knows the owner of each
socket, and a loopback connection has both of its sockets here.

The question is put to the kernel's socket diagnosis first, about exactly one
connection: 12 us. ``/proc/net/tcp`` answers too where diagnosis is compiled out or
forbidden, but lists every connection of the machine: 3.7 ms on an idle one, and the
loop stands still meanwhile.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ssmtunneld.listener.proctable import TABLES, read_table, spell

if TYPE_CHECKING:
    from ipaddress import IPv4Address

SocketName: TypeAlias = tuple[Any, ...]
"""What ``getsockname`` and ``getpeername`` return for TCP: host, port and so on."""


def peer_uid(local: SocketName, peer: SocketName) -> int | None:
    """Return the user id of the process at the other end of a TCP connection.

    None means that this machine does not know: the other end is elsewhere, or its
    process has closed it already (such a socket belongs to nobody, and must never be
    taken for root's), or the platform has no way to ask. :func:`is_local` and
    :func:`can_tell` say which.

    Args:
        local: Our end's address.
        peer: The other end's address.
    """
    found = _find(local, peer)
    if found is None and is_local(local, peer):
        found = _search(local, peer)
    return found.uid if found is not None and found.inode else None


def is_local(local: SocketName, peer: SocketName) -> bool:
    """Whether both ends of a TCP connection are on this machine for certain."""
    host = address_of(peer)
    return host.is_loopback or host == address_of(local)


def can_tell() -> bool:
    """Whether this platform can name the owner of a loopback connection."""
    return sys.platform == "linux"


def peer_has_closed(local: SocketName, peer: SocketName) -> bool:
    """Whether the other end of a TCP connection is on this machine and fully closed.

    On the wire "I have said everything" (``shutdown``) and "I am gone" (``close``) are
    the same FIN; but a socket that no process holds any more has no inode. False where
    that cannot be known.
    """
    found = _find(local, peer)
    return found is not None and found.inode == 0


def address_of(name: SocketName) -> IPv4Address | IPv6Address:
    """Return the host of a TCP socket's name, IPv4 also where IPv6 wraps it."""
    address = ip_address(name[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def unix_peer_uid(sock: socket.socket) -> int | None:
    """Return the user id of the process that connected to this Unix socket, or None.

    Raises:
        OSError: The socket is not a connected Unix socket.
    """
    question = _PEER_CREDENTIALS.get(sys.platform)
    if question is None:
        return None
    level, option, layout = question
    credentials = sock.getsockopt(level, option, struct.calcsize(layout))
    uid: int = struct.unpack(layout, credentials)[1]
    return uid


@dataclass(frozen=True, slots=True)
class _Found:
    uid: int
    inode: int


# Level, option and layout; the user id is the second field of both structures.
_PEER_CREDENTIALS: Final = {
    "linux": (socket.SOL_SOCKET, 17, "=iII"),  # SO_PEERCRED: struct ucred
    "darwin": (0, 1, "=IIh2x16I"),  # SOL_LOCAL, LOCAL_PEERCRED: struct xucred
}


# From linux/sock_diag.h and linux/inet_diag.h.
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, pid
_QUERY: Final = struct.Struct(
    "=BBBxI"
)  # inet_diag_req_v2: family, protocol, ext, states
_PORTS: Final = struct.Struct("!HH")  # inet_diag_sockid, in network order
_REST: Final = struct.Struct("=III")  # the same: interface, and no cookie to compare
_ANSWER: Final = struct.Struct("=4x48x12xII")  # inet_diag_msg up to its uid and inode
_ANY_STATE: Final = 0xFFFFFFFF
_NO_COOKIE: Final = 0xFFFFFFFF


def _find(local: SocketName, peer: SocketName) -> _Found | None:
    """Ask the kernel about the socket whose own end is ``peer``."""
    if not can_tell():
        return None
    question = _question(local, peer)
    try:
        with socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK,
            _NETLINK_SOCK_DIAG,
        ) as kernel:
            kernel.send(question)  # handled, and answered, before this returns
            answer = kernel.recv(4096)
    except OSError:
        return None  # not in this kernel, or forbidden by a sandbox
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None  # an error message: there is no such socket here
    return _Found(*_ANSWER.unpack_from(answer, _HEADER.size))


def _question(local: SocketName, peer: SocketName) -> bytes:
    source, destination = address_of(peer), address_of(local)
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    scope = peer[3] if len(peer) > 3 and source.is_link_local else 0
    query = (
        _QUERY.pack(family, socket.IPPROTO_TCP, 0, _ANY_STATE)
        + _PORTS.pack(peer[1], local[1])
        + source.packed.ljust(16, b"\0")
        + destination.packed.ljust(16, b"\0")
        + _REST.pack(scope, _NO_COOKIE, _NO_COOKIE)
    )
    size = _HEADER.size + len(query)
    return _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + query


def _search(local: SocketName, peer: SocketName) -> _Found | None:
    """Look for the same socket in ``/proc``."""
    source = spell(address_of(peer), peer[1])
    destination = spell(address_of(local), local[1])
    # The client may have used an IPv6 socket for an IPv4 address: look in both tables.
    for table, own, other in zip(TABLES, source, destination, strict=True):
        for row in read_table(table):
            if row.local == own and row.remote == other:
                return _Found(row.uid, row.inode)
    return None
