"""What driver and ports share: the interface of each, and the limits of a port.

A port is the upper end of a channel's byte stream: ``MuxPort`` carries many streams
over smux, ``BasicPort`` one that is the whole session.
"""

from dataclasses import dataclass
from typing import Protocol

from ssmtunneld.errors import SessionError


class Port(Protocol):
    """What a channel carries: the upper end of its byte stream (streams.py).

    None of these calls waits. ``receive`` raises RemoteProtocolError where the bytes
    make no sense.
    """

    @property
    def congested(self) -> bool:
        """Whether more is unread than may be: stop reading the link (design D7)."""
        ...

    def next_payload(self) -> bytes:
        """Return the next payload to send, at most 1024 bytes; ``b""`` if none."""
        ...

    def after_sending(self) -> None:
        """Learn that a round of ``next_payload`` is over: wake whoever has room now."""
        ...

    def receive(self, payload: bytes) -> None:
        """Take the next bytes from the agent."""
        ...

    def dial_failed(self) -> None:
        """Learn that the agent could not connect some stream."""
        ...

    def fail(self, error: SessionError) -> None:
        """Learn that the session is over."""
        ...


@dataclass(frozen=True, slots=True)
class Buffers:
    """Bytes that may be unread before a session is no longer read (design D7)."""

    stream: int = 1 << 20
    session: int = 8 << 20


@dataclass(frozen=True, slots=True)
class Pending:
    """What waited to be sent on a stream that moves to another session."""

    data: bytes
    finishing: bool
    """Nothing more follows."""


class PortDriver(Protocol):
    """The part of a driver that a port uses."""

    def wake(self) -> None:
        """Send, at the end of this turn of the loop."""
        ...

    def wake_late(self) -> None:
        """Send a few turns later, or with what is woken for before."""
        ...

    def reading_changed(self) -> None:
        """Look at ``congested`` again."""
        ...

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way, or missing, as far as can be known."""
        ...

    @property
    def missing(self) -> int:
        """Messages that were sent before others that have arrived."""
        ...
