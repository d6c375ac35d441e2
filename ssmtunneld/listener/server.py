"""The listening side of one tunnel: accept, check, limit, drain."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from ssmtunneld.base.compartment import Defects, run_compartment
from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.rate_limited_log import RateLimitedLog
from ssmtunneld.base.small_event import SmallEvent
from ssmtunneld.listener import held_fin
from ssmtunneld.listener.acceptor import Acceptor
from ssmtunneld.listener.access import examine
from ssmtunneld.listener.client import Client, tcp_client, unix_client
from ssmtunneld.listener.connection import Connection
from ssmtunneld.listener.counters import ConnectionCounters
from ssmtunneld.listener.limits import ConnectionLimit
from ssmtunneld.listener.local import reset
from ssmtunneld.listener.process_table import user_name
from ssmtunneld.listener.relay import ConnectionOutcome
from ssmtunneld.listener.sockets import name_of, peer_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from ssmtunneld.base.log import EventLog
    from ssmtunneld.listener.access import AccessDecision
    from ssmtunneld.listener.connection import Opening
    from ssmtunneld.listener.counters import ServerStatistics
    from ssmtunneld.listener.limits import ConnectionQuota
    from ssmtunneld.listener.owner import SocketName
    from ssmtunneld.listener.relay import Transfer
    from ssmtunneld.listener.sockets import ListenAddress, Listener

# Connections accepted in one turn of the loop, before others have theirs: about 2 ms.
BATCH: Final = 64
# Pause of accepting when the process or the machine lacks a resource, unless a
# connection ends earlier. The waiting connection keeps the socket readable: without the
# pause the loop would spin.
EXHAUSTED_PAUSE: Final = 1.0
# Seconds for the name of a user who was rejected; then it is told by its id.
NAMING_TIME: Final = 2.0


class ConnectionObserver(Protocol):
    """A listener to the coming and going of connections; never waits, nor raises."""

    def opened(self, connection: Connection) -> None:
        """Called when a connection has its stream."""
        ...

    def ended(self, connection: Connection, transfer: Transfer) -> None:
        """Called at the end of a connection, also of one that never had a stream."""
        ...


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings that can change while the server runs.

    Attributes:
        linger: Seconds to wait for the remote after a local end of file (design D8).
        max_connections: Further ones wait in the kernel's backlog until one ends.
        allow: Networks that TCP clients may come from; empty for any.
        allow_uids: Users of this machine whose TCP connections are taken (design D15);
            None does not ask. A connection of this machine whose user cannot be found
            out is refused: see ``admission``. Unix sockets have their file mode.
        socket_mode: Permissions of Unix sockets.
        destination: What the log calls the remote; empty where clients name it.
    """

    linger: float
    max_connections: int
    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    allow_uids: frozenset[int] | None = None
    socket_mode: int = 0o600
    destination: str = ""


class Server:
    """Accepts local connections and joins each of them to a stream of its own.

    What breaks in one connection, or in one accept loop, touches no other: see
    ``base/compartment.py``.

    The accept loop is our own, and not ``loop.create_server``: that one accepts all
    that come, while here a connection is accepted only when there is room for it, and
    its owner is looked at before a transport or a task is spent on it.

    Args:
        name: The tunnel's name.
        addresses: Where to listen.
        opening: The way to a stream.
        settings: What can change while it runs.
        log: Bound to the tunnel.
        totals: Where connections are counted; fresh if not given.
        quota: Its part of the connections that all servers may have together.
        defects: Where the tunnel's defects are noted.
        names: Returns an identifier for the next connection, unique in the process.
        observer: Told of its connections.

    Attributes:
        name: The tunnel's name.
    """

    def __init__(  # noqa: PLR0913 - keywords for the things it works with
        self,
        *,
        name: str,
        addresses: Sequence[ListenAddress],
        opening: Opening,
        settings: ServerSettings,
        log: EventLog,
        totals: ConnectionCounters | None = None,
        quota: ConnectionQuota | None = None,
        defects: Defects | None = None,
        names: Callable[[], str] | None = None,
        observer: ConnectionObserver | None = None,
    ) -> None:
        self.name = name
        self._names = names or (str(number) for number in count(1)).__next__
        self._observer = observer
        self._defects = defects or Defects(log)
        self._settings = settings
        self._acceptor = Acceptor(addresses, self._keep_accepting, self._take_waiting)
        self._closed = SmallEvent()
        self._opening = opening
        self._log = log
        self._bursts = RateLimitedLog(log)
        self._tasks: asyncio.TaskGroup | None = None
        self._leaving = False
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._changed = SmallEvent()
        self._totals = totals or ConnectionCounters()
        self._quota = quota or ConnectionLimit(sys.maxsize).join(
            settings.max_connections
        )

    @property
    def settings(self) -> ServerSettings:
        """May be replaced while running; for the connections that come then."""
        return self._settings

    @settings.setter
    def settings(self, settings: ServerSettings) -> None:
        if settings.socket_mode != self._settings.socket_mode:
            self._acceptor.set_mode(settings.socket_mode)
        self._settings = settings
        self._hold_ends()
        self._quota.resize(settings.max_connections)
        self._changed.set()  # there may be room now

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """The addresses to listen on; can be replaced while running.

        A removed address is closed at once, and :meth:`bind` binds added ones.
        Connections continue.
        """
        return self._acceptor.addresses

    @addresses.setter
    def addresses(self, addresses: Sequence[ListenAddress]) -> None:
        self._acceptor.addresses = tuple(addresses)

    @property
    def bound(self) -> tuple[str, ...]:
        """The addresses that are ours, spelled with their real ports."""
        return self._acceptor.bound

    @property
    def complete(self) -> bool:
        """True if every address is bound."""
        return self._acceptor.complete

    @property
    def has_files(self) -> bool:
        """True if it listens where a file can be removed: on a Unix socket of ours."""
        return any(listener.has_file for listener in self._acceptor.listeners)

    def forget_lost(self) -> tuple[str, ...]:
        """Give back addresses whose files are gone; return them. See :meth:`bind`."""
        return self._acceptor.forget_lost()

    async def bind(self) -> tuple[str, ...]:
        """Listen on all addresses that are missing, or on none of them.

        Connections wait until :meth:`serve`. Cancelling is safe: nothing stays bound
        that was not. Once this has returned, the addresses are given back by the end of
        :meth:`serve`, or by :meth:`stop_accepting` if that never began. To be called by
        one at a time.

        Returns:
            The addresses that became ours by this, with their real ports.

        Raises:
            AddressInUse: An address is taken; names the holder if it is known.
            AddressForbidden: This user must not bind an address.
        """
        names = await self._acceptor.open(self._settings.socket_mode)
        self._hold_ends()
        return names

    def _hold_ends(self) -> None:
        wanted = self._settings.allow_uids is not None
        for listener in self._acceptor.listeners:
            listener.hold_ends(wanted=wanted)

    @property
    def accepting(self) -> bool:
        """True if every accept loop is alive, even if it pauses at the moment."""
        return self._acceptor.accepting

    async def serve(self) -> None:
        """Accept and relay until cancelled, which resets every connection.

        Returns by itself only after :meth:`stop_accepting`, once the last connection
        has ended. After a defect it can be called again: the addresses are still bound.
        """
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._leaving = False
                self._acceptor.start(self._tasks)
                try:
                    await self._closed.wait()
                finally:
                    self._leaving = True
                    self._acceptor.leave()
        except asyncio.CancelledError:
            self.stop_accepting()
            raise

    def stop_accepting(self) -> None:
        """Close all listening sockets; connections continue. Idempotent."""
        self._acceptor.close()
        self._quota.leave()
        self._closed.set()

    async def drain(self, timeout: float) -> int:
        """Stop accepting, let connections finish, then reset those that did not.

        Cancelling is safe: the remaining connections continue.

        Args:
            timeout: Seconds that connections have to finish.

        Returns:
            How many connections were reset.
        """
        self.stop_accepting()
        return await self.finish(timeout)

    async def finish(self, timeout: float) -> int:
        """Let connections finish, then reset those that did not.

        Addresses that are still ours go on taking connections. Cancelling is safe: the
        connections that are left go on.

        Args:
            timeout: Seconds that connections have to finish.

        Returns:
            How many connections were reset.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._fewer_than(1)
        rest = list(self._connections)
        for task in rest:
            task.cancel()
        await self._fewer_than(1)
        return len(rest)

    def connect(self, peer: str, client: Client) -> socket.socket | None:
        """Return the client's end of a connection that no listener has accepted.

        It counts, is limited and ends like any other.

        Args:
            peer: The client, as text.
            client: The client, as far as it is known.

        Returns:
            A blocking socket, owned by the caller; None if there is no room now, or
            nothing is accepted any more.
        """
        if self._leaving or not self.accepting or self._is_full():
            return None
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # out of files
            self._bursts.warning("accept.failed", reason=str(error))
            return None
        ours.settimeout(0)
        self._start(ours, peer, client)
        return theirs

    def statistics(self) -> ServerStatistics:
        """Return a snapshot of the counters."""
        return self._totals.read()

    @property
    def queued(self) -> int:
        """Connections that wait to be accepted; 0 where the system does not tell."""
        return sum(listener.queued for listener in self._acceptor.listeners)

    def moved(self) -> tuple[int, int]:
        """Return the bytes from clients and to clients so far; cheaper than all."""
        return self._totals.moved()

    def connections(self) -> tuple[Connection, ...]:
        """Return the connections of this moment, oldest first."""
        return tuple(self._connections.values())

    def kill(self, name: str) -> Connection | None:
        """Reset the connection called ``name``; return it, or None if there is none."""
        for task, connection in self._connections.items():
            if connection.name == name:
                connection.killed = True
                task.cancel()
                return connection
        return None

    async def _keep_accepting(self, listener: Listener) -> None:
        await run_compartment("listener", lambda: self._accept(listener), self._defects)

    async def _accept(self, listener: Listener) -> None:
        while True:
            await listener.readable()
            if self._is_full():
                await self._room()
            try:
                self._accept_some(listener)
            except (BlockingIOError, ConnectionAbortedError):
                continue  # none left, or it was reset, or another process took it
            except OSError as error:
                await self._pause(error)

    def _take_waiting(self, listener: Listener) -> None:
        """Accept all that wait at a listener that is about to be closed."""
        while not self._is_full():
            try:
                self._accept_some(listener)
            except ConnectionAbortedError:
                continue
            except OSError:
                return

    def _accept_some(self, listener: Listener) -> None:
        """Accept what waits while there is room. Never awaits: the room would be stale.

        The owner of each is asked in the same turn: each can close at any moment.

        Raises:
            OSError: Nothing more can be accepted now, and why.
        """
        for _ in range(BATCH):
            if self._is_full() or self._leaving:
                return
            sock, peer = listener.socket.accept()
            try:
                with on_error(reset, sock):
                    client = self._admit(sock, peer)
                    if client is not None:
                        if listener.held:
                            held_fin.release(sock)
                        self._start(sock, peer_name(sock, peer), client)
            except OSError:
                raise
            except Exception as error:  # noqa: BLE001 - the boundary of a compartment
                # The next connection can be of another kind.
                self._defects.note("connection", error)

    async def _room(self) -> None:
        self._totals.saturated += 1
        own = self._settings.max_connections
        limit = own if len(self._connections) >= own else self._quota.limit
        self._bursts.warning("connections.saturated", limit=limit)
        while self._is_full():
            self._quota.waiting = self._changed.set
            await self._change()

    def _is_full(self) -> bool:
        own = self._settings.max_connections
        return len(self._connections) >= own or self._quota.full

    async def _pause(self, error: OSError) -> None:
        self._bursts.warning("accept.failed", reason=str(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(EXHAUSTED_PAUSE):
                await self._change()

    def _admit(self, sock: socket.socket, peer: SocketName | str) -> Client | None:
        """Return who a client is, or None if it may not come in."""
        sock.settimeout(0)
        if isinstance(peer, str | bytes):
            return unix_client(sock)
        try:
            local = sock.getsockname()
            # Or a client whose machine vanished would hold its stream forever.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError:
            reset(sock)  # the client has reset it already (macOS): no lack of anything
            return None
        verdict, found = examine(
            local,
            peer,
            allow=self._settings.allow,
            allow_uids=self._settings.allow_uids,
        )
        if verdict is None:
            return tcp_client(local, peer, found)
        self._reject(verdict, sock, name_of(sock, peer))
        return None

    def _reject(self, verdict: AccessDecision, sock: socket.socket, peer: str) -> None:
        reset(sock)
        self._totals.reject(verdict.rejection)
        more = self._bursts.take("connection.rejected", verdict.uid)
        if more is not None:
            assert self._tasks is not None, "rejected before serve()"
            tell = partial(self._tell_rejection, verdict, peer, more)
            telling = self._defects.attempt("connection", tell)
            self._tasks.create_task(telling, name=f"rejection of {peer}")

    async def _tell_rejection(
        self, verdict: AccessDecision, peer: str, more: dict[str, int]
    ) -> None:
        user = "" if verdict.uid is None else str(verdict.uid)
        try:
            if verdict.uid is not None:
                # In a thread: a directory service need not answer.
                with suppress(TimeoutError):
                    async with asyncio.timeout(NAMING_TIME):
                        user = await asyncio.to_thread(user_name, verdict.uid)
        finally:
            self._log.warning(
                "connection.rejected",
                rule=verdict.rejection.value,
                peer=peer,
                uid="unknown" if verdict.uid is None else verdict.uid,
                user=user,
                advice=verdict.advice(user),
                **more,
            )

    def _start(self, sock: socket.socket, name: str, client: Client) -> None:
        assert self._tasks is not None, "accepted before serve()"
        connection = Connection(
            sock,
            name,
            asyncio.get_running_loop().time(),
            name=self._names(),
            client=client,
            opened=None if self._observer is None else self._observer.opened,
        )
        connection.begin(self._opening)
        task = self._tasks.create_task(
            self._run(connection), name=f"connection of {name}"
        )
        self._connections[task] = connection
        task.add_done_callback(self._finish)
        self._totals.enter(connection)
        self._quota.take()

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.join(self._opening, self._settings.linger)
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            # Passed on, it would end all others. The connection has been aborted.
            connection.fail()
            self._defects.note("connection", error)

    def _finish(self, task: asyncio.Task[None]) -> None:
        connection = self._connections.pop(task)
        connection.release()
        connection.client.gone = True
        transfer = connection.transfer
        now = asyncio.get_running_loop().time()
        self._totals.leave(connection, transfer, now)
        self._quota.give_back()
        self._changed.set()
        self._report(connection, transfer)
        if self._observer is not None:
            self._observer.ended(connection, transfer)

    def _report(self, connection: Connection, transfer: Transfer) -> None:
        if transfer.ending is ConnectionOutcome.REFUSED and transfer.cause is not None:
            named = connection.destination or self._settings.destination
            self._bursts.warning(
                "connection.refused",
                destination=str(named or "unknown"),
                reason=str(transfer.cause),
                advice=transfer.cause.advice,
            )
        self._log.debug(
            "connection.ended",
            peer=connection.peer,
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
