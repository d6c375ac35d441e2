"""What a driver needs of a websocket, and what it offers to one."""

from collections.abc import Sequence
from typing import Protocol

from ssmtunneld.errors import LinkError


class Receiver(Protocol):
    """The upper end of a link. None of these calls waits or raises."""

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """Take the messages that arrived together, in order."""
        ...

    def on_writable(self) -> None:
        """Learn that the link is no longer congested."""
        ...

    def on_lost(self, error: LinkError) -> None:
        """Learn that the link is gone; nothing is called after this."""
        ...


class Link(Protocol):
    """An open, message-based connection to the service; it is used once."""

    @property
    def congested(self) -> bool:
        """Whether more is queued than the network has taken; wait for on_writable."""
        ...

    def start(self, receiver: Receiver) -> None:
        """Begin to call ``receiver``; what arrived before is delivered first."""
        ...

    def send_text(self, text: str) -> None:
        """Queue one textual message; it is dropped if the link is gone."""
        ...

    def send(self, messages: Sequence[bytes]) -> None:
        """Queue binary messages, in order; they are dropped if the link is gone."""
        ...

    def pause(self) -> None:
        """Read no more from the network: the peer will feel it (backpressure)."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...

    def delay_reading(self, seconds: float) -> None:
        """Read again after so many seconds, or when something is sent.

        Advice: what comes at a pace is then taken together.
        """
        ...

    def check(self, timeout: float) -> None:
        """Ask for a sign of life; without one in ``timeout`` seconds, be lost."""
        ...

    def abort(self) -> None:
        """Drop the connection at once; idempotent, ``on_lost`` is not called."""
        ...
