"""A session as its pool sees it: its recent traffic, and what only the pool knows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ssmtunneld.protocol.channel import ChannelStatistics
from ssmtunneld.protocol.handshake import Terms
from ssmtunneld.sessions.policy import (
    STUCK_TIME,
    Phase,
    SessionView,
    choose_for_probe,
)
from ssmtunneld.sessions.session import Session
from ssmtunneld.sessions.silence import (
    SUSPECT_TIME,
    Answer,
    SilenceWatch,
    Step,
)
from ssmtunneld.smux.mux import MuxStatistics

if TYPE_CHECKING:
    import asyncio

    from ssmtunneld.errors import TunnelError


BULK_RATE: Final = 256 << 10
"""Bytes per second above which a session is said to carry bulk data: a third of what
the agent sends at most (protocol 6.8), and more than people read or type."""
STALL_TIME: Final = 5.0
"""Seconds without progress, in spite of something to acknowledge, that are a stall."""
GAP_TIME: Final = 1.5
"""Seconds behind that are a stall too: the agent repeats one message within a second,
but only ten in a second (protocol 4.5), and all later messages wait for them."""

RTT_TIME: Final = 30.0
"""Seconds without traffic after which a round-trip time says nothing of the present."""
DIAL_TIME: Final = 10.0
"""Seconds for which one stream's data went unanswered that are a stall: the agent dials
one stream after the other, and a destination that swallows its packets holds up all
behind it for minutes (protocol 6.6). A server can also take that long before its first
byte; then new streams go elsewhere for nothing, which does no harm."""


class MeasuredSession(Protocol):
    """The part of a session that a gauge measures."""

    @property
    def streams(self) -> int:
        """Streams that are not yet over."""
        ...

    @property
    def moved_bytes(self) -> int:
        """Bytes of payload both ways, since the beginning."""
        ...

    @property
    def reading_stopped(self) -> bool:
        """True while the session is not read because of a slow local reader."""
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


class TrafficGauge:
    """Measures one session at each call of :meth:`measure`."""

    __slots__ = (
        "_acknowledged",
        "_answered_at",
        "_measured_at",
        "_moved_bytes",
        "_progress_at",
        "_stalled_at",
        "_unacked",
        "_unanswered",
        "idle_since",
        "moved_at",
        "rate",
        "stalled",
    )

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        """Bytes per second, both ways, since the measurement before."""
        self.stalled = False
        """Nothing moves although something should."""
        self.idle_since = now
        """The last time at which there was a stream."""
        self.moved_at = now
        """The last time at which anything was seen to have moved, either way."""
        self._measured_at = now
        self._progress_at = now
        self._stalled_at = now
        self._moved_bytes = 0
        self._acknowledged = 0
        self._unacked = 0
        self._unanswered: int | None = None
        self._answered_at = now

    @property
    def bulk(self) -> bool:
        """True if the session carries bulk data."""
        return self.rate > BULK_RATE

    def stalled_for(self, now: float) -> float:
        """Return for how many seconds it has been stalled; 0.0 if it is not."""
        return now - self._stalled_at if self.stalled else 0.0

    def measure(self, session: MeasuredSession, now: float) -> None:
        """Measure ``session``; calls within a tenth of a second are ignored."""
        if session.streams:
            self.idle_since = now
        elapsed = now - self._measured_at
        if elapsed < 0.1:
            return
        self._measured_at = now
        moved_bytes = session.moved_bytes
        self.rate = (moved_bytes - self._moved_bytes) / elapsed
        if self.rate:
            self.moved_at = now
        self._moved_bytes = moved_bytes
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


REFUSALS: Final = 3
"""Refused destinations in a row after which a session to a remote host is replaced:
the agent resolves the name once in its session's life (protocol 6.2)."""
RECYCLE_AGE: Final = 30.0
"""Seconds that a session is used before it is replaced for that reason: a destination
that is simply down must not cost one StartSession after the other."""
ABANDON_TIME: Final = 10.0
"""Seconds without any acknowledgement after which an unused session is ended,
although what its last users sent has not arrived."""
SILENT_TIME: Final = 7.0
"""Seconds without any acknowledgement after which a session counts as not moving for
``STUCK_TIME``: a waiting connection is served by another before its patience ends."""


@dataclass(frozen=True, slots=True)
class PooledSessionSnapshot:
    """One session at one moment."""

    view: SessionView
    session_id: str | None
    created: float
    """The time of its creation, on the loop's clock."""
    terms: Terms | None
    channel: ChannelStatistics
    rtt: float | None
    """The smoothed round-trip time in seconds; ``None`` if it is not known by now."""


class PooledSession:
    """A session, and what only the pool knows of it."""

    __slots__ = ("error", "gauge", "retiring", "session", "silence", "task")

    def __init__(
        self, session: Session, now: float, *, respects_idle: bool = False
    ) -> None:
        self.session = session
        self.silence = SilenceWatch(now, respects_idle=respects_idle)
        self.task: asyncio.Task[None] | None = None
        self.error: TunnelError | None = None
        """The error that ended it; None while it lives, and if it was ended here."""
        self.retiring = False
        self.gauge = TrafficGauge(now)

    def measure(self, now: float) -> None:
        """Measure the session; end it if it will never move again."""
        self.gauge.measure(self.session, now)
        self.session.look_for_hole(now)

    def is_suspicious(self, now: float) -> bool:
        """Return True if the agent has been silent for ``SUSPECT_TIME``."""
        signs = self.session.signs(suspected=False)
        return self.silence.silence(now, signs) >= SUSPECT_TIME

    def look_into_silence(
        self, now: float, stall_timeout: float, *, suspected: bool
    ) -> bool:
        """Do what is due about its silence (design D21).

        Args:
            now: The time, in seconds.
            stall_timeout: See :meth:`SilenceWatch.look`.
            suspected: Whether another one is suspicious.

        Returns:
            Whether :meth:`inquire` is due.
        """
        signs = self.session.signs(suspected=suspected)
        match self.silence.look(now, signs, stall_timeout):
            case Step.ASK_AGENT:
                self.session.ask_agent()
            case Step.GIVE_UP:
                lost = self.silence.answer is Answer.NOT_CONNECTED
                self.session.give_up(
                    self.silence.silence(now, signs),
                    "AWS says that it is not connected"
                    if lost
                    else "stall_timeout is over",
                )
            case Step.ASK_SERVICE:
                return True
            case Step.NOTHING:
                pass
        return False

    async def inquire(self) -> None:
        """Ask the service about the agent. Cancelling is safe."""
        answer = Answer.UNKNOWN
        try:
            answer = await self.session.ask_service(self.silence.answer)
        finally:
            self.silence.note(answer)

    def stuck_for(self, now: float) -> float:
        """Return for how many seconds nothing has moved although the link is up."""
        if self.session.phase is not Phase.READY:
            return 0.0
        silent = self.session.silent_for - SILENT_TIME + STUCK_TIME
        return max(self.gauge.stalled_for(now), silent)

    def is_abandoned(self) -> bool:
        """Return True if nothing moves in it and no connection waits for that."""
        session = self.session
        return (
            session.phase is Phase.READY
            and session.silent_for >= ABANDON_TIME
            and not session.attended
        )

    def is_stale(self, now: float) -> bool:
        """Return True if the agent could have an outdated address (design D9)."""
        session = self.session
        return (
            session.refusals >= REFUSALS
            and now >= session.created + RECYCLE_AGE
            and session.terms is not None
            and bool(session.terms.properties.get("host"))
        )

    # A candidate for the next stream.

    @property
    def number(self) -> int:
        """The session's."""
        return self.session.number

    @property
    def phase(self) -> Phase:
        """The session's."""
        return self.session.phase

    @property
    def streams(self) -> int:
        """Streams that need the session still."""
        session = self.session
        if session.streams:
            return session.streams
        # What was sent last must arrive before the session is closed.
        return int((self.retiring or session.exhausted) and session.undelivered)

    @property
    def bulk(self) -> bool:
        """True if the session moves much data."""
        return self.gauge.bulk

    @property
    def stalled(self) -> bool:
        """True if nothing moves although something should."""
        session = self.session
        # The gauge looks once a second; the others are so at once.
        return (
            self.gauge.stalled
            or session.reading_stopped
            or session.held_up
            or session.behind >= GAP_TIME
        )

    @property
    def exhausted(self) -> bool:
        """True if no further stream can be opened."""
        return self.session.exhausted

    @property
    def traffic(self) -> float:
        """Recent bytes per second."""
        return self.gauge.rate

    def view(self, limit: float | None) -> SessionView:
        """Return the facts for policy; ``limit`` is a session's greatest age."""
        session = self.session
        return SessionView(
            number=self.number,
            phase=self.phase,
            since=session.since,
            streams=self.streams,
            bulk=self.bulk,
            stalled=self.stalled,
            exhausted=self.exhausted,
            retiring=self.retiring,
            idle_since=max(self.gauge.idle_since, session.since),
            expires_at=None if limit is None else session.created + limit,
            traffic=self.traffic,
        )

    def snapshot(self, limit: float | None, now: float) -> PooledSessionSnapshot:
        """Return what there is to see at ``now``."""
        session = self.session
        return PooledSessionSnapshot(
            view=self.view(limit),
            session_id=session.session_id,
            created=session.created,
            terms=session.terms,
            channel=session.statistics()[0],
            rtt=self.rtt(now),
        )

    def rtt(self, now: float) -> float | None:
        """Return the round-trip time in seconds, unless it is from long ago."""
        recent = now < self.gauge.moved_at + RTT_TIME
        return self.session.statistics()[0].rtt if recent else None


def session_for_probe(
    members: Iterable[PooledSession], *, respects_idle: bool
) -> Session | None:
    """Return the session to ask through, or None to leave it.

    Args:
        members: All that are not over. One that carries a single connection is not for
            asking: that one belongs to a client.
        respects_idle: See :func:`choose_for_probe`.
    """
    sessions = {
        member.session.number: (member.session, member.view(None))
        for member in members
        if member.session.terms is not None and member.session.terms.mux
    }
    views = [view for _, view in sessions.values()]
    number = choose_for_probe(views, respects_idle=respects_idle)
    return None if number is None else sessions[number][0]
