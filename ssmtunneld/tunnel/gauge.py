"""What a session's recent traffic says about it: idle, bulk, stalled."""

from typing import Final, Protocol

from ssmtunneld.protocol.channel import ChannelStatistics
from ssmtunneld.smux.session import MuxStatistics

BULK_RATE: Final = 256 << 10
"""Bytes per second above which a session is said to carry bulk data: a third of what
the agent sends at most (protocol 6.8), and more than people read or type."""
STALL_TIME: Final = 5.0
"""Seconds without progress, in spite of something to acknowledge, that are a stall."""
GAP_TIME: Final = 1.5
"""Seconds behind that are a stall too: the agent repeats one message within a second,
but only ten in a second (protocol 4.5), and whatever comes later waits for them."""

DIAL_TIME: Final = 10.0
"""Seconds for which one stream's data went unanswered that are a stall: the agent dials
one stream after the other, and a destination that swallows its packets holds up all
behind it for minutes (protocol 6.6). A server may also think that long before its first
byte; then new streams go elsewhere for nothing, which does no harm."""


class Measured(Protocol):
    """What a gauge looks at."""

    @property
    def streams(self) -> int:
        """Streams that are not yet over."""
        ...

    @property
    def traffic(self) -> int:
        """Bytes of payload both ways, since the beginning."""
        ...

    @property
    def reading_stopped(self) -> bool:
        """Whether a slow local reader holds everything up."""
        ...

    @property
    def behind(self) -> float:
        """Seconds that the agent has spent on repeating, or has to: the greater one."""
        ...

    @property
    def unanswered(self) -> int | None:
        """The oldest stream whose destination has not answered what was sent to it."""
        ...

    def statistics(self) -> tuple[ChannelStatistics, MuxStatistics | None]:
        """Return snapshots of the channel and what it carries."""
        ...


class Gauge:
    """Measures one session, each time that it is told to."""

    __slots__ = (
        "_acknowledged",
        "_answered_at",
        "_measured_at",
        "_progress_at",
        "_stalled_at",
        "_traffic",
        "_unacked",
        "_unanswered",
        "idle_since",
        "rate",
        "stalled",
    )

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        """Bytes per second, both ways, since the measurement before."""
        self.stalled = False
        """Nothing moves although something should."""
        self.idle_since = now
        """When the last stream was seen."""
        self._measured_at = now
        self._progress_at = now
        self._stalled_at = now
        self._traffic = 0
        self._acknowledged = 0
        self._unacked = 0
        self._unanswered: int | None = None
        self._answered_at = now

    @property
    def bulk(self) -> bool:
        """Whether the session carries bulk data."""
        return self.rate > BULK_RATE

    def stalled_for(self, now: float) -> float:
        """Return for how many seconds it has been stalled; 0.0 if it is not."""
        return now - self._stalled_at if self.stalled else 0.0

    def measure(self, session: Measured, now: float) -> None:
        """Look at ``session``; looks closer than a tenth of a second are too short."""
        if session.streams:
            self.idle_since = now
        elapsed = now - self._measured_at
        if elapsed < 0.1:
            return
        self._measured_at = now
        traffic = session.traffic
        self.rate = (traffic - self._traffic) / elapsed
        self._traffic = traffic
        channel, _ = session.statistics()
        # What was sent since a quiet time has not waited for all of that time.
        waited = self._unacked and channel.unacked
        if not waited or channel.acknowledged != self._acknowledged:
            self._progress_at = now
        self._acknowledged = channel.acknowledged
        self._unacked = channel.unacked
        unanswered = session.unanswered
        if unanswered is None or unanswered != self._unanswered:
            self._answered_at = now
        self._unanswered = unanswered
        was_stalled = self.stalled
        self.stalled = (
            session.reading_stopped
            or now >= self._progress_at + STALL_TIME
            or session.behind >= GAP_TIME
            or now >= self._answered_at + DIAL_TIME
        )
        if not was_stalled:
            self._stalled_at = now
