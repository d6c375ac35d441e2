"""The local user who owns the other end of a loopback connection (design D15).

Every user of a machine can connect to its loopback ports. Linux knows the owner of each
socket, and a loopback connection has both of its sockets here.

The question is put to the kernel's socket diagnosis, about exactly one connection:
10 us, however many there are. Where diagnosis is missing or forbidden, /proc/net/tcp
answers too, but lists every connection of the machine: 10 ms on an idle one, 130 ms
with 8,000, and the loop stands still meanwhile.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import field
from enum import Enum, auto
from functools import cache, lru_cache
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.record import Record
from ssmtunneld.listener.held_fin import keeps_user
from ssmtunneld.listener.process_table import TABLES, read_table, spell

if TYPE_CHECKING:
    from ipaddress import IPv4Address

SocketName: TypeAlias = tuple[Any, ...]
"""The result of ``getsockname`` and ``getpeername`` for TCP: host, port and so on."""


class OwnerVisibility(Enum):
    """The ability of this process to see the owner of a connection."""

    CLEAR = auto()
    """The kernel answers about single connections."""
    SLOW = auto()
    """Only the table of all connections can be read."""
    HIDDEN = auto()
    """The kernel knows, but a sandbox does not let us ask."""
    ABSENT = auto()
    """This platform has no way to ask."""


class PeerPresence(Enum):
    """The state of the other end of a connection."""

    HELD = auto()
    """A process of this machine holds it."""
    GONE = auto()
    """It was on this machine, and no process holds it any more."""
    UNKNOWN = auto()
    """It is elsewhere, or cannot be seen."""


class Peer(Record):
    """The other end of a connection.

    Attributes:
        presence: What became of it.
        uid: Whose it is, or was, as far as the kernel still knows; None otherwise, or
            if its user has no id here.
        inode: The socket's, by which its process can be found; 0 if it is not known.
    """

    presence: PeerPresence
    uid: int | None = None
    inode: int = field(default=0, compare=False)


def find_peer(local: SocketName, peer: SocketName) -> Peer:
    """Return what this machine knows of the other end of a TCP connection.

    A socket that no process holds any more could have lost its user: then its uid says
    0, and it must never be taken for root's. See ``held_fin.py`` for when it has not.

    Args:
        local: Our end's address.
        peer: The other end's address.
    """
    found = _look(peer, local)
    if found is not None:
        uid = None if found.uid == stranger() else found.uid
        if found.inode:
            return Peer(PeerPresence.HELD, uid, found.inode)
        keeps = found.state in _WITH_USER and keeps_user()
        return Peer(PeerPresence.GONE, uid) if keeps else _GONE
    sees = sight() in {OwnerVisibility.CLEAR, OwnerVisibility.SLOW}
    if is_local(local, peer) and sees and not _look(local, peer):
        return _GONE  # by a reset, which has taken our end with it
    return _UNKNOWN


@cache
def sight() -> OwnerVisibility:
    """Try out, once, how well connections of this machine can be seen.

    Blocks for a millisecond; call it at start.
    """
    if sys.platform != "linux":
        return OwnerVisibility.ABSENT
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            socket.create_connection(listening.getsockname(), timeout=1.0) as client,
        ):
            return _try_out(client.getsockname(), client.getpeername())
    except OSError:
        # No loopback, so nobody who comes from there; should it appear, what cannot be
        # seen is refused.
        return OwnerVisibility.CLEAR


def _try_out(own: SocketName, other: SocketName) -> OwnerVisibility:
    with suppress(OSError):
        if _diagnose(own, other) is not None:
            return OwnerVisibility.CLEAR
    return OwnerVisibility.SLOW if _search(own, other) else OwnerVisibility.HIDDEN


@cache
def stranger() -> int | None:
    """Return the user id that stands for all users whom this process cannot name.

    None where there is no such id: outside of user namespaces every user has its own.
    """
    try:
        ranges = [line.split() for line in _UID_MAP.read_text().splitlines()]
        if any(fields[2:] == [_ALL_IDS] for fields in ranges):
            return None
        return int(_OVERFLOW.read_text())
    except (OSError, ValueError):
        return None  # not Linux, or without user namespaces


def is_local(local: SocketName, peer: SocketName) -> bool:
    """Return True if both ends of a TCP connection are certainly on this machine."""
    host = address_of(peer)
    return host.is_loopback or host == address_of(local)


def peer_has_closed(local: SocketName, peer: SocketName) -> bool:
    """Return True if the other end is on this machine and fully closed.

    On the wire the end of one direction (``shutdown``) and of both (``close``) are
    the same FIN; but a socket that no process holds any more has no inode. False where
    that cannot be known, or not quickly.
    """
    try:
        found = _diagnose(peer, local)
    except OSError:
        return False
    return found is not None and found.inode == 0


def address_of(name: SocketName) -> IPv4Address | IPv6Address:
    """Return the host of a TCP socket's name, IPv4 also where IPv6 wraps it."""
    return _parse(name[0])


# Most connections come from the same few hosts, and to take one apart takes as long as
# to ask the kernel about it.
@lru_cache(maxsize=256)
def _parse(host: str) -> IPv4Address | IPv6Address:
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def unix_peer_uid(sock: socket.socket) -> int | None:
    """Return the user id of the process that connected to this Unix socket, or None.

    Raises:
        OSError: The socket is not a connected Unix socket.
    """
    return unix_peer(sock)[0]


def unix_peer(sock: socket.socket) -> tuple[int | None, int | None]:
    """Return user and process id of who connected to this Unix socket.

    The kernel noted both when it connected. Either is None where the platform does not
    tell it: macOS has no process id here.

    Raises:
        OSError: The socket is not a connected Unix socket.
    """
    question = _PEER_CREDENTIALS.get(sys.platform)
    if question is None:
        return None, None
    level, option, layout = question
    credentials = sock.getsockopt(level, option, struct.calcsize(layout))
    first, uid = struct.unpack(layout, credentials)[:2]
    # A process of another namespace has no id here: 0.
    return uid, (first or None) if sys.platform == "linux" else None


class _Found(Record):
    uid: int
    inode: int
    state: int = field(default=0, compare=False)
    """As in ``tcp_states.h``; 0 where it was not asked for."""


_LISTENING: Final = 10
"""TCP_LISTEN."""
_WITH_USER: Final = frozenset({4, 9, 11})
"""TCP_FIN_WAIT1, TCP_LAST_ACK, TCP_CLOSING: closed, but still a whole socket. What is
in FIN_WAIT2 or TIME_WAIT can be a time-wait entry, and says 0 then."""
_GONE: Final = Peer(PeerPresence.GONE)
_UNKNOWN: Final = Peer(PeerPresence.UNKNOWN)

_UID_MAP: Final = Path("/proc/self/uid_map")
_OVERFLOW: Final = Path("/proc/sys/kernel/overflowuid")
_ALL_IDS: Final = str(2**32 - 1)
"""The length of the only range in the initial user namespace."""


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
_ANSWER: Final = struct.Struct("=xBxx48x12xII")  # inet_diag_msg: state, uid, inode
_ANY_STATE: Final = 0xFFFFFFFF
_NO_COOKIE: Final = 0xFFFFFFFF


def _look(own: SocketName, other: SocketName) -> _Found | None:
    """Return whose socket goes from ``own`` to ``other``, if it is on this machine."""
    how = sight()
    if how is OwnerVisibility.CLEAR:
        try:
            return _diagnose(own, other)
        except OSError:
            return None  # out of files, for example
    if how is OwnerVisibility.SLOW and is_local(own, other):
        return _search(own, other)
    return None


def _diagnose(own: SocketName, other: SocketName) -> _Found | None:
    """Ask the kernel about the socket that goes from ``own`` to ``other``.

    Raises:
        OSError: Diagnosis is not in this kernel, or forbidden by a sandbox.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    answer = _ask(_question(own, other))
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        return None  # an error message: there is no such socket here
    state, uid, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    if state == _LISTENING:
        return None  # the kernel names whoever listens there when nothing fits better
    return _Found(uid, inode, state)


# Descriptors of unused sockets to the kernel: one, unless
# threads ask at the same time. To make one for each question takes longer than that.
_idle: Final[list[int]] = []


def _ask(question: bytes) -> bytes:
    try:
        kernel = _idle.pop()
    except IndexError:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        kernel = socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG).detach()
    with on_error(os.close, kernel):  # its further answers have no receiver
        os.write(kernel, question)  # handled, and answered, before this returns
        answer = os.read(kernel, 4096)
    _idle.append(kernel)
    return answer


def _question(own: SocketName, other: SocketName) -> bytes:
    source, destination = address_of(own), address_of(other)
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    scope = own[3] if len(own) > 3 and source.is_link_local else 0
    query = (
        _QUERY.pack(family, socket.IPPROTO_TCP, 0, _ANY_STATE)
        + _PORTS.pack(own[1], other[1])
        + source.packed.ljust(16, b"\0")
        + destination.packed.ljust(16, b"\0")
        + _REST.pack(scope, _NO_COOKIE, _NO_COOKIE)
    )
    size = _HEADER.size + len(query)
    return _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0) + query


def _search(own: SocketName, other: SocketName) -> _Found | None:
    """Look for the same socket in ``/proc``."""
    source = spell(address_of(own), own[1])
    destination = spell(address_of(other), other[1])
    # The client can have used an IPv6 socket for an IPv4 address: look in both tables.
    for table, near, far in zip(TABLES, source, destination, strict=True):
        for row in read_table(table):
            if row.local == near and row.remote == far:
                return _Found(row.uid, row.inode)
    return None
