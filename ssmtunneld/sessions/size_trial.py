"""Trials of larger messages on a new session, before connections get it (design D22).

Each is one message that holds nothing but smux NOPs, which the agent ignores. If it is
acknowledged, messages of that size can carry data to such an agent; if it ends the
session, they cannot, and another session takes its place. Nobody's data is at stake.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.log import EventLog
from ssmtunneld.errors import ChannelClosed, LinkLost, TrialLost, TunnelError
from ssmtunneld.sessions.message_sizes import NOP_SIZE, AgentKind, MessageSizes
from ssmtunneld.smux.frame import Command, encode_frame

TIMEOUT: Final = 3.0
"""Seconds without an acknowledgement after which a size counts as refused. Behind what
was dropped on the way nothing would ever be delivered."""
HURRIED_TIMEOUT: Final = 1.0
"""The same while a connection waits for the session: a tenth of that is usual."""
TOO_BIG: Final = 1009
"""The websocket's close code for a message that is too large (RFC 6455 7.4.1)."""

_NOP: Final = encode_frame(Command.NOP, 0)
assert len(_NOP) == NOP_SIZE


class TrialDriver(Protocol):
    """The part of a driver that trials use."""

    def send_awaited(self, payload: bytes, arrived: Callable[[], None]) -> bool:
        """Send one message; call ``arrived`` once it is acknowledged."""
        ...

    def close(self, error: TrialLost) -> None:
        """End the channel because of ``error``."""
        ...


class SizeTrial:
    """The trials of one session, one after the other.

    Args:
        driver: Sends them.
        sizes: What is known of sizes.
        kind: The session's agent.
        limit: Returns the greatest size to try, in bytes.
        allowed: Returns True if a trial may begin now; asked before each.
        done: Called once there is nothing more to try, or nothing may be tried.
        log: Bound to the session.
    """

    def __init__(
        self,
        driver: TrialDriver,
        sizes: MessageSizes,
        kind: AgentKind,
        *,
        limit: Callable[[], int],
        allowed: Callable[[], bool],
        done: Callable[[], None],
        log: EventLog,
    ) -> None:
        self._driver = driver
        self._sizes = sizes
        self._kind = kind
        self._limit = limit
        self._allowed = allowed
        self._done = done
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._size: int | None = None
        self._begun = 0.0
        self._hurried = False
        self._timer: asyncio.TimerHandle | None = None
        self.accepted = 0
        """Trials that were acknowledged."""

    @property
    def under_way(self) -> bool:
        """True while a trial has no result."""
        return self._size is not None

    def begin(self) -> None:
        """Begin the next trial, or be done."""
        size = self._sizes.begin(self._kind, self._limit()) if self._allowed() else None
        if size is not None:
            self._size = size
            self._begun = self._loop.time()
            self._hurried = False
            if self._driver.send_awaited(_NOP * (size // NOP_SIZE), self._on_arrival):
                self._set_timer(TIMEOUT)
                return
            self.stop()
        self._done()

    def hurry(self) -> None:
        """Give up sooner: a connection waits for the session."""
        if self.under_way:
            self._hurried = True
            self._set_timer(HURRIED_TIMEOUT)

    def stop(self) -> None:
        """End without a result: the session is ended for another reason. Idempotent."""
        if self._size is not None:
            self._sizes.abandon(self._kind, self._take_size(), unclear=False)

    def _set_timer(self, timeout: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._begun + timeout, self._on_silence)

    def _take_size(self) -> int:
        size, self._size = self._size, None
        assert size is not None, "no trial is under way"
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return size

    def _on_arrival(self) -> None:
        if self._size is None:
            return  # given up in the same turn
        size = self._take_size()
        self._sizes.accept(self._kind, size)
        self.accepted += 1
        took = round((self._loop.time() - self._begun) * 1000, 1)
        agent = self._kind.version
        self._log.debug("size.accepted", agent=agent, size=size, took_ms=took)
        self.begin()

    def _on_silence(self) -> None:
        seconds = self._loop.time() - self._begun
        why = clean(f"no acknowledgement in {seconds:.0f} s")
        size = self._take_size()
        # A path that was cut for a second looks the same.
        lost = (self._unclear if self._hurried else self._refused)(size, why)
        self._driver.close(lost)

    def _refused(self, size: int, why: str) -> TrialLost:
        self._sizes.refuse(self._kind, size)
        agent = self._kind.version
        self._log.info("size.refused", agent=agent, size=size, reason=why)
        return TrialLost(size, clean(why))

    def lost_with(self, error: TunnelError) -> TrialLost:
        """Return what to end the session with, because ``error`` ended the trial."""
        size = self._take_size()
        if isinstance(error, ChannelClosed) or (
            isinstance(error, LinkLost) and error.code == TOO_BIG
        ):
            return self._refused(size, str(error))
        return self._unclear(size, str(error))

    def _unclear(self, size: int, why: str) -> TrialLost:
        self._sizes.abandon(self._kind, size, unclear=True)
        agent, told = self._kind.version, clean(why)
        self._log.info("size.unclear", agent=agent, size=size, reason=told)
        return TrialLost(size, told)
