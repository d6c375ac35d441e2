"""Which session may be used to ask the destination whether it is alive.

A probe must not be what keeps a session alive.
"""

from collections.abc import Iterable

from ssmtunneld.tunnel.member import Member
from ssmtunneld.tunnel.plan import Phase, SessionView
from ssmtunneld.tunnel.session import Session


def session_for_probe(
    members: Iterable[Member], *, respects_idle: bool
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


def choose_for_probe(
    sessions: Iterable[SessionView], *, respects_idle: bool
) -> int | None:
    """Return the number of the session to ask through, or None; pure.

    Args:
        sessions: Those that carry many connections.
        respects_idle: The service's idle timeout is to end unused sessions, and it
            cannot tell a probe from use. So only a session that connections are moving
            data in at this very moment is taken: its timeout starts anew anyway.
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
