"""NOPs against the idle timeout of the service, or of an old agent."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from ssmtunneld.protocol.handshake import Terms

AGENT_NOP_INTERVAL: Final = 10.0
"""Seconds between NOPs for an agent that ends silent smux sessions (protocol 7.5)."""


class _Port(Protocol):
    @property
    def streams(self) -> int: ...

    def nop(self) -> None: ...


class KeepAlive:
    """The NOPs of one session, while it has a link.

    Args:
        keep_alive: Seconds between them; ``None`` respects the service's idle timeout.
        end: Ends the session, whose agent would not outlive that timeout.
    """

    def __init__(self, keep_alive: float | None, end: Callable[[], None]) -> None:
        self._keep_alive = keep_alive
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._last: tuple[Terms, _Port] | None = None

    @property
    def interval(self) -> float | None:
        """Seconds between NOPs that the service's idle timeout asks for."""
        return self._keep_alive

    def shorten(self, interval: float) -> None:
        """Send them every ``interval`` seconds if it was less often; not if never."""
        if self._keep_alive is None or self._keep_alive <= interval:
            return
        self._keep_alive = interval
        if self._timer is not None and self._last is not None:
            self.start(*self._last)

    def start(self, terms: Terms, port: _Port) -> None:
        """Send them from now on."""
        self.stop()
        self._last = terms, port
        interval = AGENT_NOP_INTERVAL if terms.needs_nop else self._keep_alive
        if interval is not None:
            self._timer = self._loop.call_later(interval, self._send, terms, port)

    def _send(self, terms: Terms, port: _Port) -> None:
        try:
            if self._keep_alive or port.streams:
                port.nop()
            else:
                # The service's idle timeout must be respected, but an old agent does
                # not wait for it: soon it gives up smux without a word (protocol 7.5),
                # and the next stream would hang.
                self._end()
        finally:
            # Also after a defect: without NOPs the session would end in silence.
            self.start(terms, port)

    def stop(self) -> None:
        """Send no more; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
