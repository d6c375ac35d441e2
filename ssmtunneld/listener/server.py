"""The listening side of one mapping: accept, check, limit, drain."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ssmtunneld.listener.admission import judge
from ssmtunneld.listener.binding import bind, name_of
from ssmtunneld.listener.burst import Bursts
from ssmtunneld.listener.connection import Connection
from ssmtunneld.listener.local import reset_on_close
from ssmtunneld.listener.owner import unix_peer_uid
from ssmtunneld.listener.relay import Ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from ssmtunneld.duplex import Duplex
    from ssmtunneld.listener.admission import Rejection, Verdict
    from ssmtunneld.listener.binding import ListenAddress, Listener
    from ssmtunneld.listener.connection import ConnectionView
    from ssmtunneld.listener.owner import SocketName
    from ssmtunneld.listener.relay import Transfer
    from ssmtunneld.log import EventLog

# Connections accepted in one turn of the loop, before others have theirs: about 2 ms.
BATCH: Final = 64
# How long accepting rests when the process or the machine is out of something, unless a
# connection ends earlier. The waiting connection keeps the socket readable: without the
# rest the loop would spin.
EXHAUSTED_PAUSE: Final = 1.0


class ServerObserver(Protocol):
    """Who wants to know of each connection; must neither block nor raise."""

    def connection_opened(self, server: str) -> None:
        """A connection was accepted."""
        ...

    def connection_ended(self, server: str, transfer: Transfer, seconds: float) -> None:
        """An accepted connection is over, after ``seconds``."""
        ...

    def connection_rejected(self, server: str, rejection: Rejection) -> None:
        """A connection was not accepted."""
        ...


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What may change while the server runs.

    Attributes:
        linger: Seconds to wait for the remote after a local end of file (design D8).
        max_connections: Further ones wait in the kernel's backlog until one ends.
        allow: Networks that TCP clients may come from; empty for any.
        allow_uids: Users of this machine whose TCP connections are taken (design D15);
            None does not ask. A connection of this machine whose user cannot be found
            out is refused: see ``owner.can_tell``. Unix sockets have their file mode.
        socket_mode: Permissions of Unix sockets; read when they are bound.
    """

    linger: float
    max_connections: int
    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    allow_uids: frozenset[int] | None = None
    socket_mode: int = 0o600


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """How a server has done so far.

    Attributes:
        active: Connections now.
        accepted: Connections since the start.
        refused: Those for which there was no stream, or whose destination refused.
        rejected: Connections that were reset instead of accepted.
        saturated: How often ``max_connections`` made others wait.
        sent: Bytes from clients, including those of the connections now.
        received: Bytes to clients, likewise.
        endings: How the finished connections ended.
    """

    active: int
    accepted: int
    refused: int
    rejected: int
    saturated: int
    sent: int
    received: int
    endings: Mapping[Ending, int]


class Server:
    """Accepts local connections and joins each of them to a stream of its own.

    The accept loop is our own, and not ``loop.create_server``: that one accepts all
    that come, while here a connection is accepted only when there is room for it, and
    its owner is looked at before a transport or a task is spent on it.

    Attributes:
        name: The mapping's name.
        bound: The addresses that :meth:`bind` obtained, spelled with their real ports.
    """

    def __init__(
        self,
        *,
        name: str,
        addresses: Sequence[ListenAddress],
        open_stream: Callable[[], Awaitable[Duplex]],
        settings: ServerSettings,
        log: EventLog,
        observer: ServerObserver | None = None,
    ) -> None:
        self.name = name
        self._settings = settings
        self.bound: tuple[str, ...] = ()
        self._addresses = addresses
        self._open_stream = open_stream
        self._log = log
        self._observer = observer
        self._bursts = Bursts(log)
        self._listeners: list[Listener] = []
        self._acceptors: list[asyncio.Task[None]] = []
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._changed = asyncio.Event()
        self._totals = _Totals()

    @property
    def settings(self) -> ServerSettings:
        """May be replaced while running; for the connections that come then."""
        return self._settings

    @settings.setter
    def settings(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._changed.set()  # there may be room now

    async def bind(self) -> None:
        """Listen on all addresses, or on none; connections wait until :meth:`serve`.

        Cancelling is safe: nothing stays bound. Once this has returned, the addresses
        are given back by the end of :meth:`serve`, or by :meth:`stop_accepting` if that
        never began.

        Raises:
            AddressInUse: An address cannot be had; names the holder where it can.
            PermissionError: We may not bind an address; says what would help.
        """
        assert not self._listeners, "bound twice"
        self._listeners = await bind(
            self._addresses, socket_mode=self._settings.socket_mode
        )
        self.bound = tuple(listener.name for listener in self._listeners)

    @property
    def accepting(self) -> bool:
        """Whether every accept loop is alive, even if it rests at the moment."""
        return bool(self._acceptors) and not any(a.done() for a in self._acceptors)

    async def serve(self) -> None:
        """Accept and relay until cancelled, which resets every connection.

        Returns by itself only after :meth:`stop_accepting`, once the last connection
        has ended. An error of one connection never touches another.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._acceptors = [
                    tasks.create_task(
                        self._accept(listener, tasks), name=f"accept {listener.name}"
                    )
                    for listener in self._listeners
                ]
        finally:
            self.stop_accepting()

    def stop_accepting(self) -> None:
        """Give all addresses back at once; connections go on. Idempotent."""
        for listener in self._listeners:
            listener.close()
        for acceptor in self._acceptors:
            acceptor.cancel()

    async def drain(self, timeout: float) -> int:
        """Stop accepting, let connections finish, then reset those that did not.

        Cancelling is safe: the connections that are left go on.

        Args:
            timeout: Seconds that connections have to finish.

        Returns:
            How many connections were reset.
        """
        self.stop_accepting()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._fewer_than(1)
        rest = list(self._connections)
        for task in rest:
            task.cancel()
        await self._fewer_than(1)
        return len(rest)

    def statistics(self) -> ServerStatistics:
        """Return the counters as they are now."""
        totals = self._totals
        meters = [connection.meter for connection in self._connections.values()]
        return ServerStatistics(
            active=len(self._connections),
            accepted=totals.accepted,
            refused=totals.endings[Ending.REFUSED],
            rejected=totals.rejected,
            saturated=totals.saturated,
            sent=totals.sent + sum(meter.sent for meter in meters),
            received=totals.received + sum(meter.received for meter in meters),
            endings=dict(totals.endings),
        )

    def connections(self) -> tuple[ConnectionView, ...]:
        """Return the connections of this moment, oldest first."""
        return tuple(connection.view() for connection in self._connections.values())

    async def _accept(self, listener: Listener, tasks: asyncio.TaskGroup) -> None:
        while True:
            await listener.readable()
            if self._is_full():
                await self._room()
            try:
                self._accept_some(listener.socket, tasks)
            except (BlockingIOError, ConnectionAbortedError):
                continue  # no more, or it has gone, or another process took it
            except OSError as error:
                await self._rest(error)

    def _accept_some(self, listening: socket.socket, tasks: asyncio.TaskGroup) -> None:
        """Accept what waits while there is room. Never awaits: the room would be stale.

        Raises:
            OSError: Nothing more can be accepted now, and why.
        """
        for _ in range(BATCH):
            if self._is_full():
                return
            sock, peer = listening.accept()
            if self._admit(sock, peer):
                self._start(sock, peer, tasks)

    async def _room(self) -> None:
        self._totals.saturated += 1
        limit = self._settings.max_connections
        self._bursts.warning("connections.saturated", limit=limit)
        while self._is_full():
            await self._change()

    def _is_full(self) -> bool:
        return len(self._connections) >= self._settings.max_connections

    async def _rest(self, error: OSError) -> None:
        self._bursts.warning("accept.failed", reason=str(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(EXHAUSTED_PAUSE):
                await self._change()

    def _admit(self, sock: socket.socket, peer: SocketName | str) -> bool:
        sock.settimeout(0)
        if isinstance(peer, str | bytes):
            return True
        verdict = judge(
            sock.getsockname(),
            peer,
            allow=self._settings.allow,
            allow_uids=self._settings.allow_uids,
        )
        if verdict is None:
            # Or a client whose machine vanished would hold its stream for ever.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return True
        self._reject(verdict, sock, name_of(sock, peer))
        return False

    def _reject(self, verdict: Verdict, sock: socket.socket, peer: str) -> None:
        reset_on_close(sock)
        sock.close()
        self._totals.rejected += 1
        self._bursts.warning(
            "connection.rejected",
            rule=verdict.rejection.value,
            peer=peer,
            uid="unknown" if verdict.uid is None else verdict.uid,
        )
        if self._observer is not None:
            self._observer.connection_rejected(self.name, verdict.rejection)

    def _start(
        self, sock: socket.socket, peer: SocketName | str, tasks: asyncio.TaskGroup
    ) -> None:
        name = _peer_name(sock, peer)
        connection = Connection(sock, name, asyncio.get_running_loop().time())
        task = tasks.create_task(self._run(connection), name=f"connection of {name}")
        self._connections[task] = connection
        task.add_done_callback(self._finish)
        self._totals.accepted += 1
        if self._observer is not None:
            self._observer.connection_opened(self.name)

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.join(self._open_stream, self._settings.linger)
        except Exception as error:  # noqa: BLE001 - see below
            # A defect of ours met by one connection. Passed on, it would end all others
            # of the mapping; so it goes where asyncio sends what a callback raises. The
            # connection itself has been aborted.
            connection.fail()
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"a connection to {self.name} failed", "exception": error}
            )

    def _finish(self, task: asyncio.Task[None]) -> None:
        connection = self._connections.pop(task)
        connection.release()
        transfer = connection.transfer
        self._totals.add(transfer)
        self._changed.set()
        self._report(connection.peer, transfer)
        if self._observer is not None:
            seconds = asyncio.get_running_loop().time() - connection.since
            self._observer.connection_ended(self.name, transfer, seconds)

    def _report(self, peer: str, transfer: Transfer) -> None:
        if transfer.ending is Ending.REFUSED and transfer.cause is not None:
            self._bursts.warning(
                "connection.refused",
                reason=str(transfer.cause),
                advice=transfer.cause.advice,
            )
        self._log.debug(
            "connection.ended",
            peer=peer,
            ending=transfer.ending.value,
            sent=transfer.sent,
            received=transfer.received,
        )

    async def _fewer_than(self, number: int) -> None:
        while len(self._connections) >= number:
            await self._change()

    async def _change(self) -> None:
        """Return when a connection has ended or the settings have changed."""
        self._changed.clear()
        await self._changed.wait()


class _Totals:
    """What finished connections add up to."""

    __slots__ = ("accepted", "endings", "received", "rejected", "saturated", "sent")

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected = 0
        self.saturated = 0
        self.sent = 0
        self.received = 0
        self.endings: Counter[Ending] = Counter()

    def add(self, transfer: Transfer) -> None:
        self.sent += transfer.sent
        self.received += transfer.received
        self.endings[transfer.ending] += 1


def _peer_name(sock: socket.socket, peer: SocketName | str) -> str:
    if isinstance(peer, tuple):
        return name_of(sock, (peer[0], peer[1]))
    try:
        return f"uid {unix_peer_uid(sock)}"
    except OSError:
        return "unknown"  # it has gone already (macOS)
