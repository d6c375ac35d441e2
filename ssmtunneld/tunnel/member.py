"""A session, and what only its pool knows of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ssmtunneld.protocol.channel import ChannelStatistics
from ssmtunneld.protocol.handshake import Terms
from ssmtunneld.tunnel.gauge import GAP_TIME, Gauge
from ssmtunneld.tunnel.plan import Phase, SessionView
from ssmtunneld.tunnel.session import Session

if TYPE_CHECKING:
    import asyncio


REFUSALS: Final = 3
"""Refused destinations in a row after which a session to a remote host is replaced:
the agent resolves the name once in its session's life (protocol 6.2)."""
RECYCLE_AGE: Final = 30.0
"""Seconds that a session is used before it is replaced for that reason: a destination
that is simply down must not cost one StartSession after the other."""
STUCK_TIME: Final = 5.0
"""Seconds for which no session of a full pool has moved before one is replaced."""
ABANDON_TIME: Final = 10.0
"""Seconds without any acknowledgement after which a session that nobody uses is ended,
although what its last users sent has not arrived."""
SILENT_TIME: Final = 7.0
"""Seconds without any acknowledgement after which a session counts as not moving for
``STUCK_TIME``: a waiting connection is served by another before its patience ends."""


@dataclass(frozen=True, slots=True)
class MemberSnapshot:
    """What there is to see of one session."""

    view: SessionView
    session_id: str | None
    created: float
    """When it came into being, on the loop's clock."""
    terms: Terms | None
    channel: ChannelStatistics


class Member:
    """A session, and what only the pool knows of it."""

    __slots__ = ("gauge", "retiring", "session", "task")

    def __init__(self, session: Session, now: float) -> None:
        self.session = session
        self.task: asyncio.Task[None] | None = None
        self.retiring = False
        self.gauge = Gauge(now)

    def measure(self, now: float) -> None:
        """Look at the session; end it if it will never move again."""
        self.gauge.measure(self.session, now)
        self.session.look_for_hole(now)

    def stuck_for(self, now: float) -> float:
        """Return for how many seconds nothing has moved although the link is up."""
        if self.session.phase is not Phase.READY:
            return 0.0
        silent = self.session.silent_for - SILENT_TIME + STUCK_TIME
        return max(self.gauge.stalled_for(now), silent)

    def is_abandoned(self) -> bool:
        """Whether nothing moves in it, and nobody is left who waits for that."""
        session = self.session
        return (
            session.phase is Phase.READY
            and session.silent_for >= ABANDON_TIME
            and not session.attended
        )

    def is_stale(self, now: float) -> bool:
        """Whether the agent may have an old address of another host (design D9)."""
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
        # What was sent last is to arrive before the session is closed for good.
        return int((self.retiring or session.exhausted) and session.undelivered)

    @property
    def bulk(self) -> bool:
        """Whether it moves much data."""
        return self.gauge.bulk

    @property
    def stalled(self) -> bool:
        """Whether it does not move."""
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
        """Whether it can open no further stream."""
        return self.session.exhausted

    @property
    def traffic(self) -> float:
        """Recent bytes per second."""
        return self.gauge.rate

    def view(self, limit: float | None) -> SessionView:
        """Return what policy may know; ``limit`` is a session's greatest age."""
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

    def snapshot(self, limit: float | None) -> MemberSnapshot:
        """Return what there is to see."""
        session = self.session
        return MemberSnapshot(
            view=self.view(limit),
            session_id=session.session_id,
            created=session.created,
            terms=session.terms,
            channel=session.statistics()[0],
        )


def find_stuck(members: Iterable[Member], limit: int, now: float) -> Member | None:
    """Return whom to replace because the pool is full and none of it moves.

    At most as many as may serve are kept beside them until their streams have ended, so
    that readers who never read cannot have one session after the other.

    Args:
        members: All of the pool.
        limit: How many may serve at a time.
        now: The time, in seconds.
    """
    serving, retiring = [], 0
    for member in members:
        if member.retiring:
            retiring += 1
        else:
            serving.append(member)
    full = len(serving) >= limit > retiring
    if full and all(m.stuck_for(now) >= STUCK_TIME for m in serving):
        return max(serving, key=lambda m: m.stuck_for(now))
    return None
