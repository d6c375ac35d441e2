"""What a pool can expect of its sessions, and what it tells of itself."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from ssmtunneld.errors import NoSessionReady, TunnelError
from ssmtunneld.sessions.counters import SessionCounts
from ssmtunneld.sessions.policy import Phase, Policy
from ssmtunneld.sessions.pooled_session import PooledSession, PooledSessionSnapshot

BASIC_IDLE: Final = 60.0
"""Seconds that an unused basic session is kept: its connection to the destination
stands since its start, and what the destination said meanwhile grows stale."""


class PoolRetired(NoSessionReady):
    """The pool gives no more streams: another one has taken its place."""


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """What there is to see of a pool."""

    name: str
    members: tuple[PooledSessionSnapshot, ...]
    waiting: int
    """Local connections that wait for a session."""
    trouble: TunnelError | None
    """Why no session could be started, or the last one ended."""
    retry_in: float | None
    """Seconds until a session is started again, if that is being delayed."""
    warm: int
    """Sessions that are wanted without any connection, as things are."""
    counts: SessionCounts
    """What became of its sessions so far."""
    start_reason: str = ""
    """Why the first of those that wait for their start does so; empty if none does."""


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
        policy: What the configuration wants.
        limit: A session's greatest age in seconds, if it is known.
        basic: They carry one connection each.
        dormant: The last one idled out, and nobody has asked for another.
        expected: Sessions that the connections of the next moments are likely to need,
            besides those in use; of interest where each needs its own.
    """
    if limit is not None:
        # One that may not grow old must not be due for replacement all its life.
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
    return replace(policy, warm=0) if dormant else policy


def no_session(
    waited: float, trouble: TunnelError | None, *, in_use: bool, start_reason: str = ""
) -> NoSessionReady:
    """Return the error of a connection that got no session.

    Args:
        waited: Seconds.
        trouble: What stands in the way of a session, if anything.
        in_use: There are sessions, but none with room.
        start_reason: Why the next one is not started yet.
    """
    if trouble is not None:
        why = str(trouble)
    elif in_use:
        why = "all sessions are busy and max_sessions is reached"
    elif start_reason:
        why = f"it waits to be started, {start_reason}"
    else:
        why = "it is still being started"
    error = NoSessionReady(f"no session within {waited:g} s: {why}")
    if trouble is not None:
        error.advice = trouble.advice
    elif in_use:
        error.advice = "raise max_sessions of the tunnel, or close connections"
    else:
        error.advice = "try again in a moment, or raise connect_timeout of the tunnel"
    return error


def find_trouble(
    members: Iterable[PooledSession], last: TunnelError | None
) -> TunnelError | None:
    """Return what stands in the way of a session; ``None`` while one is ready.

    Args:
        members: The pool's.
        last: Why the last one ended, or could not be started.
    """
    sessions = [member.session for member in members]
    if any(session.phase is Phase.READY for session in sessions):
        return None
    return next(filter(None, [last, *(s.trouble for s in sessions)]), None)


def first_start_reason(members: Iterable[PooledSession]) -> str:
    """Return why the first session that waits for its start does so; empty for none."""
    return next((m.session.start_reason for m in members if m.session.queued), "")


def busiest_rtt(members: Iterable[PooledSession]) -> float | None:
    """Return the round-trip time of the busiest session, in seconds."""
    # The others' may be from long ago.
    found = [(m.gauge.rate, m.session.statistics()[0].rtt) for m in members]
    return max((f for f in found if f[1] is not None), default=(0.0, None))[1]
