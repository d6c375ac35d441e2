"""Totals of a tunnel's sessions, which only grow, and the snapshot of its pool.

A session keeps plain numbers of its own while it lives; they are added up for each
snapshot, and once more when the session ends. The data path counts nothing.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from itertools import accumulate
from typing import Final, Protocol

from ssmtunneld.base.record import Record
from ssmtunneld.errors import (
    AccessDenied,
    AgentUnresponsive,
    ChannelClosed,
    CredentialsUnusable,
    HandshakeFailed,
    LinkError,
    RemoteProtocolError,
    RequestRejected,
    ServiceUnavailable,
    SessionGone,
    TargetNotConnected,
    Throttled,
    TrialLost,
    TunnelError,
)
from ssmtunneld.protocol.channel import ChannelStatistics
from ssmtunneld.sessions.pooled_session import PooledSessionSnapshot
from ssmtunneld.smux.mux import MuxStatistics

START_BOUNDS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds: a session takes one to two against the real service."""
OPEN_BOUNDS: Final = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0)
"""Seconds: nothing while a session is ready, ``connect_timeout`` at most."""


class Reason(StrEnum):
    """The reason why a session ended, or could not be started."""

    STOPPED = "stopped"
    """We ended it: surplus, replaced, or the end of the tunnel."""
    CLOSED = "closed"
    """The service or the agent closed its channel."""
    GONE = "gone"
    """It could not be resumed."""
    PROTOCOL = "protocol"
    """The agent and we did not understand each other."""
    LINK = "link"
    """Its data channel could not be reached."""
    THROTTLED = "throttled"
    """The service wants fewer calls, or a quota is used up."""
    UNAVAILABLE = "unavailable"
    """The service failed or could not be reached."""
    TARGET = "target"
    """No agent answers for the target."""
    DENIED = "denied"
    """IAM says no, or a switch of the account."""
    CREDENTIALS = "credentials"
    """There are none, or they have expired."""
    REJECTED = "rejected"
    """The request itself is wrong."""
    TRIAL = "trial"
    """It was lost in a trial of a larger message, before any connection had it."""
    OTHER = "other"


_REASONS: Final[Mapping[type[TunnelError], Reason]] = {
    ChannelClosed: Reason.CLOSED,
    SessionGone: Reason.GONE,
    RemoteProtocolError: Reason.PROTOCOL,
    HandshakeFailed: Reason.PROTOCOL,
    TrialLost: Reason.TRIAL,
    LinkError: Reason.LINK,
    Throttled: Reason.THROTTLED,
    ServiceUnavailable: Reason.UNAVAILABLE,
    AgentUnresponsive: Reason.TARGET,
    TargetNotConnected: Reason.TARGET,
    AccessDenied: Reason.DENIED,
    CredentialsUnusable: Reason.CREDENTIALS,
    RequestRejected: Reason.REJECTED,
}


def reasons_of(family: type[TunnelError]) -> tuple[Reason, ...]:
    """Return the reasons that errors of ``family`` have, each once."""
    found = (r for kind, r in _REASONS.items() if issubclass(kind, family))
    return tuple(dict.fromkeys(found))


def reason_of(error: TunnelError | None) -> Reason:
    """Return the reason for ``error``; ``None`` is an end that we wanted."""
    if error is None:
        return Reason.STOPPED
    known = (_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS)
    return next(known, Reason.OTHER)


class Distribution(Record):
    """A histogram of durations."""

    bounds: tuple[float, ...]
    """Seconds, ascending."""
    counts: tuple[int, ...]
    """Cumulative counts for each bound; the last one counts all."""
    total: float
    """Seconds, all of them together."""


class Histogram:
    """Counts durations in fixed steps."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._total += seconds

    def read(self) -> Distribution:
        """Return what was counted."""
        return Distribution(
            self._bounds, tuple(accumulate(self._counts)), round(self._total, 6)
        )


class CountedSession(Protocol):
    """The part of a session that is counted."""

    @property
    def session_id(self) -> str | None:
        """Set once the service has granted it."""
        ...

    @property
    def took(self) -> float | None:
        """Seconds from its start until it took connections; ``None`` before that."""
        ...

    @property
    def resumes(self) -> int:
        """The number of lost websockets that were replaced."""
        ...

    @property
    def trials_accepted(self) -> int:
        """Trials of larger messages that its agent has acknowledged."""
        ...

    def statistics(self) -> tuple[ChannelStatistics, MuxStatistics | None]:
        """Return snapshots of the channel and of what it carries."""
        ...


class SessionCounts(Record):
    """Counts of the sessions of one tunnel since the start of the daemon."""

    started: int
    """Sessions that the service granted."""
    ended: Mapping[Reason, int]
    """Ended sessions, by reason."""
    failed: Mapping[Reason, int]
    """Failed attempts to start one, by reason."""
    resumed: int
    """Lost websockets that were replaced, with no connection lost."""
    restarted: int
    """Sessions lost after they had been ready, with their connections."""
    retransmitted: int
    """Messages retransmitted."""
    duplicates: int
    """Messages received more than once."""
    size_trials: Mapping[str, int]
    """Trials of larger messages: ``accepted`` ones, and sessions ``lost`` in one."""
    starting: Distribution
    """Seconds from StartSession until a session was ready."""
    opening: Distribution
    """Seconds that local connections waited for a session."""


class SessionCounters:
    """Counts for one tunnel; outlives its pools."""

    def __init__(self) -> None:
        self.opening = Histogram(OPEN_BOUNDS)
        """Told of every connection that got a stream."""
        self._starting = Histogram(START_BOUNDS)
        self._living: dict[CountedSession, bool] = {}
        self._numbered = 0
        self._started = 0
        self._ended: Counter[Reason] = Counter()
        self._failed: Counter[Reason] = Counter()
        self._resumed = self._restarted = 0
        self._retransmitted = self._duplicates = 0
        self._accepted_sizes = 0

    def next_number(self) -> int:
        """Return the number of a session that is about to be started, from 1."""
        self._numbered += 1
        return self._numbered

    def enter(self, session: CountedSession) -> None:
        """Count ``session`` from now on."""
        self._living[session] = False

    def note_ready(self, session: CountedSession) -> None:
        """Note how long the start took; told again, do nothing."""
        if session.took is not None and self._living.get(session) is False:
            self._living[session] = True
            self._starting.observe(session.took)

    def leave(self, session: CountedSession, error: TunnelError | None) -> None:
        """Keep what ``session`` counted; ``error`` ended it, ``None`` if we did."""
        self.note_ready(session)
        was_ready = self._living.pop(session)
        channel, _ = session.statistics()
        self._resumed += session.resumes
        self._retransmitted += channel.retransmitted
        self._duplicates += channel.duplicates
        self._accepted_sizes += session.trials_accepted
        if session.session_id is not None:
            self._started += 1
            self._ended[reason_of(error)] += 1
            self._restarted += was_ready and error is not None
        elif error is not None:
            self._failed[reason_of(error)] += 1

    def read(self) -> SessionCounts:
        """Return the counts of this moment."""
        channels = [session.statistics()[0] for session in self._living]
        granted = sum(session.session_id is not None for session in self._living)
        return SessionCounts(
            started=self._started + granted,
            ended=dict(self._ended),
            failed=dict(self._failed),
            resumed=self._resumed + sum(s.resumes for s in self._living),
            restarted=self._restarted,
            retransmitted=self._retransmitted + sum(c.retransmitted for c in channels),
            duplicates=self._duplicates + sum(c.duplicates for c in channels),
            size_trials={
                "accepted": self._accepted_sizes
                + sum(s.trials_accepted for s in self._living),
                "lost": self._ended[Reason.TRIAL],
            },
            starting=self._starting.read(),
            opening=self.opening.read(),
        )


class PoolSnapshot(Record):
    """A pool at one moment."""

    name: str
    members: tuple[PooledSessionSnapshot, ...]
    waiting: int
    """Local connections that wait for a session."""
    trouble: TunnelError | None
    """The error that kept a session from starting, or ended the last one."""
    retry_in: float | None
    """Seconds until the next attempt to start a session, if that is delayed."""
    warm: int
    """Sessions that the policy keeps without any connection at the moment."""
    counts: SessionCounts
    """Totals of its sessions so far."""
    start_reason: str = ""
    """The reason why the first session that is to start waits; empty for none."""
