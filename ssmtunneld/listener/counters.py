"""Totals of a tunnel's connections: counts that only grow."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from ssmtunneld.base.record import Record
from ssmtunneld.errors import DestinationRefused, NoSessionReady
from ssmtunneld.listener.proxy.protocol import (
    DestinationForbidden,
    ProxyProtocolError,
    TooManyDestinations,
)
from ssmtunneld.listener.relay import ConnectionOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmtunneld.errors import TunnelError
    from ssmtunneld.listener.access import Rejection
    from ssmtunneld.listener.connection import Connection
    from ssmtunneld.listener.relay import Transfer


class Failure(StrEnum):
    """The reason why a connection did not reach its destination."""

    REFUSED = "refused"
    """The agent could not connect to the destination."""
    NO_SESSION = "no_session"
    """No session was ready within ``connect_timeout``."""
    FORBIDDEN = "forbidden"
    """Its client named a destination that is not one of ``destinations``."""
    CROWDED = "crowded"
    """Its client named one more than ``max_destinations``."""
    HANDSHAKE = "handshake"
    """Its client did not say in the tunnel's protocol where it wants to go."""
    OTHER = "other"
    """The session was lost meanwhile, or something else."""


class Refusal(Record):
    """A connection that did not get its destination.

    Attributes:
        cause: Why; ``None`` if that is not known.
        at: When, on the loop's clock.
    """

    cause: TunnelError | None
    at: float


class ServerStatistics(Record):
    """Totals of a tunnel's listening side since the daemon's start.

    Attributes:
        active: Connections now.
        accepted: Connections since the start.
        refused: Connections without a stream, or whose destination refused.
        rejected: Connections that were reset instead of accepted.
        saturated: The number of times that ``max_connections`` made clients wait.
        sent: Bytes from clients, including those of the connections now.
        received: Bytes to clients, likewise.
        endings: Finished connections by outcome.
        failures: Refused connections by reason.
        rejections: Rejected connections by rule.
        last_refusal: The latest refused connection; None if there is none.
    """

    active: int
    accepted: int
    refused: int
    rejected: int
    saturated: int
    sent: int
    received: int
    endings: Mapping[ConnectionOutcome, int]
    failures: Mapping[Failure, int]
    rejections: Mapping[Rejection, int]
    last_refusal: Refusal | None = None


class ConnectionCounters:
    """Counts for one tunnel; outlives its servers, and can be shared by two.

    Attributes:
        saturated: The number of times that ``max_connections`` made clients wait.
    """

    __slots__ = (
        "_accepted",
        "_endings",
        "_failures",
        "_last_refusal",
        "_living",
        "_received",
        "_rejections",
        "_sent",
        "saturated",
    )

    def __init__(self) -> None:
        self.saturated = 0
        self._accepted = 0
        self._sent = 0
        self._received = 0
        self._living: set[Connection] = set()
        self._endings: Counter[ConnectionOutcome] = Counter()
        self._failures: Counter[Failure] = Counter()
        self._rejections: Counter[Rejection] = Counter()
        self._last_refusal: Refusal | None = None

    def reject(self, rejection: Rejection) -> None:
        """Count a connection that was reset instead of accepted."""
        self._rejections[rejection] += 1

    def enter(self, connection: Connection) -> None:
        """Count a connection, and what it moves, from now on."""
        self._accepted += 1
        self._living.add(connection)

    def leave(self, connection: Connection, transfer: Transfer, now: float) -> None:
        """Keep what a connection that is over has moved.

        Args:
            connection: It.
            transfer: What it moved, and how it ended.
            now: When, on the loop's clock.
        """
        self._living.discard(connection)
        self._sent += transfer.sent
        self._received += transfer.received
        self._endings[transfer.ending] += 1
        if transfer.ending is ConnectionOutcome.REFUSED:
            self._failures[_failure(transfer.cause)] += 1
            self._last_refusal = Refusal(transfer.cause, now)

    def moved(self) -> tuple[int, int]:
        """Return the bytes from clients and to clients so far."""
        meters = [connection.meter for connection in self._living]
        sent = self._sent + sum(meter.sent for meter in meters)
        return sent, self._received + sum(meter.received for meter in meters)

    def read(self) -> ServerStatistics:
        """Return the counts of this moment."""
        sent, received = self.moved()
        return ServerStatistics(
            active=len(self._living),
            accepted=self._accepted,
            refused=self._endings[ConnectionOutcome.REFUSED],
            rejected=self._rejections.total(),
            saturated=self.saturated,
            sent=sent,
            received=received,
            endings=dict(self._endings),
            failures=dict(self._failures),
            rejections=dict(self._rejections),
            last_refusal=self._last_refusal,
        )


def _failure(cause: TunnelError | None) -> Failure:
    match cause:
        case DestinationRefused():
            return Failure.REFUSED
        case NoSessionReady():
            return Failure.NO_SESSION
        case DestinationForbidden():
            return Failure.FORBIDDEN
        case TooManyDestinations():
            return Failure.CROWDED
        case ProxyProtocolError():
            return Failure.HANDSHAKE
        case _:
            return Failure.OTHER
