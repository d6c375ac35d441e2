"""A session, and what only its pool knows of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssmtunneld.protocol.channel import ChannelStatistics
from ssmtunneld.protocol.handshake import Terms
from ssmtunneld.tunnel.gauge import Gauge
from ssmtunneld.tunnel.plan import SessionView
from ssmtunneld.tunnel.session import Session

if TYPE_CHECKING:
    import asyncio


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

    def view(self, limit: float | None) -> SessionView:
        """Return what policy may know; ``limit`` is a session's greatest age."""
        session, gauge = self.session, self.gauge
        return SessionView(
            number=session.number,
            phase=session.phase,
            since=session.since,
            streams=session.streams,
            bulk=gauge.bulk,
            # The gauge looks once a second; a reader that stops does so at once.
            stalled=gauge.stalled or session.reading_stopped,
            exhausted=session.exhausted,
            retiring=self.retiring,
            idle_since=max(gauge.idle_since, session.since),
            expires_at=None if limit is None else session.created + limit,
            traffic=gauge.rate,
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
