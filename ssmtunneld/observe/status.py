"""The status document: how a running daemon is, frozen at one moment (design D16).

Made from snapshots, and from nothing else. What a tunnel's state is, whether it is
usable, and why it is not ready, is decided here for everybody: the CLI, the page, the
metrics and the health answers.

``version`` of the document changes when a key changes its meaning or goes away; new
keys may come at any time. Times are in seconds, sizes in bytes. The docstrings of the
fields are also the descriptions in the document's JSON schema (``status_schema.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum, StrEnum
from typing import Any, Final, Literal, TypeVar

from ssmtunneld.base.compartment import DefectStatus
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.redaction import redact
from ssmtunneld.config import TunnelSettings
from ssmtunneld.errors import Recovery, TunnelError, Unforeseen
from ssmtunneld.listener.counters import Refusal
from ssmtunneld.listener.server import Server
from ssmtunneld.observe.probe import ProbeStatus
from ssmtunneld.sessions.counters import PoolSnapshot, SessionCounters, SessionCounts
from ssmtunneld.sessions.policy import Phase
from ssmtunneld.sessions.pooled_session import PooledSessionSnapshot
from ssmtunneld.version import __version__


@dataclass(frozen=True, slots=True)
class IdentityStatus:
    """Who tunnels are towards AWS, and how long that lasts."""

    name: str
    """Profile and role, such as prod/Bastion; not unique."""
    tunnels: tuple[str, ...]
    """The names of the tunnels that act as it."""
    expires_at: float | None
    """When its keys end, in Unix seconds, if that is known; most renew themselves."""
    login_ends_at: float | None
    """When a human must log in again, in Unix seconds, if that is known."""
    advice: str
    """What to do then; empty if that is not known."""
    renewed: int
    """Times that other keys than before were got, the first ones included."""
    failed: int
    """Attempts to get keys that failed."""


_PHASES: Final[Mapping[Phase, Literal["starting", "ready", "resuming"]]] = {
    Phase.STARTING: "starting",
    Phase.READY: "ready",
    Phase.RESUMING: "resuming",
}


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One session."""

    number: int
    """Counted from 1 within its tunnel, since the daemon's start."""
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
    """The smoothed round-trip time to the agent, in seconds; null when nothing has
    moved for half a minute."""
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


def session_status(member: PooledSessionSnapshot, now: float) -> SessionStatus:
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
        rtt=member.rtt,
        unacknowledged=channel.unacked,
        unacknowledged_bytes=channel.unacked_bytes,
        window=channel.window,
        paused=channel.paused,
        retransmitted=channel.retransmitted,
        duplicates=channel.duplicates,
    )


DOCUMENT_VERSION: Final = 1
REASON_LIMIT: Final = 1000
"""Characters of a tunnel's reason, and of its advice."""
RESUME_GRACE: Final = 10.0
"""Seconds for which a tunnel without a ready session counts as usable while it resumes
one: connections go on meanwhile, and new ones wait up to ``connect_timeout``. A service
that replaces websockets must not make readiness flap; the pool starts another session
after five seconds, which takes one or two."""

_Kind = TypeVar("_Kind", bound=Enum)
# Compartments of a tunnel without which no new connection is served.
_VITAL: Final = frozenset({"tunnel", "listener", "sessions", "pool"})


class TunnelState(StrEnum):
    """How a tunnel is, in one word."""

    READY = "ready"
    """A session takes connections."""
    UNHEALTHY = "unhealthy"
    """A session takes connections, but the destination failed its probe."""
    IDLE = "idle"
    """No session, and none is wanted before a connection comes."""
    STARTING = "starting"
    """The first session is on its way."""
    RESUMING = "resuming"
    """Its sessions have lost their websockets and are getting new ones."""
    RETRYING = "retrying"
    """No session could be started; another attempt follows by itself."""
    NEEDS_LOGIN = "needs_login"
    """A human must log in: ``advice`` has the command. What is open goes on."""
    WAITING = "waiting"
    """Somebody must do something elsewhere: see ``advice``."""
    FAILED = "failed"
    """The tunnel's settings are refused: see ``advice``."""
    UNBOUND = "unbound"
    """A local address cannot be had."""
    PAUSED = "paused"
    """An operator wants no connections."""


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """A destination that clients of a tunnel have named, and that is in use."""

    name: str
    """Host and port, as the client spelled them."""
    accepted: int
    """Connections that asked for it since its first one."""
    connections: int
    """Connections to it now."""
    waiting: int
    """Connections that wait for a session."""
    sessions: int
    """Its sessions."""
    reason: str
    """Why it has none, and what to do about it; empty if nothing is in the way."""


@dataclass(frozen=True, slots=True)
class RefusalStatus:
    """The latest connection that did not get its destination."""

    reason: str
    """Why not; empty if that is not known."""
    advice: str
    """What to do about it; empty if nothing is to be done."""
    age: float
    """Seconds since then."""


@dataclass(frozen=True, slots=True)
class TunnelStatus:
    """One tunnel."""

    name: str
    """The tunnel's name."""
    state: TunnelState
    """How it is, in one word."""
    usable: bool
    """Whether a connection made now may expect to be served: what readiness asks."""
    reason: str
    """Why it is not ready; empty if it is."""
    advice: str
    """What to do about it; empty if nothing is to be done."""
    listen: tuple[str, ...]
    """The local addresses, with their real ports; empty while none could be bound."""
    target: str
    """Where the agent runs."""
    destination: str
    """Host and port as the target reaches them."""
    required: bool
    """Whether the daemon counts as ready only when this tunnel is usable."""
    connections: int
    """Local connections now."""
    max_connections: int
    """How many there may be."""
    waiting: int
    """Connections that wait for a session."""
    queued: int
    """Connections that wait to be accepted, because ``max_connections`` are open."""
    accepted: int
    """Connections since the daemon's start."""
    refused: int
    """Of these, those that got no destination."""
    rejected: int
    """Connections that were reset at once: their client may not connect."""
    saturated: int
    """How often ``max_connections`` made others wait."""
    sent: int
    """Bytes from local clients."""
    received: int
    """Bytes to local clients."""
    rtt: float | None
    """The round-trip time of its busiest session, in seconds."""
    retry_in: float | None
    """Seconds until another session is tried, if that is being delayed."""
    endings: Mapping[str, int]
    """How finished connections ended."""
    failures: Mapping[str, int]
    """Why the refused ones were."""
    rejections: Mapping[str, int]
    """Which rule the rejected ones broke."""
    probe: ProbeStatus | None
    """What its probe has found out; null without one."""
    counts: SessionCounts
    """What became of its sessions since the daemon's start."""
    sessions: tuple[SessionStatus, ...]
    """The sessions of this moment."""
    mode: Literal["tcp", "socks5", "http-connect"]
    """Whether clients name the destination, and how."""
    destinations: tuple[DestinationStatus, ...]
    """Where clients name it: those in use, the most recent one last."""
    defects: tuple[DefectStatus, ...]
    """Its parts in which something was raised that nobody foresaw."""
    last_refusal: RefusalStatus | None = None
    """The latest connection that got no destination; null if there was none."""


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The whole daemon."""

    version: int
    """Of this document."""
    program: str
    """The daemon's version."""
    pid: int
    """Its process."""
    config: str
    """Its configuration file."""
    uptime: float
    """Seconds since its start."""
    draining: bool
    """Whether it is on its way to its end, and accepts nothing new."""
    tunnels: tuple[TunnelStatus, ...]
    """In the order of the file."""
    identities: tuple[IdentityStatus, ...]
    """Who they are towards AWS."""
    defects: tuple[DefectStatus, ...]
    """The daemon's own services in which something was raised that nobody foresaw."""

    @property
    def ready(self) -> bool:
        """Whether every tunnel that is required is usable."""
        return not self.draining and all(m.usable for m in self.tunnels if m.required)

    def as_document(self) -> dict[str, Any]:
        """Return what ``status --json`` prints, without any secret."""
        document = _as_document(self)
        assert isinstance(document, dict), "of a dataclass"
        return document


_NAMES: Final[dict[type[Any], tuple[str, ...]]] = {}


def _names_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of the fields of dataclass ``kind``; none for another type."""
    names = _NAMES.get(kind)
    if names is None:
        found = fields(kind) if is_dataclass(kind) else ()
        names = _NAMES[kind] = tuple(field.name for field in found)
    return names


def _as_document(value: object) -> object:
    """Return ``value`` as ``dataclasses.asdict`` does, with every text redacted.

    That one copies each number deeply, which takes longer than to look at each text.
    """
    if type(value) is str:
        return redact(value)
    if names := _names_of(type(value)):
        return {name: _as_document(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return tuple(_as_document(item) for item in value)
    if isinstance(value, dict):
        return {key: _as_document(item) for key, item in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class StatusInputs:
    """What a tunnel's status is made from."""

    name: str
    target: str
    destination: str
    required: bool
    pool: PoolSnapshot
    server: Server
    unbound: Exception | None = None
    """Why an address cannot be had."""
    paused: bool = False
    """Whether an operator wants no connections."""
    probe: ProbeStatus | None = None
    """What its probe has found out."""
    login: TunnelError | None = None
    """Why nobody can act as its identity."""
    mode: Literal["tcp", "socks5", "http-connect"] = "tcp"
    """Whether clients name the destination."""
    destinations: tuple[DestinationStatus, ...] = ()
    """Those that they have named."""
    defects: tuple[DefectStatus, ...] = ()
    """Its parts that broke."""

    @property
    def broken(self) -> DefectStatus | None:
        """The part that no connection can do without and that waits for its restart."""
        return next(
            (
                defect
                for defect in self.defects
                if defect.restart_in is not None and defect.compartment in _VITAL
            ),
            None,
        )


def tunnel_status(subject: StatusInputs, now: float) -> TunnelStatus:
    """Return how a tunnel is at ``now``, on the loop's clock."""
    pool, server = subject.pool, subject.server
    state = _state(subject)
    counts = server.statistics()
    reason, advice = _why(subject, state)
    return TunnelStatus(
        name=subject.name,
        state=state,
        usable=_is_usable(state, pool, now),
        reason=_presentable(reason),
        advice=_presentable(advice),
        listen=server.bound,
        target=subject.target,
        destination=subject.destination,
        required=subject.required,
        connections=counts.active,
        max_connections=server.settings.max_connections,
        waiting=pool.waiting,
        queued=server.queued,
        accepted=counts.accepted,
        refused=counts.refused,
        rejected=counts.rejected,
        saturated=counts.saturated,
        sent=counts.sent,
        received=counts.received,
        rtt=_rtt(pool),
        retry_in=pool.retry_in,
        endings=_by_value(counts.endings),
        failures=_by_value(counts.failures),
        rejections=_by_value(counts.rejections),
        probe=subject.probe,
        counts=pool.counts,
        sessions=tuple(session_status(m, now) for m in pool.members),
        mode=subject.mode,
        destinations=subject.destinations,
        defects=subject.defects,
        last_refusal=_last_refusal(counts.last_refusal, now),
    )


def _last_refusal(refusal: Refusal | None, now: float) -> RefusalStatus | None:
    if refusal is None:
        return None
    cause = refusal.cause
    return RefusalStatus(
        reason=_presentable("" if cause is None else str(cause)),
        advice=_presentable("" if cause is None else cause.advice),
        age=round(now - refusal.at, 1),
    )


def broken_status(
    tunnel: TunnelSettings, last: TunnelStatus | None, defects: tuple[DefectStatus, ...]
) -> TunnelStatus:
    """Return the status of a tunnel that cannot tell it: reading it is a defect.

    Args:
        tunnel: Its settings.
        last: What it told when it last could, whose counters must not go back.
        defects: What broke in it, the latest included.
    """
    known = last or TunnelStatus(
        name=tunnel.name,
        state=TunnelState.STARTING,
        usable=False,
        reason="",
        advice="",
        listen=(),
        target=tunnel.target,
        destination=tunnel.destination,
        required=tunnel.required,
        connections=0,
        max_connections=tunnel.max_connections,
        waiting=0,
        queued=0,
        accepted=0,
        refused=0,
        rejected=0,
        saturated=0,
        sent=0,
        received=0,
        rtt=None,
        retry_in=None,
        endings={},
        failures={},
        rejections={},
        probe=None,
        counts=SessionCounters().read(),
        sessions=(),
        mode=tunnel.mode,
        destinations=(),
        defects=(),
    )
    return replace(
        known,
        state=TunnelState.RETRYING,
        usable=False,
        reason=defects[-1].reason if defects else "",
        advice=Unforeseen.advice,
        defects=defects,
    )


def _presentable(text: str) -> str:
    """Return what health, hook, service manager and page may say of a tunnel.

    Others' words are cleaned where they enter; this is for what nobody foresaw.
    """
    return clean(redact(text), REASON_LIMIT)


def _why(subject: StatusInputs, state: TunnelState) -> tuple[str, str]:
    """Return why a tunnel is not as it should be, and what to do about it."""
    match state:
        case TunnelState.READY | TunnelState.IDLE:
            return "", ""
        case TunnelState.PAUSED:
            return "an operator paused it", f"run: ssmtunneld resume {subject.name}"
        case TunnelState.UNHEALTHY if subject.probe is not None:
            return subject.probe.reason, subject.probe.advice
        case TunnelState.UNBOUND:
            trouble = subject.unbound
        case TunnelState.NEEDS_LOGIN:
            trouble = subject.login
        case _ if subject.broken is not None:
            return subject.broken.reason, Unforeseen.advice
        case TunnelState.STARTING if subject.pool.start_reason:
            return subject.pool.start_reason, ""
        case _:
            trouble = subject.pool.trouble
    return str(trouble or ""), str(getattr(trouble, "advice", ""))


def _state(subject: StatusInputs) -> TunnelState:
    if subject.paused:
        return TunnelState.PAUSED
    if subject.unbound is not None or not subject.server.bound:
        return TunnelState.UNBOUND
    if subject.login is not None:
        return TunnelState.NEEDS_LOGIN
    if subject.broken is not None:
        return TunnelState.RETRYING
    state = _state_of_pool(subject.pool)
    if state is not TunnelState.READY or subject.probe is None:
        return state
    if subject.probe.pending:
        return TunnelState.STARTING
    return state if subject.probe.usable else TunnelState.UNHEALTHY


def _state_of_pool(pool: PoolSnapshot) -> TunnelState:
    # One that retires says nothing of what a new connection would find.
    phases = {m.view.phase for m in pool.members if not m.view.retiring}
    if Phase.READY in phases:
        return TunnelState.READY
    if Phase.RESUMING in phases:
        return TunnelState.RESUMING
    if pool.trouble is None:
        wanted = phases or pool.warm or pool.waiting
        return TunnelState.STARTING if wanted else TunnelState.IDLE
    match pool.trouble.recovery:
        case Recovery.STOP:
            return TunnelState.FAILED
        case Recovery.WAIT:
            return TunnelState.WAITING
        case Recovery.RESTART | Recovery.RESUME:
            return TunnelState.RETRYING


def _is_usable(state: TunnelState, pool: PoolSnapshot, now: float) -> bool:
    match state:
        case TunnelState.READY | TunnelState.IDLE:
            return True
        case TunnelState.RESUMING:
            views = [member.view for member in pool.members]
            lost_at = max(v.since for v in views if v.phase is Phase.RESUMING)
            return now < lost_at + RESUME_GRACE
        case TunnelState.STARTING:
            # One that starts on demand was idle a moment ago.
            return pool.warm == 0
        case TunnelState.NEEDS_LOGIN:
            # Sessions that stand need none: whoever connects is served meanwhile.
            return _state_of_pool(pool) is TunnelState.READY
        case _:
            return False


def _rtt(pool: PoolSnapshot) -> float | None:
    known = [(m.view.traffic, m.rtt) for m in pool.members]
    return max((k for k in known if k[1] is not None), default=(0.0, None))[1]


def _by_value(counts: Mapping[_Kind, int]) -> dict[str, int]:
    return {str(kind.value): number for kind, number in counts.items()}


def daemon_status(
    *,
    pid: int,
    config: str,
    uptime: float,
    tunnels: tuple[TunnelStatus, ...],
    identities: tuple[IdentityStatus, ...] = (),
    draining: bool = False,
    defects: tuple[DefectStatus, ...] = (),
) -> DaemonStatus:
    """Return the whole document."""
    return DaemonStatus(
        version=DOCUMENT_VERSION,
        program=__version__,
        pid=pid,
        config=config,
        uptime=round(uptime, 1),
        draining=draining,
        tunnels=tunnels,
        identities=identities,
        defects=defects,
    )
