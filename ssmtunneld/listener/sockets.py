"""Listening sockets: TCP, Unix and inherited ones, bound all or none."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from ssmtunneld.base.folders import make_private_folder
from ssmtunneld.base.on_error import on_error
from ssmtunneld.config import TcpAddress, UnixAddress
from ssmtunneld.errors import AddressForbidden, AddressInUse
from ssmtunneld.listener import held_fin
from ssmtunneld.listener.owner import unix_peer_uid
from ssmtunneld.listener.process_table import tcp_holder, unix_holder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ssmtunneld.listener.owner import SocketName

ListenAddress: TypeAlias = TcpAddress | UnixAddress | socket.socket
"""An address to bind, or an inherited bound socket (socket activation)."""

# Connections beyond `max_connections` wait here, as far as net.core.somaxconn allows:
# 4096 is what Linux allows unless it is told otherwise. The memory is the kernel's.
BACKLOG: Final = 4096
# How often "any port" is drawn again because ::1 has it taken and 127.0.0.1 has not.
DRAWS: Final = 16
# sizeof(sockaddr_un.sun_path) less its final zero: 108 on Linux, 104 on BSD and macOS.
LONGEST_PATH: Final = 107 if sys.platform == "linux" else 103


class Listener:
    """A listening socket and what has to be cleaned up after it.

    Attributes:
        socket: Non-blocking; accept from it after :meth:`readable`.
        name: ``127.0.0.1:5432``, ``[::1]:5432`` or ``unix:/path``.
        inherited: Whether somebody else made the socket, and uses it after us.
        held: Whether connections accepted here can need ``held_fin.release``.
    """

    __slots__ = (
        "_file",
        "_path",
        "_waiter",
        "_watched",
        "held",
        "inherited",
        "name",
        "socket",
    )

    def __init__(
        self, sock: socket.socket, path: Path | None = None, *, inherited: bool = False
    ) -> None:
        sock.settimeout(0)
        self.inherited = inherited
        self.held = False
        self.socket = sock
        self.name = name_of(sock, sock.getsockname())
        self._path = path
        self._file = None if path is None else _identity(path)
        self._watched = False
        self._waiter: asyncio.Future[None] | None = None

    async def readable(self) -> None:
        """Return when a connection could wait; cancelling is safe and loses none.

        To be awaited by one task at a time.
        """
        loop = asyncio.get_running_loop()
        assert self._waiter is None, "two tasks accept"
        self._waiter = loop.create_future()
        if not self._watched:
            self._watched = True
            loop.add_reader(self.socket, self._on_event)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _on_event(self) -> None:
        try:
            self._on_readable()
        except Exception as error:  # noqa: BLE001 - the accept loop raises it instead
            # Or the loop would call us again in each turn.
            self._unwatch()
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)

    def _on_readable(self) -> None:
        # Watched from one connection to the next, because to begin and end that each
        # time costs as much as accepting; but not while no task accepts.
        if self._waiter is None:
            self._unwatch()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            asyncio.get_running_loop().remove_reader(self.socket)

    def hold_ends(self, *, wanted: bool) -> None:
        """Keep the end of a connection out until its owner is known, or do not.

        Not where somebody else made the socket: whoever accepts there after us does not
        know that each connection needs ``held_fin.release``.
        """
        if wanted and not self.inherited:
            self.held = held_fin.hold(self.socket) or self.held
        elif self.held:
            held_fin.release(self.socket)  # for those that come from now on

    @property
    def closed(self) -> bool:
        """True if the socket does not listen any more."""
        return self.socket.fileno() == -1

    @property
    def has_file(self) -> bool:
        """True for a Unix socket of ours, whose file somebody can remove."""
        return self._path is not None

    @property
    def lost(self) -> bool:
        """True once its file was removed or replaced: nobody finds it there."""
        return self._path is not None and not self._has_its_file(self._path)

    def _has_its_file(self, path: Path) -> bool:
        return _identity(path) == self._file is not None

    def set_mode(self, mode: int) -> None:
        """Change the permissions of a Unix socket of ours; ignore other sockets."""
        if self._path is not None and self._has_its_file(self._path):
            self._path.chmod(mode)

    @property
    def queued(self) -> int:
        """Connections that wait to be accepted; 0 where the system does not report it.

        Linux tells it of TCP: a listening socket has no segments of its own to count.
        """
        if sys.platform != "linux" or self.socket.family == socket.AF_UNIX:
            return 0
        try:
            info = self.socket.getsockopt(
                socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE.size
            )
        except OSError:
            return 0  # closed
        queued: int = _QUEUE.unpack(info)[0]
        return queued

    def close(self) -> None:
        """Stop listening; remove our Unix socket if it is still ours. Idempotent."""
        if self.socket.fileno() == -1:
            return
        self._unwatch()
        self.socket.close()
        # Another process can have replaced it, for example our own successor.
        if self._path is not None and self._has_its_file(self._path):
            self._path.unlink(missing_ok=True)


async def bind(
    addresses: Sequence[ListenAddress], *, socket_mode: int
) -> list[Listener]:
    """Listen on all of ``addresses``, or on none.

    Cancelling is safe: nothing stays bound.

    Args:
        addresses: To bind. Inherited sockets are closed too if another fails.
        socket_mode: The permissions of Unix sockets, from their first moment.

    Raises:
        AddressInUse: An address is taken, or does not exist on this machine.
        AddressForbidden: This user must not bind it.
    """
    listeners: list[Listener] = []
    with ExitStack() as undo:
        for address in addresses:
            if isinstance(address, socket.socket):
                undo.callback(address.close)
        for address in addresses:
            for listener in await _bind(address, socket_mode):
                undo.callback(listener.close)
                listeners.append(listener)
        undo.pop_all()
    return listeners


def is_taken(address: TcpAddress | UnixAddress) -> bool:
    """Return True if somebody's socket is in the way of ``address``; leave it free."""
    if isinstance(address, UnixAddress):
        return _somebody_listens(address.path)
    try:
        listeners = _bind_tcp(address.host, address.port)
    except _CannotListen as refusal:
        return refusal.error.errno == errno.EADDRINUSE
    for listener in listeners:
        listener.close()
    return False


def name_of(sock: socket.socket, name: tuple[str, int] | str | bytes) -> str:
    """Spell an address of ``sock`` for people."""
    if isinstance(name, tuple):
        return str(TcpAddress(name[0], name[1]))
    if isinstance(name, bytes):  # Linux's abstract names begin with a zero byte
        name = "@" + name[1:].decode(errors="backslashreplace")
    return f"unix:{name}" if sock.family == socket.AF_UNIX else name


def peer_name(sock: socket.socket, peer: SocketName | str) -> str:
    """Spell a client of an accepted ``sock`` for people."""
    if isinstance(peer, tuple):
        return name_of(sock, (peer[0], peer[1]))
    try:
        return f"uid {unix_peer_uid(sock)}"
    except OSError:
        return "unknown"  # the peer has closed already (macOS)


async def _bind(address: ListenAddress, socket_mode: int) -> list[Listener]:
    match address:
        case socket.socket():
            address.listen(BACKLOG)  # harmless if it does already
            return [Listener(address, inherited=True)]
        case UnixAddress(path):
            try:
                return [_bind_unix(path, socket_mode)]
            except OSError as error:
                raise await _explain_unix(address, error) from error
        case TcpAddress(host, port):
            try:
                return _bind_tcp(host, port)
            except _CannotListen as refusal:
                cause = refusal.error
                raise await _explain_tcp(refusal.address, cause) from cause
        case _:
            assert_never(address)


class _CannotListen(Exception):
    """One IP address cannot be bound."""

    def __init__(self, address: TcpAddress, error: OSError) -> None:
        super().__init__(address, error)
        self.address = address
        self.error = error


def _bind_tcp(host: str, port: int) -> list[Listener]:
    """Listen on one address, or on both loopback addresses: ``localhost``.

    Of these, one that this machine does not have is left out. One that somebody else
    has is not: clients that try it first would meet him.

    Raises:
        _CannotListen: An address cannot be bound.
    """
    if host != "localhost":
        return [_listener(host, port)]
    for _ in range(DRAWS):
        try:
            first = _listener(_LOCALHOST[0], port)
        except _CannotListen as refusal:
            return [_only_ipv6(port, refusal)]
        try:
            return [first, *_second(first)]
        except _CannotListen as refusal:
            first.close()
            if port or refusal.error.errno != errno.EADDRINUSE:
                raise
    words = "no port is free on both 127.0.0.1 and ::1"
    raise _CannotListen(TcpAddress(host, port), OSError(errno.EADDRINUSE, words))


def _second(first: Listener) -> list[Listener]:
    """Listen on the port of ``first`` on ::1 too; none where there is no ::1."""
    try:
        return [_listener(_LOCALHOST[1], first.socket.getsockname()[1])]
    except _CannotListen as refusal:
        if refusal.error.errno not in _NOT_HERE:
            raise
        return []


def _only_ipv6(port: int, refusal: _CannotListen) -> Listener:
    if refusal.error.errno not in _NOT_HERE:
        raise refusal
    try:
        return _listener(_LOCALHOST[1], port)
    except _CannotListen as other:
        # Where both are missing, the usual one is missed.
        missing = other.error.errno in _NOT_HERE
        raise (refusal if missing else other) from None


def _listener(host: str, port: int) -> Listener:
    try:
        return Listener(_listen(host, port))
    except OSError as error:
        raise _CannotListen(TcpAddress(host, port), error) from error


def _listen(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    family, _, _, _, name = found[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    with on_error(sock.close):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Or "::" would take the port from IPv4 listeners, or not, as sysctl says.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(name)
        sock.listen(BACKLOG)
    return sock


def _bind_unix(path: Path, mode: int) -> Listener:
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise OSError(
            errno.ENAMETOOLONG, f"the path is longer than {LONGEST_PATH} bytes"
        )
    make_private_folder(path.parent)
    _make_way(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with on_error(sock.close):
        _bind_with_mode(sock, path, mode)
        listener = Listener(sock, path)
        path.chmod(mode)  # only ever adds what the umask took away
        sock.listen(BACKLOG)
    return listener


def _make_way(path: Path) -> None:
    """Remove what an earlier process left, if that is what it is."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise FileExistsError(errno.EEXIST, "it exists and is not a socket")
    if _somebody_listens(path):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    path.unlink(missing_ok=True)


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # a full backlog, no permission: a process listens there
        return True


def bind_by_descriptor(sock: socket.socket, path: Path, mode: int) -> None:
    """Bind with permissions from the first moment: on Linux a file has its socket's."""
    os.fchmod(sock.fileno(), mode)
    sock.bind(str(path))


def bind_by_umask(sock: socket.socket, path: Path, mode: int) -> None:
    """Bind with permissions from the first moment, on any Unix.

    The umask belongs to the whole process: for some microseconds a file that another
    thread creates gets too few permissions. Hence not the first choice.
    """
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(str(path))
    finally:
        os.umask(before)


_bind_with_mode: Final = (
    bind_by_descriptor if sys.platform == "linux" else bind_by_umask
)

# struct tcp_info up to tcpi_unacked.
_QUEUE: Final = struct.Struct("=24xI")
_LOCALHOST: Final = ("127.0.0.1", "::1")
_NOT_HERE: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


async def _explain_tcp(
    address: TcpAddress, error: OSError
) -> AddressInUse | AddressForbidden:
    if isinstance(error, PermissionError):
        cure = "choose another address"
        if address.port < 1024:
            cure = "choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
        return AddressForbidden(str(address), error.strerror or str(error), cure)
    holder = ""
    if error.errno == errno.EADDRINUSE and address.port:
        holder = await asyncio.to_thread(tcp_holder, (address.host,), address.port)
    reason = error.strerror or str(error)
    if error.errno in _NOT_HERE:
        reason = "no interface of this machine has it"
        if ":" in address.host and not _has_ipv6():
            reason += ", and IPv6 is off"
    return AddressInUse(str(address), reason, holder)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def _explain_unix(
    address: UnixAddress, error: OSError
) -> AddressInUse | AddressForbidden:
    if isinstance(error, PermissionError):
        cure = "choose a folder that this user can write"
        return AddressForbidden(str(address), error.strerror or str(error), cure)
    holder = ""
    if error.errno == errno.EADDRINUSE:
        holder = await asyncio.to_thread(unix_holder, address.path)
    return AddressInUse(str(address), error.strerror or str(error), holder)
