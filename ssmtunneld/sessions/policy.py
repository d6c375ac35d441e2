"""All choices of a pool: sessions to start, retire and close, and the next stream's.

Pure: from a view of the sessions and the time to a list of actions (design D5, D6). The
pool carries them out, and asks again when something has changed or at ``next_change``.
The choice of a probe's session, the patience of a connection that waits for a better
session, and the session to replace in a stuck pool are here, too.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from enum import Enum, auto
from functools import lru_cache
from typing import Final, Protocol, TypeAlias, TypeVar

from ssmtunneld.base.record import Record
from ssmtunneld.config.model import STREAMS_PER_SESSION


class Phase(Enum):
    """The phase of a session, as far as policy distinguishes."""

    STARTING = auto()
    """Asked for, or on its way through the handshake."""
    READY = auto()
    """Takes streams."""
    RESUMING = auto()
    """Was ready; its websocket is lost and being replaced."""


class Policy(Record):
    """The configured policy of one pool. Times are in seconds."""

    warm: int = 1
    """Sessions that are kept ready without any connection."""
    max_sessions: int = 4
    """Sessions that take new streams at a time. One that is being replaced because it
    ends soon, or only finishes its streams, comes on top."""
    streams_per_session: int = STREAMS_PER_SESSION
    """Streams above which a session takes another only if no session can be added."""
    spare: bool = True
    """Keep another session ready while there are connections: one without any, so that
    the next connection shares with none; with ``warm = 0``, one that is not loaded."""
    idle_close: float = 300.0
    """Time after which a session beyond ``warm`` without a stream is closed."""
    expiry_margin: float = 120.0
    """Time before its end at which a session is replaced."""
    resume_patience: float = 5.0
    """Time to resume, after which another session takes its place."""


BASIC_IDLE: Final = 60.0
"""Seconds that an unused basic session is kept: its connection to the destination
stands since its start, and what the destination said meanwhile grows stale."""


# For every local connection, and it hardly ever changes.
@lru_cache(maxsize=512)
def adapted(
    policy: Policy,
    *,
    limit: float | None,
    basic: bool,
    dormant: bool,
    expected: int = 0,
) -> Policy:
    """Return ``policy``, adapted to what is known of the sessions.

    Args:
        policy: The configured policy.
        limit: A session's greatest age in seconds, if it is known.
        basic: They carry one connection each.
        dormant: The last one idled out, and no connection has come since.
        expected: Sessions that the connections of the next moments are likely to need,
            besides those in use; of interest where each needs its own.
    """
    if limit is not None:
        # A session with a short life must not be due for replacement all the time.
        margin = min(policy.expiry_margin, limit / 4)
        policy = replace(policy, expiry_margin=margin)
    if basic:
        policy = replace(
            policy,
            warm=min(expected, policy.max_sessions),
            spare=False,
            streams_per_session=1,
            idle_close=min(policy.idle_close, BASIC_IDLE),
        )
    if expected and _parts(policy):
        warm = max(policy.warm, min(expected, policy.max_sessions))
        policy = replace(policy, warm=warm)
    return replace(policy, warm=0) if dormant else policy


class Candidate(Protocol):
    """The part of a :class:`SessionView` that decides about a connection.

    A protocol, because the pool's members themselves are looked at for every local
    connection: making views of them takes longer than choosing.
    """

    @property
    def number(self) -> int:
        """Its number within the pool."""
        ...

    @property
    def phase(self) -> Phase:
        """Its phase."""
        ...

    @property
    def streams(self) -> int:
        """The number of its streams."""
        ...

    @property
    def bulk(self) -> bool:
        """True if the session moves much data."""
        ...

    @property
    def stalled(self) -> bool:
        """True if nothing moves although something should."""
        ...

    @property
    def exhausted(self) -> bool:
        """True if no further stream can be opened."""
        ...

    @property
    def retiring(self) -> bool:
        """True if the session takes no new streams."""
        ...

    @property
    def traffic(self) -> float:
        """Recent bytes per second."""
        ...


class SessionView(Record):
    """The facts about one session that policy uses."""

    number: int
    phase: Phase
    since: float
    """The time at which it entered this phase."""
    streams: int = 0
    bulk: bool = False
    """It moves much data: a new stream would share its limited rate."""
    stalled: bool = False
    """It does not move: a slow reader, an agent that does not answer."""
    exhausted: bool = False
    """It can open no further stream."""
    retiring: bool = False
    """It takes no new streams and is closed when the last one has ended."""
    idle_since: float = 0.0
    """Since when it has had no stream; only meaningful while ``streams`` is 0."""
    expires_at: float | None = None
    """The time at which the service, or the configuration, ends the session."""
    traffic: float = 0.0
    """Recent bytes per second, to choose between equals."""


class Start(Record):
    """Start one more session."""


class Retire(Record):
    """Give the session no new streams."""

    number: int


class Close(Record):
    """End the session; it has no streams."""

    number: int


Action: TypeAlias = Start | Retire | Close


def plan(
    sessions: Sequence[SessionView], policy: Policy, *, waiting: int, now: float
) -> list[Action]:
    """Return what brings ``sessions`` closer to the policy.

    Args:
        sessions: All that are not over.
        policy: The policy.
        waiting: Local connections that wait for a session.
        now: The time, on the clock of the views.
    """
    over = [s for s in sessions if (s.retiring or s.exhausted) and not s.streams]
    actions: list[Action] = [Close(s.number) for s in over]
    serving = [s for s in sessions if not s.retiring and s not in over]
    lasting = [s for s in serving if not _expiring(s, policy, now)]
    actions.extend(_replacements(serving, lasting, policy, now))
    demand = waiting > 0 or any(s.streams for s in serving)
    surplus = [] if waiting else _surplus(lasting, policy, now, demand=demand)
    actions.extend(Close(s.number) for s in surplus)
    kept = [s for s in lasting if s not in surplus]
    wanted = _wanted(kept, policy, waiting, now, demand=demand)
    actions.extend(Start() for _ in range(wanted - len(kept)))
    return actions


def _expiring(session: SessionView, policy: Policy, now: float) -> bool:
    # One that is still on its way is not replaced: the next would be no sooner.
    return (
        session.expires_at is not None
        and session.phase is not Phase.STARTING
        and now >= session.expires_at - policy.expiry_margin
    )


def _replacements(
    serving: Sequence[SessionView],
    lasting: Sequence[SessionView],
    policy: Policy,
    now: float,
) -> list[Action]:
    """Retire what ends soon, once other sessions are ready (make before break)."""
    ready = sum(s.phase is Phase.READY for s in lasting)
    needed = policy.warm > 0 or any(s.streams for s in serving)
    if needed and not ready:
        return []
    ending = sorted(
        (s for s in serving if _expiring(s, policy, now)),
        key=lambda s: s.expires_at or 0.0,
    )
    # Those that were started together end together: not all at once.
    kept = max(0, policy.warm - ready)
    return [Retire(s.number) for s in ending[: max(0, len(ending) - kept)]]


def _surplus(
    lasting: Sequence[SessionView], policy: Policy, now: float, *, demand: bool
) -> list[SessionView]:
    """Return the sessions beyond ``warm`` that have been unused for long."""
    idle = [
        s
        for s in lasting
        if s.phase is Phase.READY
        and not s.streams
        and now >= s.idle_since + policy.idle_close
    ]
    # What is in use and cannot take more does not count as warm; _wanted agrees.
    unusable = sum(not _usable(s, policy, now) for s in lasting if s not in idle)
    beyond = len(lasting) - policy.warm - unusable
    free = _count_free(lasting, policy, now)
    if demand and policy.spare and _count_free(idle, policy, now) == free:
        # The last spare one would be started again at once.
        beyond = min(beyond, len(idle) - 1)
    elif policy.spare and policy.warm and _was_used(lasting, idle, policy, now):
        # It would be started again for the next connection, which could be soon.
        beyond = min(beyond, len(lasting) - unusable - policy.warm - 1)
    idle.sort(key=lambda s: (_usable(s, policy, now), s.idle_since))
    return idle[: max(0, beyond)]


def _was_used(
    lasting: Sequence[SessionView],
    idle: Sequence[SessionView],
    policy: Policy,
    now: float,
) -> bool:
    """Return True if a session without a stream had one not long ago."""
    return any(
        s.phase is Phase.READY and _usable(s, policy, now) and s not in idle
        for s in lasting
    )


def _wanted(
    kept: Sequence[SessionView],
    policy: Policy,
    waiting: int,
    now: float,
    *,
    demand: bool,
) -> int:
    """Return how many lasting sessions there should be."""
    unusable = sum(not _usable(s, policy, now) for s in kept)
    wanted = policy.warm + unusable
    if demand and policy.spare and not _count_free(kept, policy, now):
        wanted = max(wanted, len(kept) + 1)
    if _parts(policy) and any(s.phase is Phase.READY for s in kept):
        # Each of those that come at once gets one of its own, if it is soon enough.
        wanted = max(wanted, len(kept) + waiting - _count_free(kept, policy, now))
    waiting -= _room(kept, policy, now)
    if waiting > 0 and not any(
        s.phase is Phase.RESUMING and _usable(s, policy, now) for s in kept
    ):
        starting = sum(s.phase is Phase.STARTING for s in kept)
        for_waiting = -(-waiting // policy.streams_per_session)
        wanted = max(wanted, len(kept) - starting + for_waiting)
    return min(wanted, policy.max_sessions)


def _room(kept: Iterable[SessionView], policy: Policy, now: float) -> int:
    """Count the waiting connections for which there is room already."""
    return sum(
        max(0, policy.streams_per_session - s.streams)
        for s in kept
        if s.phase is Phase.READY and _usable(s, policy, now)
    )


def _usable(session: SessionView, policy: Policy, now: float) -> bool:
    if session.phase is Phase.RESUMING:
        return now < session.since + policy.resume_patience
    return not session.stalled and not session.exhausted


def _count_free(sessions: Iterable[SessionView], policy: Policy, now: float) -> int:
    """Count the sessions that are a spare for the next connection, now or soon."""
    return sum(_usable(s, policy, now) and _spare(s, policy) for s in sessions)


def _spare(session: SessionView, policy: Policy) -> bool:
    if not session.streams:
        # Its recent traffic does not count: no connection is left.
        return True
    # Connections on one session cannot be separated again: the keystrokes of one wait
    # behind the download that came to it later. But a policy with ``warm = 0`` gets
    # another session only when one is loaded.
    half = max(1, policy.streams_per_session // 2)
    return not policy.warm and not session.bulk and session.streams < half


def choose(
    sessions: Iterable[Candidate], policy: Policy, *, may_wait: bool
) -> int | None:
    """Return the number of the session that takes the next stream (design D6).

    The ready one with the fewest streams, then the least traffic. One that is full,
    stalled or carries bulk data is a last resort: with ``may_wait``, for as long as
    another can still come, a full one is not taken.
    """
    ready = [
        s
        for s in sessions
        if s.phase is Phase.READY and not s.retiring and not s.exhausted
    ]
    # What a session moved before it was left does not matter any more.
    ready.sort(key=lambda s: (s.bulk and s.streams > 0, s.streams, s.traffic, s.number))
    # Best first: to find out whether one is stalled takes longer than all the rest.
    for each in ready:
        if each.streams < policy.streams_per_session and not each.stalled:
            return each.number
    if may_wait or not ready:
        return None
    return next((s.number for s in ready if not s.stalled), ready[0].number)


def next_change(
    sessions: Iterable[SessionView], policy: Policy, now: float
) -> float | None:
    """Return the next time at which ``plan`` could change by the clock alone."""
    times: list[float] = []
    for session in sessions:
        if session.retiring:
            continue
        if session.expires_at is not None:
            times.append(session.expires_at - policy.expiry_margin)
        if session.phase is Phase.RESUMING:
            times.append(session.since + policy.resume_patience)
        elif session.phase is Phase.READY and not session.streams:
            times.append(session.idle_since + policy.idle_close)
    return min((t for t in times if t > now), default=None)


GROWTH_PATIENCE: Final = 3.0
"""Seconds that a connection waits for a session with room, if one can come, before it
shares a full one. Starting a session takes one to two seconds."""
STALL_PATIENCE: Final = 10.0
"""Seconds that it waits if none of those that there are moves: within that time this is
found out, one is replaced (``STUCK_TIME``) and another one started."""


def may_wait(sessions: Collection[Candidate], limit: int, waited: float) -> bool:
    """Return True if a connection should wait on, rather than take what there is.

    Args:
        sessions: All of them.
        limit: The greatest number of serving sessions.
        waited: Seconds that it has waited.
    """
    if all(each.stalled for each in sessions if each.phase is Phase.READY):
        return waited < STALL_PATIENCE
    growing = sum(not each.retiring for each in sessions) < limit or any(
        each.phase is Phase.STARTING for each in sessions
    )
    return growing and waited < GROWTH_PATIENCE


BURST_PATIENCE: Final = 0.3
"""Seconds that a connection waits for a session of its own, if one can come, before it
shares one: it has sent nothing yet, so nothing of it is late."""


def awaits_own(
    sessions: Collection[Candidate], policy: Policy, chosen: int, waited: float
) -> bool:
    """Say whether a connection waits for a session of its own; pure.

    Args:
        sessions: All of them.
        policy: How many may serve, and whether they are kept apart.
        chosen: The number of the best that there is.
        waited: Seconds that it has waited.
    """
    if waited >= BURST_PATIENCE or not _parts(policy):
        return False
    if not any(each.number == chosen and each.streams for each in sessions):
        return False
    serving = [each for each in sessions if not each.retiring]
    starting = any(each.phase is Phase.STARTING for each in serving)
    return starting or len(serving) < policy.max_sessions


def _parts(policy: Policy) -> bool:
    """Say whether connections are to have sessions of their own, if that is easy."""
    return policy.spare and policy.warm > 0


def choose_for_probe(
    sessions: Iterable[SessionView], *, respects_idle: bool
) -> int | None:
    """Return the number of the session to ask through, or None; pure.

    Args:
        sessions: Those that carry many connections.
        respects_idle: The service's idle timeout is to end unused sessions, and it
            cannot tell a probe from use. So only a session that connections are moving
            data in at this very moment is taken: its timeout starts again anyway.
    """
    candidates = [
        s
        for s in sessions
        if s.phase is Phase.READY
        and not (s.retiring or s.exhausted or s.stalled)
        and not (respects_idle and not (s.streams and s.traffic))
    ]
    best = min(candidates, key=lambda s: (s.bulk, s.streams, s.number), default=None)
    return None if best is None else best.number


STUCK_TIME: Final = 5.0
"""Seconds for which no session of a full pool has moved before one is replaced."""


class Watched(Protocol):
    """The part of a pooled session that :func:`find_stuck` looks at."""

    @property
    def retiring(self) -> bool:
        """True if the session takes no new streams."""
        ...

    def stuck_for(self, now: float) -> float:
        """Return for how many seconds nothing has moved although the link is up."""
        ...


_W = TypeVar("_W", bound=Watched)


def find_stuck(sessions: Iterable[_W], limit: int, now: float) -> _W | None:
    """Return the session to replace because the pool is full and no session moves.

    At most ``limit`` retiring sessions are kept until their streams have ended, so that
    readers who never read cannot have one session after the other.

    Args:
        sessions: All of the pool.
        limit: The greatest number of serving sessions.
        now: The time, in seconds.
    """
    serving, retiring = [], 0
    for session in sessions:
        if session.retiring:
            retiring += 1
        else:
            serving.append(session)
    full = len(serving) >= limit > retiring
    if full and all(s.stuck_for(now) >= STUCK_TIME for s in serving):
        return max(serving, key=lambda s: s.stuck_for(now))
    return None
