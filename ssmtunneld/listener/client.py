"""The program at the other end of a local connection, as far as the kernel tells.

Whose a connection is, is asked of the kernel when it is accepted, if that decides
whether it may come in. The rest is found out later, in a thread and for many
connections together: which process holds a socket is nowhere but among the open files
of all processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmtunneld.listener import owner
from ssmtunneld.listener.owner import OwnerVisibility, PeerPresence
from ssmtunneld.listener.process_table import (
    find_processes,
    find_recent,
    process_of,
    user_name,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from ssmtunneld.listener.owner import Peer, SocketName


@dataclass(slots=True)
class Client:
    """The maker of a connection. :func:`identify` fills in what is not known yet.

    Attributes:
        uid: Its user's id; None if it is not of this machine, or cannot be seen.
        user: The user's name; the id in digits where it has none; empty if unknown.
        pid: The process that holds the connection; None if unknown.
        program: That process's name; empty if unknown. Cleaned.
        inode: The socket at its end; 0 if unknown.
        ends: Our end's address and its own, of a TCP connection.
        gone: True once its connection has ended: no process holds that any more.
        settled: True once everything was found out that can be.
    """

    uid: int | None = None
    user: str = ""
    pid: int | None = None
    program: str = ""
    inode: int = 0
    ends: tuple[SocketName, SocketName] | None = None
    gone: bool = False
    settled: bool = False


def tcp_client(local: SocketName, peer: SocketName, found: Peer | None) -> Client:
    """Return a client over TCP.

    Args:
        local: Our end's address.
        peer: The client's address.
        found: What is known of it already; None if nobody has asked.
    """
    if found is None:
        return Client(ends=(local, peer))
    return Client(uid=found.uid, inode=found.inode, ends=(local, peer))


def unix_client(sock: socket.socket) -> Client:
    """Return the client of an accepted Unix socket."""
    try:
        uid, pid = owner.unix_peer(sock)
    except OSError:
        return Client()  # the peer has closed already (macOS)
    return Client(uid=uid, pid=pid)


def identify(clients: Iterable[Client]) -> None:
    """Find out who ``clients`` are, each of them once; what cannot be seen stays open.

    Blocks, for one look through the files of all processes: call it in a thread. A
    client that has closed its socket is not found any more.
    """
    pending = [client for client in clients if not client.settled]
    held = [client for client in pending if not client.gone]
    for client in held:
        if client.ends is not None and not client.inode:
            _ask(client, *client.ends)
    inodes = {client.inode for client in held if client.inode}
    found = find_recent(inodes) if inodes else {}
    left = {c.inode for c in held if c.inode not in found and _may_be_held(c)}
    if left:
        found |= find_processes(left)
    for client in pending:
        process = found.get(client.inode)
        if process is None and client.pid is not None:
            process = process_of(client.pid)
        if process is not None:
            client.pid, client.program = process.pid, process.program
        if client.uid is not None:
            client.user = user_name(client.uid)
        client.settled = True


def _may_be_held(client: Client) -> bool:
    """Return False if no process holds its socket any more, or it is not known.

    All files of all processes would be looked through for nothing.
    """
    if client.gone or not client.inode:
        return False
    if client.ends is None or owner.sight() is not OwnerVisibility.CLEAR:
        return True
    # It may have left, and the loop has not noticed yet.
    return owner.find_peer(*client.ends).presence is not PeerPresence.GONE


def _ask(client: Client, local: SocketName, peer: SocketName) -> None:
    # One question costs 10 us where the kernel answers for single connections; a look
    # through the table of all, for each of thousands, is no price for a name.
    if owner.sight() is not OwnerVisibility.CLEAR or not owner.is_local(local, peer):
        return
    found = owner.find_peer(local, peer)
    client.inode = found.inode
    if client.uid is None:
        client.uid = found.uid
