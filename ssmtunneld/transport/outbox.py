"""Messages between the channel that made them and the link that takes them."""

import asyncio
from collections.abc import Callable
from typing import Final

from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import LinkError, LinkLost
from ssmtunneld.transport.link import Link

ACK_DELAY: Final = 0.001
"""Seconds for which acknowledgements wait for something else to be sent with them. What
arrived is with the local client before they go: where a write wakes a process that
sleeps, it takes longer than everything else that an answer needs here. The agent allows
10 ms at least on top of the round trip that it measures, and looks every 100 ms only
(protocol 4.5)."""
ACK_BATCH: Final = 8
"""Acknowledgements that are sent without further delay, as in a bulk transfer."""
CHOKE_SIZE: Final = 256 << 10
"""Bytes that can be queued behind a congested network before reading the link stops:
the acknowledgements of some 900 messages, a second of a download."""
CHOKE_TIMEOUT: Final = 30.0
"""Seconds for which the network can take nothing of what must be sent. While the link
is not read, nothing else would notice that its peer has died."""


class Outbox:
    """Messages that wait to be sent, in order.

    Args:
        send: Called when messages must not be held any longer.
        lose: Called when the network has taken nothing for ``CHOKE_TIMEOUT``.
    """

    def __init__(
        self, send: Callable[[], None], lose: Callable[[LinkError], None]
    ) -> None:
        self._send = send
        self._lose = lose
        self._loop = asyncio.get_running_loop()
        self._messages: list[bytes] = []
        self._held: asyncio.TimerHandle | None = None
        self._queued = 0
        self._choke_timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return the number of messages that wait."""
        return len(self._messages)

    @property
    def choked(self) -> bool:
        """True if too much waits for the network to add anything.

        Acknowledgements answer what arrives, so reading less is the way to send fewer:
        on a narrow uplink they would pile up for as long as a download takes.
        """
        return self._queued > CHOKE_SIZE

    def add(self, message: bytes) -> None:
        """Add a message."""
        self._messages.append(message)

    def hold(self) -> None:
        """Keep the messages for up to ``ACK_DELAY``, unless they are many already."""
        if len(self._messages) >= ACK_BATCH:
            self._send()
        elif self._messages and self._held is None:
            # A timer that is early finds nothing: cheaper than to move it each time.
            self._held = self._loop.call_later(ACK_DELAY, self._release)

    def _release(self) -> None:
        self._held = None
        if self._messages:
            self._send()

    def send(self, link: Link) -> None:
        """Pass all messages to ``link``."""
        messages = self._messages
        if not messages:
            return
        if link.congested:
            self._queued += sum(map(len, messages))
            if self._choke_timer is None:
                self._choke_timer = self._loop.call_later(
                    CHOKE_TIMEOUT,
                    self._lose,
                    LinkLost(clean("it took nothing from us")),
                )
        link.send(messages)
        messages.clear()

    def unchoke(self) -> None:
        """Note that the network has taken what was queued."""
        self._queued = 0
        if self._choke_timer is not None:
            self._choke_timer.cancel()
            self._choke_timer = None

    def reset(self) -> None:
        """Drop all messages: they were for a link that is lost."""
        self._messages.clear()
        self.unchoke()
        if self._held is not None:
            self._held.cancel()
            self._held = None
