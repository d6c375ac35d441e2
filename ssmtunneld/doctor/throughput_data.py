"""Something to send that no destination sees: what the doctor measures with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.smux.frame import Command, encode_frame
from ssmtunneld.transport.mux_port import MuxPort

if TYPE_CHECKING:
    from ssmtunneld.errors import SessionError

_NOP: Final = encode_frame(Command.NOP, 0)
FILLING: Final = _NOP * (MAX_PAYLOAD // len(_NOP))
"""A whole message of frames that agents throw away (protocol 7.5)."""


class FillingPort(MuxPort):
    """A port that sends meaningless messages on demand, before all else."""

    left = 0
    """Number of messages still to send."""
    _turn: asyncio.Event | None = None

    def fill(self, messages: int) -> None:
        """Send so many messages."""
        self.left += messages
        self._driver.wake()

    async def turn(self) -> None:
        """Wait until something was sent or acknowledged, or the session has failed.

        Cancelling is safe.
        """
        if self._turn is None:
            self._turn = asyncio.Event()
        await self._turn.wait()

    @override
    def next_payload(self, limit: int = MAX_PAYLOAD) -> bytes:
        if not self.left:
            return super().next_payload(limit)
        self.left -= 1
        return FILLING

    @override
    def after_sending(self) -> None:
        super().after_sending()
        self._notify()

    @override
    def fail(self, error: SessionError) -> None:
        super().fail(error)
        self._notify()

    def _notify(self) -> None:
        # Whoever waits holds this event; the next one waits on a new one.
        if self._turn is not None:
            self._turn.set()
            self._turn = None
