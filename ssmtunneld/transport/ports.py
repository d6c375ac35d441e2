"""The interfaces of driver and port to each other, and the limits of a port.

A port is the upper end of a channel's byte stream: ``MuxPort`` carries many streams
over smux, ``BasicPort`` one that is the whole session.
"""

from typing import Protocol

from ssmtunneld.base.record import Record
from ssmtunneld.errors import SessionError


class PortSession(Protocol):
    """The session that a port belongs to, as far as its streams tell of it."""

    number: int
    """Its number within the pool."""
    session_id: str | None
    """Its id at the service; None until it is granted."""
    target: str | None
    """The node whose agent it uses; None until it is chosen."""


class Port(Protocol):
    """The upper end of a channel's byte stream.

    None of these calls waits. ``receive`` raises RemoteProtocolError if the bytes are
    malformed.
    """

    @property
    def congested(self) -> bool:
        """True if more is unread than the limit: stop reading the link (design D7)."""
        ...

    def next_payload(self, limit: int) -> bytes:
        """Return the next payload to send; ``b""`` if none.

        Args:
            limit: Its bytes, at most; never below 1024. What is sent in small pieces
                stays small.
        """
        ...

    def after_sending(self) -> None:
        """Called after a round of ``next_payload``: wake senders that have room now."""
        ...

    def receive(self, payload: bytes) -> None:
        """Take the next bytes from the agent."""
        ...

    def dial_failed(self) -> None:
        """Called when the agent could not connect a stream."""
        ...

    def fail(self, error: SessionError) -> None:
        """Called when the session is over."""
        ...


class Buffers(Record):
    """Limits of unread bytes above which a session is not read (design D7)."""

    stream: int = 1 << 20
    session: int = 8 << 20


class Pending(Record):
    """The unsent data of a stream that moves to another session."""

    data: bytes
    finishing: bool
    """The stream ends behind ``data``."""


class PortDriver(Protocol):
    """The part of a driver that a port uses."""

    def wake(self) -> None:
        """Send, at the end of this turn of the loop."""
        ...

    def wake_late(self) -> None:
        """Send a few turns later, or with the next wake before that."""
        ...

    def reading_changed(self) -> None:
        """Called when ``congested`` could have changed."""
        ...

    @property
    def settled(self) -> bool:
        """True if nothing is known to be in flight or missing."""
        ...

    @property
    def missing(self) -> int:
        """Missing messages: a later one has arrived."""
        ...
