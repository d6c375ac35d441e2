"""The common part of protocols in which the client names its destination."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol

from ssmtunneld.errors import DestinationRefused, NoSessionReady, StreamError

if TYPE_CHECKING:
    from ssmtunneld.config.destinations import Destination
    from ssmtunneld.errors import TunnelError

SPEECH_LIMIT: Final = 8 * 1024
"""Limit of bytes in which a client names its destination."""


class Refusal(Enum):
    """The reason why a client does not get the destination that it named."""

    FORBIDDEN = auto()
    """It is outside of the patterns."""
    CROWDED = auto()
    """The limit of destinations is reached."""
    REFUSED = auto()
    """The target could not connect to it."""
    LATE = auto()
    """No session was ready in time."""
    FAILED = auto()
    """Something else."""


class ProxyProtocolError(StreamError):
    """A client did not say what the protocol asks for.

    Args:
        reason: The violation, without any text of the client.
        reply: The answer before the connection is closed.
    """

    def __init__(self, reason: str, reply: bytes = b"") -> None:
        super().__init__(reason)
        self.reply = reply


class DestinationForbidden(StreamError):
    """A client asked for a destination that no pattern allows."""

    def __init__(self, destination: Destination) -> None:
        super().__init__(f"{destination} is not one of the destinations")
        self.advice = f'add "{destination}" to destinations if it may be reached'


class TooManyDestinations(StreamError):
    """The limit of destinations is reached, and all are in use."""

    def __init__(self, destination: Destination, limit: int) -> None:
        super().__init__(
            f"no room for {destination}: all {limit} destinations are in use"
        )
        self.advice = "raise max_destinations"


class ProxyProtocol(Protocol):
    """One client's side of a protocol; says what to answer, does no I/O.

    Attributes:
        destination: The destination that the client asks for, once it is known.
        rest: The data behind the handshake.
    """

    destination: Destination | None
    rest: bytes

    def hear(self, data: bytes) -> bytes:
        """Take what the client said; return what to answer at once.

        Not to be called again once there is a ``destination``.

        Raises:
            Misspoken: It is not what the protocol asks for.
        """
        ...

    def late(self) -> bytes:
        """Return the answer to a client that takes too long to say anything."""
        ...

    def accept(self) -> bytes:
        """Return what precedes the destination's own words."""
        ...

    def refuse(self, refusal: Refusal) -> bytes:
        """Return the answer to a client that does not get its destination."""
        ...


def refusal_for(error: TunnelError) -> Refusal:
    """Return what to tell a client for which ``error`` ended the attempt."""
    match error:
        case DestinationForbidden():
            return Refusal.FORBIDDEN
        case TooManyDestinations():
            return Refusal.CROWDED
        case DestinationRefused():
            return Refusal.REFUSED
        case NoSessionReady():
            return Refusal.LATE
        case _:
            return Refusal.FAILED
