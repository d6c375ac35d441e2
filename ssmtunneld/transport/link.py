"""The interface between a driver and its websocket, both ways."""

from collections.abc import Sequence
from typing import Protocol

from ssmtunneld.errors import LinkError


class Receiver(Protocol):
    """The upper end of a link. None of these calls waits or raises."""

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """Called with the messages that arrived together, in order."""
        ...

    def on_writable(self) -> None:
        """Called when the link is no longer congested."""
        ...

    def on_lost(self, error: LinkError) -> None:
        """Called when the link is lost; nothing is called after this."""
        ...


class Link(Protocol):
    """An open, message-based connection to the service; it is used once."""

    @property
    def congested(self) -> bool:
        """True if more is queued than the network has taken; wait for on_writable."""
        ...

    def start(self, receiver: Receiver) -> None:
        """Begin to call ``receiver``; what arrived before is delivered first."""
        ...

    def send_text(self, text: str) -> None:
        """Queue one textual message; it is dropped if the link is lost."""
        ...

    def send(self, messages: Sequence[bytes]) -> None:
        """Queue binary messages, in order; they are dropped if the link is lost."""
        ...

    def pause(self) -> None:
        """Stop reading from the network (backpressure)."""
        ...

    def resume(self) -> None:
        """Continue reading."""
        ...

    def delay_reading(self, seconds: float) -> None:
        """Read again after ``seconds``, or when something is sent.

        A hint, which saves wake-ups: messages that come at a pace are read together.
        """
        ...

    def check(self, timeout: float) -> None:
        """Ask for a sign of life; without one in ``timeout`` seconds, be lost."""
        ...

    def abort(self) -> None:
        """Drop the connection at once; idempotent, ``on_lost`` is not called."""
        ...
