"""Two byte streams joined, and the half-close policy (design D8).

The agent cannot express a half-close: when either direction of a stream ends it closes
its destination in both (protocol 6.6). A client that marks the end of its request
by an EOF would lose the answer, so its EOF is not passed on while the answer can still
come.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.record import Record
from ssmtunneld.errors import DestinationRefused, StreamError, TunnelError

if TYPE_CHECKING:
    from ssmtunneld.base.duplex import Duplex


class ConnectionOutcome(Enum):
    """The way in which a local connection ended."""

    COMPLETED = "completed"
    """The remote ended; all of it was delivered."""
    LINGERED = "lingered"
    """The local client had ended and the remote said nothing for ``linger`` seconds."""
    LOCAL_CLOSED = "local_closed"
    """The local client ended in order, and left before the remote had ended."""
    LOCAL_RESET = "local_reset"
    """The local client reset the connection, or vanished in the middle of it."""
    REMOTE_RESET = "remote_reset"
    """The stream or its session broke; the local client was reset."""
    REFUSED = "refused"
    """No stream could be opened, or its destination refused; the client was reset."""
    CANCELLED = "cancelled"
    """We cut it: shutdown, or the end of a drain."""
    KILLED = "killed"
    """An operator ended it: ``ssmtunneld kill``."""
    FAILED = "failed"
    """A defect of ours, reported to the loop's exception handler."""


class ClientClose(Enum):
    """The way in which a local client left."""

    RESET = "reset"
    """In the middle: its data can be incomplete, so none of it matters now."""
    CLOSED = "closed"
    """After its end of file: what it sent is whole, but it will read no answer."""


@dataclass(slots=True)
class Meter:
    """Bytes moved so far, readable while the relay runs."""

    sent: int = 0
    """From the local client, handed to the remote stream."""
    received: int = 0
    """From the remote stream, handed to the local socket."""


class Transfer(Record):
    """The result of a finished relay.

    Attributes:
        sent: Bytes from local to remote.
        received: Bytes from remote to local.
        ending: The outcome.
        cause: The error that ended it, if one did.
    """

    sent: int
    received: int
    ending: ConnectionOutcome
    cause: TunnelError | None = None


async def relay(
    local: Duplex,
    remote: Duplex,
    *,
    linger: float,
    meter: Meter | None = None,
    client_left: asyncio.Future[ClientClose] | None = None,
) -> Transfer:
    """Move bytes both ways until it is over, then close both streams.

    Whichever side ends first, every byte that arrived before an orderly end is
    delivered. Once the remote has ended, further bytes from the local client have
    nowhere to go and are discarded. An error of one side aborts the other, so that a
    client never takes a broken answer for a whole one.

    Cancelling is safe: it aborts both streams.

    Args:
        local: The client's end. Owned from here on: it is closed on return.
        remote: The stream to the destination; owned likewise.
        linger: Seconds to wait after the local end of file without hearing
            from the remote. Any data starts the wait again.
        meter: Counts the bytes; fresh if not given.
        client_left: Completes when the local client is known to have left, also while
            the relay neither reads from it nor writes to it.
    """
    pumps = _Relay(local, remote, linger, meter or Meter())
    with on_error(remote.abort), on_error(local.abort):
        await pumps.run(client_left)
        await pumps.close()
    return pumps.transfer()


@runtime_checkable
class Unsettled(Protocol):
    """A stream that can tell whether its silence means an end."""

    @property
    def unsettled(self) -> bool:
        """True if an answer, or what we sent, could be stuck."""
        ...

    @property
    def sent(self) -> int:
        """Bytes that were sent so far, without those that wait."""
        ...


class _Relay:
    """Two pumps, and the only place that decides when they stop."""

    __slots__ = (
        "_active_at",
        "_cause",
        "_delivering",
        "_ending",
        "_expected",
        "_linger",
        "_local",
        "_local_ended",
        "_loop",
        "_meter",
        "_moved",
        "_pump",
        "_remote",
        "_scope",
        "_timer",
    )

    def __init__(
        self,
        local: Duplex,
        remote: Duplex,
        linger: float,
        meter: Meter,
    ) -> None:
        self._local = local
        self._remote = remote
        self._linger = linger
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._pump: asyncio.Task[None] | None = None
        self._scope: asyncio.Timeout | None = None
        self._ending: ConnectionOutcome | None = None
        # Once one direction has stopped: what it comes to if the other stays silent.
        self._expected: ConnectionOutcome | None = None
        self._cause: StreamError | None = None
        self._local_ended = False
        self._delivering = False
        self._active_at = 0.0
        self._moved = -1  # bytes that were sent when the timer looked last
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, client_left: asyncio.Future[ClientClose] | None) -> None:
        """Pump until the outcome is known."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._pump = tasks.create_task(self._downward(), name="relay downward")
                if client_left is not None:
                    client_left.add_done_callback(self._on_client_left)
                # Not a task of its own: what the client sent with its connect is on its
                # way before anything else has had a turn.
                await self._run_upward()
        finally:
            if client_left is not None:
                client_left.remove_done_callback(self._on_client_left)
            if self._timer is not None:
                self._timer.cancel()

    async def close(self) -> None:
        """Close both streams in the way of the outcome."""
        if self._ending in _ORDERLY:
            # Both at once, because either can take long: a local client that reads
            # slowly must not keep the stream, nor a stalled session the client.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._close_remote(), name="close remote")
                await self._local.aclose()
        else:
            self._local.abort()
            self._remote.abort()

    def transfer(self) -> Transfer:
        """Return the result."""
        assert self._ending is not None, "the pumps stop only with an ending"
        return Transfer(
            self._meter.sent, self._meter.received, self._ending, self._cause
        )

    async def _run_upward(self) -> None:
        self._scope = asyncio.timeout(None)
        try:
            async with self._scope:
                await self._upward()
        except TimeoutError:
            if not self._scope.expired():
                raise
        finally:
            self._scope = None

    async def _upward(self) -> None:
        # Backpressure is in the order of the awaits: nothing is read until the last
        # chunk has been accepted.
        while True:
            try:
                data = await self._local.receive()
            except StreamError as error:
                self._end(ConnectionOutcome.LOCAL_RESET, error)
                return
            if not data:
                break
            self._meter.sent += len(data)
            try:
                await self._remote.send(data)
            except StreamError as error:
                self._on_remote_send_failed(error)
                return
            if self._timer is not None:
                self._active_at = self._loop.time()
        self._on_local_end()

    async def _downward(self) -> None:
        while True:
            try:
                data = await self._remote.receive()
            except StreamError as error:
                refused = isinstance(error, DestinationRefused)
                self._end(
                    ConnectionOutcome.REFUSED
                    if refused
                    else ConnectionOutcome.REMOTE_RESET,
                    error,
                )
                return
            if not data:
                break
            if self._expected in _CLIENT_LEFT:
                continue  # still read: what piles up here would stall the whole session
            self._meter.received += len(data)
            self._delivering = True
            try:
                await self._local.send(data)
            except StreamError as error:
                self._on_local_send_failed(error)
                continue
            finally:
                self._delivering = False
            if self._timer is not None:
                self._active_at = self._loop.time()
        self._on_remote_end()

    def _on_local_end(self) -> None:
        self._local_ended = True
        if self._expected is not None:
            self._end(ConnectionOutcome.LOCAL_CLOSED)
        else:
            self._wait_or(ConnectionOutcome.LINGERED)

    def _on_remote_end(self) -> None:
        if self._expected in _CLIENT_LEFT:
            self._end(self._expected, self._cause)
        else:
            self._end(ConnectionOutcome.COMPLETED)

    def _on_remote_send_failed(self, error: StreamError) -> None:
        if self._expected is None:
            # It can have ended in order, with its last data not read yet: the other
            # pump will find out. What the client adds has no receiver any more.
            self._wait_or(ConnectionOutcome.REMOTE_RESET, error)
        else:
            self._end(ConnectionOutcome.REMOTE_RESET, error)

    def _on_local_send_failed(self, error: StreamError) -> None:
        if self._local_ended:
            self._end(ConnectionOutcome.LOCAL_CLOSED)
        elif self._expected is None:
            # What it sent before can be complete, and must still reach the remote.
            self._wait_or(ConnectionOutcome.LOCAL_RESET, error)
        else:
            self._end(ConnectionOutcome.REMOTE_RESET, self._cause)

    def _on_client_left(self, client_left: asyncio.Future[ClientClose]) -> None:
        if client_left.result() is ClientClose.RESET:
            self._end(ConnectionOutcome.LOCAL_RESET)
        elif self._local_ended:
            self._end(ConnectionOutcome.LOCAL_CLOSED)
        elif self._expected in {None, ConnectionOutcome.LOCAL_RESET}:
            self._wait_or(ConnectionOutcome.LOCAL_CLOSED)
        else:
            self._end(ConnectionOutcome.REMOTE_RESET, self._cause)

    def _wait_or(
        self, expected: ConnectionOutcome, cause: StreamError | None = None
    ) -> None:
        """Give the remaining side ``linger`` seconds after its last data."""
        self._expected = expected
        self._cause = cause
        self._active_at = self._loop.time()
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        # One timer that looks again, instead of a new one for every chunk.
        deadline = self._active_at + self._linger
        self._timer = self._loop.call_at(deadline, self._on_timer, deadline)

    def _on_timer(self, deadline: float) -> None:
        assert self._expected is not None, "armed only while something is expected"
        waits = isinstance(self._remote, Unsettled) and self._remote.unsettled
        if waits and self._is_abandoned():
            self._end(ConnectionOutcome.LOCAL_RESET, self._cause)
            return
        if self._delivering or waits:
            # The remote is not silent: it is the local client that does not read, or
            # the way between that is out. Taken for an end, that would be a lie.
            self._active_at = deadline
        if self._active_at + self._linger > deadline:
            self._arm()
        else:
            self._end(self._expected, self._cause)

    def _is_abandoned(self) -> bool:
        """Return True if the client has left and no data of it moves."""
        if self._expected not in _CLIENT_LEFT:
            return False
        assert isinstance(self._remote, Unsettled), "the caller has looked"
        before, self._moved = self._moved, self._remote.sent
        return before == self._moved

    def _end(self, ending: ConnectionOutcome, cause: StreamError | None = None) -> None:
        if self._ending is not None:
            return
        self._ending = ending
        self._cause = cause
        if self._pump is not None:
            self._pump.cancel()
        if self._scope is not None:
            self._scope.reschedule(self._loop.time())

    async def _close_remote(self) -> None:
        try:
            await self._remote.aclose()
        except StreamError as error:
            self._remote.abort()
            if self._ending is not ConnectionOutcome.COMPLETED:
                # What the client sent last did not arrive.
                self._ending, self._cause = ConnectionOutcome.REMOTE_RESET, error


_CLIENT_LEFT: Final = frozenset(
    {ConnectionOutcome.LOCAL_RESET, ConnectionOutcome.LOCAL_CLOSED}
)
_ORDERLY: Final = frozenset(
    {
        ConnectionOutcome.COMPLETED,
        ConnectionOutcome.LINGERED,
        ConnectionOutcome.LOCAL_CLOSED,
    }
)
