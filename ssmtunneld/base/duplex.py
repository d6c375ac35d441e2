"""The interface of a byte stream, for everything that joins two of them."""

from typing import Protocol


class Duplex(Protocol):
    """Two directions of bytes: a local socket, a smux stream, a whole basic session.

    One task can receive while another sends; two tasks must not do the same of these.
    Cancelling any of the awaits is safe: no byte is lost that was not yet returned, and
    data already accepted by ``send`` still goes out.
    """

    async def receive(self) -> bytes:
        """Return the next bytes, at least one; ``b""`` once the peer has ended.

        Raises:
            StreamError: The stream broke; bytes can be missing.
        """
        ...

    async def send(self, data: bytes) -> None:
        """Accept ``data`` and return when there is room for more (backpressure).

        Raises:
            StreamError: The stream broke, or the peer no longer takes data.
        """
        ...

    async def send_eof(self) -> None:
        """Send EOF behind what was sent before."""
        ...

    def abort(self) -> None:
        """End both directions at once, as an error; idempotent, never waits."""
        ...

    async def aclose(self) -> None:
        """Close after what was sent has gone out; idempotent."""
        ...


class EagerDuplex(Duplex, Protocol):
    """A byte stream that also takes data where nothing can be awaited."""

    def put(self, data: bytes) -> None:
        """Accept ``data``, whether there is room for it or not.

        Raises:
            StreamError: The stream broke, or the peer no longer takes data.
        """
        ...
