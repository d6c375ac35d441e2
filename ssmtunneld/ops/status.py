"""What there is to say about a running daemon: one frozen document (design D16).

``version`` of the document changes when a key changes its meaning or goes away; new
keys may come at any time. Times are in seconds, sizes in bytes.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from ssmtunneld.errors import Recovery
from ssmtunneld.listener.server import Server
from ssmtunneld.tunnel.member import MemberSnapshot
from ssmtunneld.tunnel.plan import Phase
from ssmtunneld.tunnel.pool import PoolSnapshot
from ssmtunneld.version import __version__

DOCUMENT_VERSION: Final = 1


class MappingState(StrEnum):
    """How a mapping is, in one word."""

    READY = "ready"
    """A session takes connections."""
    IDLE = "idle"
    """No session, and none is wanted before a connection comes."""
    STARTING = "starting"
    """The first session is on its way."""
    RESUMING = "resuming"
    """Its sessions have lost their websockets and are getting new ones."""
    RETRYING = "retrying"
    """No session could be started; another attempt follows by itself."""
    WAITING = "waiting"
    """Somebody must do something elsewhere: see ``advice``."""
    FAILED = "failed"
    """The mapping's settings are refused: see ``advice``."""
    UNBOUND = "unbound"
    """A local address is taken."""


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One session."""

    number: int
    session_id: str | None
    phase: str
    retiring: bool
    age: float
    streams: int
    rate: float
    """Bytes per second, both ways, lately."""
    stalled: bool
    agent: str | None
    mode: str | None
    rtt: float | None
    unacknowledged: int
    window: int
    retransmitted: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class MappingStatus:
    """One mapping."""

    name: str
    state: MappingState
    reason: str
    """Why it is not ready; empty if it is."""
    advice: str
    """What to do about it; empty if nothing is to be done."""
    listen: tuple[str, ...]
    target: str
    destination: str
    required: bool
    connections: int
    waiting: int
    """Connections that wait for a session."""
    accepted: int
    refused: int
    rejected: int
    sent: int
    received: int
    retry_in: float | None
    sessions: tuple[SessionStatus, ...]


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The whole daemon."""

    version: int
    program: str
    pid: int
    config: str
    uptime: float
    mappings: tuple[MappingStatus, ...]

    def as_document(self) -> dict[str, Any]:
        """Return what ``status --json`` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a mapping's status is made from."""

    name: str
    target: str
    destination: str
    required: bool
    warm: int
    pool: PoolSnapshot
    server: Server


def mapping_status(subject: Subject, now: float) -> MappingStatus:
    """Return how a mapping is at ``now``, on the loop's clock."""
    pool, server = subject.pool, subject.server
    state = _state(subject)
    counts = server.statistics()
    silent = state in {MappingState.READY, MappingState.IDLE}
    trouble = None if silent else pool.trouble
    return MappingStatus(
        name=subject.name,
        state=state,
        reason=str(trouble) if trouble else "",
        advice=trouble.advice if trouble else "",
        listen=server.bound,
        target=subject.target,
        destination=subject.destination,
        required=subject.required,
        connections=counts.active,
        waiting=pool.waiting,
        accepted=counts.accepted,
        refused=counts.refused,
        rejected=counts.rejected,
        sent=counts.sent,
        received=counts.received,
        retry_in=pool.retry_in,
        sessions=tuple(_session_status(m, now) for m in pool.members),
    )


def _state(subject: Subject) -> MappingState:
    if not subject.server.bound:
        return MappingState.UNBOUND
    phases = {member.view.phase for member in subject.pool.members}
    if Phase.READY in phases:
        return MappingState.READY
    if Phase.RESUMING in phases:
        return MappingState.RESUMING
    trouble = subject.pool.trouble
    if trouble is None:
        wanted = phases or subject.warm or subject.pool.waiting
        return MappingState.STARTING if wanted else MappingState.IDLE
    match trouble.recovery:
        case Recovery.STOP:
            return MappingState.FAILED
        case Recovery.WAIT:
            return MappingState.WAITING
        case Recovery.RESTART | Recovery.RESUME:
            return MappingState.RETRYING


def _session_status(member: MemberSnapshot, now: float) -> SessionStatus:
    view, channel = member.view, member.channel
    terms = member.terms
    return SessionStatus(
        number=view.number,
        session_id=member.session_id,
        phase=view.phase.name.lower(),
        retiring=view.retiring,
        age=round(now - member.created, 1),
        streams=view.streams,
        rate=round(view.traffic),
        stalled=view.stalled,
        agent=terms.agent_version if terms else None,
        mode=None if terms is None else "mux" if terms.mux else "basic",
        rtt=channel.rtt,
        unacknowledged=channel.unacked,
        window=channel.window,
        retransmitted=channel.retransmitted,
        duplicates=channel.duplicates,
    )


def daemon_status(
    *, pid: int, config: str, uptime: float, mappings: tuple[MappingStatus, ...]
) -> DaemonStatus:
    """Return the whole document."""
    return DaemonStatus(
        version=DOCUMENT_VERSION,
        program=__version__,
        pid=pid,
        config=config,
        uptime=round(uptime, 1),
        mappings=mappings,
    )
