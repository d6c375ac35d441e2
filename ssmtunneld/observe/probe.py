"""Asks one tunnel's destination, again and again, whether it is alive.

A session that is ready says nothing about what is behind it. A probe goes the way of a
connection, through a session, but never counts as use (``Pool.open_probe``).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from ssmtunneld.base.duplex import Duplex
from ssmtunneld.base.log import EventLog
from ssmtunneld.base.small_event import SmallEvent
from ssmtunneld.config.probes import Probe
from ssmtunneld.errors import DestinationRefused, StreamError
from ssmtunneld.observe.probe_protocols import Fault, converse

RETRY_INTERVAL: Final = 5.0
"""Seconds until the next attempt, at most, where nothing was found out."""
JITTER: Final = 0.1
"""By how much of itself an interval varies: many tunnels must not ask in step."""

_ADVICE: Final = "check that the destination is up and reachable from the target"
_OTHER_ADVICE: Final = (
    "check the destination, its port, and that probe matches its protocol"
)


class ProbeStream(Duplex, Protocol):
    """A stream, and whether its silence says anything about the destination."""

    @property
    def unsettled(self) -> bool:
        """True if an answer, or our bytes, could be stuck on the way."""
        ...


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """Conversation and times of a tunnel's probe; times are in seconds."""

    probe: Probe
    interval: float
    timeout: float
    host: str = "localhost"
    """Name by which HTTP servers know the destination."""
    expected: bool = True
    """True if sessions are kept ready, so that there is always one to ask through."""


@dataclass(frozen=True, slots=True)
class ProbeStatus:
    """Findings of a tunnel's probe."""

    kind: str
    """``tcp``, ``banner``, ``postgres``, ``mysql``, ``redis`` or ``http``."""
    ok: bool | None
    """True if the destination is alive; null as long as that is not known."""
    pending: bool
    """True until the first answer has come."""
    reason: str
    """Fault of the destination; empty if there is none."""
    advice: str
    """Advice; empty if nothing has to be done."""
    failures: int
    """Probes that have failed since one last passed."""
    age: float | None
    """Seconds since the last answer, or the last failure; null before that."""

    @property
    def usable(self) -> bool:
        """True if nothing speaks against using the tunnel."""
        return self.ok is not False and not self.pending


class Prober:
    """Probes one destination until cancelled.

    Args:
        settings: What to ask, and when; None for nothing.
        open_stream: Returns a new stream that does not count as use, or None if there
            is no session to use.
        wait_ready: Returns once there is a session.
        log: Bound to the tunnel.
        random: For jitter.
    """

    def __init__(
        self,
        settings: ProbeSettings | None,
        open_stream: Callable[[], ProbeStream | None],
        wait_ready: Callable[[], Awaitable[None]],
        *,
        log: EventLog,
        random: Random,
    ) -> None:
        self._settings = settings
        self._open_stream = open_stream
        self._wait_ready = wait_ready
        self._log = log
        self._random = random
        self._changed = SmallEvent()
        self._usable = SmallEvent()
        self._failing = False
        # Counts what may have been another destination: an answer that comes late must
        # not be taken for the next one's.
        self._inquiry = 0
        self._ok: bool | None = None
        self._pending = False
        self._reason = self._advice = ""
        self._failures = 0
        self._at: float | None = None
        self._forget()

    @property
    def settings(self) -> ProbeSettings | None:
        """May be replaced while it runs: what was found out is then forgotten."""
        return self._settings

    @settings.setter
    def settings(self, settings: ProbeSettings | None) -> None:
        if settings != self._settings:
            self._settings = settings
            self.reset()

    def reset(self) -> None:
        """Forget what was found out, and ask again: the destination can be another."""
        self._forget()
        self._changed.set()

    @property
    def usable(self) -> bool:
        """True if nothing that was found out speaks against using the tunnel."""
        return self._ok is not False and not self._pending

    async def run(self) -> None:
        """Ask as soon as there is a session, then at intervals, until cancelled."""
        while True:
            self._changed.clear()
            pause = await self._take_turn()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    async def wait_usable(self) -> None:
        """Return once nothing that was found out speaks against using the tunnel."""
        await self._usable.wait()

    def status(self, now: float) -> ProbeStatus | None:
        """Return what is known at ``now``, on the loop's clock; None if it is off."""
        if self._settings is None:
            return None
        return ProbeStatus(
            kind=self._settings.probe.kind,
            ok=self._ok,
            pending=self._pending,
            reason=self._reason,
            advice=self._advice,
            failures=self._failures,
            age=None if self._at is None else round(now - self._at, 1),
        )

    async def _take_turn(self) -> float | None:
        """Probe if there is reason to; return seconds until the next time."""
        if self._settings is None:
            return None
        await self._wait_ready()
        settings, inquiry = self.settings, self._inquiry
        if settings is None:
            return None
        conclusive = await self._ask(settings)
        if inquiry != self._inquiry:
            return 0.0
        self._pending = False
        self._tell()
        interval = settings.interval
        if not conclusive:
            interval = min(interval, RETRY_INTERVAL)
        return interval * self._random.uniform(1 - JITTER, 1 + JITTER)

    async def _ask(self, settings: ProbeSettings) -> bool:
        """Ask once; say whether anything was found out."""
        inquiry = self._inquiry
        stream = self._open_stream()
        if stream is None:
            if not settings.expected:
                # Or a tunnel that once failed would be avoided for ever: without
                # connections there is no session, and without a session no answer.
                self._ok, self._reason, self._advice = None, "", ""
            return False
        try:
            async with asyncio.timeout(settings.timeout):
                fault = await converse(settings.probe, stream, settings.host)
        except TimeoutError:
            if stream.unsettled:
                return False  # the session is in trouble, and that is told elsewhere
            fault = Fault(f"no answer within {settings.timeout:g} s", _ADVICE)
        except DestinationRefused as error:
            fault = Fault(str(error), _ADVICE)
        except StreamError:
            return False  # the session was lost
        finally:
            stream.abort()
        if inquiry == self._inquiry:
            self._conclude(settings.probe.kind, fault)
        return True

    def _conclude(self, kind: str, fault: Fault | None) -> None:
        self._at = asyncio.get_running_loop().time()
        reason = fault.reason if fault else ""
        advice = (fault.advice or _OTHER_ADVICE) if fault else ""
        self._ok, self._reason, self._advice = fault is None, reason, advice
        if fault is not None:
            self._failures += 1
            if not self._failing:
                self._failing = True
                self._log.warning(
                    "probe.failed", probe=kind, reason=reason, advice=advice
                )
            return
        if self._failing:
            self._failing = False
            self._log.info("probe.recovered", probe=kind, failures=self._failures)
        self._failures = 0

    def _forget(self) -> None:
        self._inquiry += 1
        self._ok = None
        self._pending = self._settings is not None and self._settings.expected
        self._reason = self._advice = ""
        self._failures = 0
        self._at = None
        self._tell()

    def _tell(self) -> None:
        if self.usable:
            self._usable.set()
        else:
            self._usable.clear()
