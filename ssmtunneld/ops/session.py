"""What there is to say about one session: a part of the status document."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ssmtunneld.tunnel.member import MemberSnapshot
from ssmtunneld.tunnel.plan import Phase

_PHASES: Final[Mapping[Phase, Literal["starting", "ready", "resuming"]]] = {
    Phase.STARTING: "starting",
    Phase.READY: "ready",
    Phase.RESUMING: "resuming",
}


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One session."""

    number: int
    """Counted from 1 within its mapping, since the daemon's start."""
    session_id: str | None
    """The service's name of it, once it has one."""
    phase: Literal["starting", "ready", "resuming"]
    """Where it stands."""
    retiring: bool
    """It takes no new connections and ends after its last one."""
    age: float
    """Seconds since its start."""
    streams: int
    """Connections that it carries."""
    rate: float
    """Bytes per second, both ways, lately."""
    stalled: bool
    """Nothing moves although something should."""
    agent: str | None
    """The agent's version, once it is known."""
    mode: Literal["mux", "basic"] | None
    """Whether it carries many connections or one, once that is known."""
    rtt: float | None
    """The smoothed round-trip time to the agent, in seconds."""
    unacknowledged: int
    """Messages that wait for an acknowledgement."""
    unacknowledged_bytes: int
    """Bytes of them."""
    window: int
    """Messages that may wait at a time."""
    paused: bool
    """The agent has asked to pause publication."""
    retransmitted: int
    """Messages sent again."""
    duplicates: int
    """Messages that arrived again."""


def session_status(member: MemberSnapshot, now: float) -> SessionStatus:
    """Return how a session is at ``now``, on the loop's clock."""
    view, channel = member.view, member.channel
    terms = member.terms
    return SessionStatus(
        number=view.number,
        session_id=member.session_id,
        phase=_PHASES[view.phase],
        retiring=view.retiring,
        age=round(now - member.created, 1),
        streams=view.streams,
        rate=round(view.traffic),
        stalled=view.stalled,
        agent=terms.agent_version if terms else None,
        mode=None if terms is None else "mux" if terms.mux else "basic",
        rtt=channel.rtt,
        unacknowledged=channel.unacked,
        unacknowledged_bytes=channel.unacked_bytes,
        window=channel.window,
        paused=channel.paused,
        retransmitted=channel.retransmitted,
        duplicates=channel.duplicates,
    )
