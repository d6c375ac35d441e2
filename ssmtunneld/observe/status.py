"""The status document: how a running daemon is, frozen at one moment (design D16).

Made from snapshots, and from nothing else. What a tunnel's state is, whether it is
usable, and why it is not ready, is decided here for everybody: the CLI, the page, the
metrics and the health answers.

``version`` of the document changes when a key changes its meaning or goes away; new
keys can come at any time. Times are in seconds, sizes in bytes. The docstrings of the
fields are also the descriptions in the document's JSON schema (``status_schema.py``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from ssmtunneld.aws.access_requests import AccessStatus
from ssmtunneld.base.compartment import DefectStatus
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.redaction import redact
from ssmtunneld.config import TunnelSettings
from ssmtunneld.errors import AwsError, Recovery, TunnelError, Unforeseen
from ssmtunneld.listener.counters import Refusal
from ssmtunneld.listener.server import Server
from ssmtunneld.observe.audit import AuditStatus
from ssmtunneld.observe.probe import ProbeStatus
from ssmtunneld.sessions.counters import PoolSnapshot, SessionCounters, SessionCounts
from ssmtunneld.sessions.node_access import NodeAccess
from ssmtunneld.sessions.policy import Phase
from ssmtunneld.sessions.pooled_session import PooledSessionSnapshot
from ssmtunneld.version import __version__

if TYPE_CHECKING:
    from ssmtunneld.sessions.bastion import Bastion


@dataclass(frozen=True, slots=True)
class IdentityStatus:
    """An identity of tunnels towards AWS, and its expiry."""

    name: str
    """Profile and role, such as prod/Bastion; not unique."""
    tunnels: tuple[str, ...]
    """Names of the tunnels with this identity."""
    expires_at: float | None
    """Expiry of its keys, in Unix seconds, if known; most are renewed automatically."""
    login_ends_at: float | None
    """Time at which a human must log in again, in Unix seconds, if known."""
    advice: str
    """Advice for that time; empty if unknown."""
    renewed: int
    """Times that new keys were obtained, the first ones included."""
    failed: int
    """Failed attempts to get keys."""


_PHASES: Final[Mapping[Phase, Literal["starting", "ready", "resuming"]]] = {
    Phase.STARTING: "starting",
    Phase.READY: "ready",
    Phase.RESUMING: "resuming",
}


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One session."""

    number: int
    """Number within its tunnel, from 1, since the start of the daemon."""
    session_id: str | None
    """Session id at AWS; null until the service has granted it."""
    phase: Literal["starting", "ready", "resuming"]
    """``starting`` until its first ready, ``resuming`` without its websocket."""
    retiring: bool
    """True if it takes no new connections and ends after its last one."""
    age: float
    """Seconds since its start."""
    streams: int
    """Connections that it carries."""
    rate: float
    """Recent bytes per second, up and down together."""
    stalled: bool
    """True if there is no progress although data is pending."""
    agent: str | None
    """The agent's version; null until known."""
    mode: Literal["mux", "basic"] | None
    """``mux`` (many connections) or ``basic`` (one); null until known."""
    rtt: float | None
    """The smoothed round-trip time to the agent, in seconds; null when nothing has
    moved for half a minute."""
    unacknowledged: int
    """Messages sent and not yet acknowledged."""
    unacknowledged_bytes: int
    """Bytes sent and not yet acknowledged."""
    window: int
    """Limit of unacknowledged bytes."""
    message_size: int
    """Bytes of payload that a message may have; those of slow uploads have less."""
    delivered_rate: float | None
    """Bytes per second that the agent acknowledged when last measured, headers of
    messages included; null before there was enough to measure."""
    least_rtt: float | None
    """The round-trip time of the empty path, in seconds, as far as is known."""
    paused: bool
    """True if the agent has asked to pause publication."""
    retransmitted: int
    """Messages retransmitted."""
    duplicates: int
    """Messages received more than once."""


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
        message_size=channel.message_size,
        delivered_rate=(
            None if channel.delivered_rate is None else round(channel.delivered_rate)
        ),
        least_rtt=channel.least_rtt,
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
    """The state of a tunnel."""

    READY = "ready"
    """A session is ready."""
    UNHEALTHY = "unhealthy"
    """A session is ready, but the destination failed its probe."""
    IDLE = "idle"
    """No session; the next connection starts one."""
    STARTING = "starting"
    """The first session, or the first answer of a probe, is pending."""
    RESUMING = "resuming"
    """Its sessions have lost their websockets and are being resumed."""
    RETRYING = "retrying"
    """No session could be started; the daemon retries by itself."""
    NEEDS_LOGIN = "needs_login"
    """A human must log in; ``advice`` has the command. Open connections continue."""
    NEEDS_ACCESS = "needs_access"
    """Somebody must ask for access to the node; ``advice`` has the command."""
    AWAITING_APPROVAL = "awaiting_approval"
    """The access request awaits approval, which brings the tunnel up by itself."""
    ACCESS_REJECTED = "access_rejected"
    """The access request was rejected; somebody may ask again."""
    ACCESS_REVOKED = "access_revoked"
    """Access was revoked; somebody may ask again. Open connections continue."""
    ACCESS_EXPIRED = "access_expired"
    """Access has ended; somebody may ask again. Open connections continue."""
    ASLEEP = "asleep"
    """Its bastion is stopped, or not used; the next connection wakes it."""
    WAKING = "waking"
    """Its bastion is being started, or its agent awaited; connections wait for it."""
    WAITING = "waiting"
    """Something outside of the daemon must change: see ``advice``."""
    FAILED = "failed"
    """AWS refuses the tunnel's settings: see ``advice``."""
    UNBOUND = "unbound"
    """A local address cannot be bound."""
    PAUSED = "paused"
    """An operator has paused it."""
    DISABLED = "disabled"
    """The file says ``enabled = false``: nothing of it runs."""


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """A destination that clients of a tunnel have named, and that is in use."""

    name: str
    """Host and port, as the client spelled them."""
    accepted: int
    """Connections since it came into use."""
    connections: int
    """Open connections."""
    waiting: int
    """Connections waiting for a session."""
    sessions: int
    """Number of its sessions."""
    reason: str
    """Reason and advice if it has no session; empty if nothing is wrong."""


@dataclass(frozen=True, slots=True)
class RefusalStatus:
    """The latest connection that did not get its destination."""

    reason: str
    """Cause; empty if that is not known."""
    advice: str
    """Cure; empty if no action is needed."""
    age: float
    """Seconds since then."""


@dataclass(frozen=True, slots=True)
class NodeAccessStatus:
    """The access of a tunnel to its node, where somebody must ask for it."""

    granted: bool
    """True if sessions can be started now."""
    expires_at: float | None
    """End of the keys at hand, in Unix seconds; an approval can last longer."""
    request_id: str | None
    """Id of the latest request; null if nobody has asked."""
    request: Literal["pending", "approved", "rejected", "revoked", "expired"] | None
    """The state of that request."""
    target: str | None
    """The node that was asked for."""
    reason: str
    """The reason that was given; empty if nobody has asked."""
    asked_at: float | None
    """Time of the request, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class BastionStatus:
    """The instance of a tunnel with ``start_target``."""

    phase: Literal[
        "unknown", "asleep", "stopping", "starting", "awaiting_agent", "awake"
    ]
    """Its condition for the tunnel; ``asleep`` also while only other tunnels use it."""
    instance: str | None
    """The instance's id; null until it was found."""
    state: str | None
    """Its state in EC2's words, such as running; null until it was found."""
    started_by_us: bool
    """True if a daemon with ``stop_target_after`` started it, so that one stops it."""
    starts: int
    """Times that this daemon has started it."""
    stops: int
    """Times that this daemon has stopped it."""


@dataclass(frozen=True, slots=True)
class TunnelStatus:
    """One tunnel."""

    name: str
    """The tunnel's name."""
    state: TunnelState
    """The state, in one word."""
    usable: bool
    """True if a new connection can be served: the condition of readiness."""
    reason: str
    """Reason for not being ready; empty if it is ready."""
    advice: str
    """Advice; empty if nothing has to be done."""
    lasting: bool
    """True if the reason lasts until somebody acts: logs in, permits, corrects."""
    listen: tuple[str, ...]
    """Local addresses with their real ports; empty while none is bound."""
    target: str
    """The node whose agent is used."""
    destination: str
    """Host and port as the target reaches them."""
    required: bool
    """True if the daemon is ready only while this tunnel is usable."""
    connections: int
    """Open local connections."""
    max_connections: int
    """Limit of connections."""
    waiting: int
    """Connections waiting for a session."""
    queued: int
    """Connections waiting to be accepted, because ``max_connections`` are open."""
    accepted: int
    """Connections accepted since the start of the daemon."""
    refused: int
    """Accepted connections that did not reach the destination."""
    rejected: int
    """Connections reset on arrival, because their client is not allowed."""
    saturated: int
    """Number of times that ``max_connections`` was reached and connections waited."""
    sent: int
    """Bytes from local clients."""
    received: int
    """Bytes to local clients."""
    rtt: float | None
    """The round-trip time of its busiest session, in seconds."""
    retry_in: float | None
    """Seconds until the next attempt to start a session; null if none waits."""
    endings: Mapping[str, int]
    """Finished connections, by result."""
    failures: Mapping[str, int]
    """Refused connections, by reason."""
    rejections: Mapping[str, int]
    """Rejected connections, by the rule that they broke."""
    probe: ProbeStatus | None
    """Result of its probe; null without one."""
    counts: SessionCounts
    """Counts of its sessions since the start of the daemon."""
    sessions: tuple[SessionStatus, ...]
    """Present sessions."""
    mode: Literal["tcp", "socks5", "http-connect"]
    """``tcp``, or the protocol in which clients name the destination."""
    destinations: tuple[DestinationStatus, ...]
    """Destinations in use with dynamic forwarding, the most recent one last."""
    defects: tuple[DefectStatus, ...]
    """Parts of the tunnel that raised an unexpected exception."""
    last_refusal: RefusalStatus | None
    """The latest connection that did not reach its destination; null if none."""
    access: NodeAccessStatus | None
    """Access on request; null for a tunnel that needs none."""
    bastion: BastionStatus | None
    """The instance that is started on demand; null without ``start_target``."""
    groups: tuple[str, ...]
    """Groups that the file puts it into."""

    @property
    def enabled(self) -> bool:
        """True if it is to run."""
        return self.state is not TunnelState.DISABLED


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The whole daemon."""

    version: int
    """Version of this document."""
    program: str
    """Version of the daemon."""
    pid: int
    """Process id."""
    config: str
    """Path of the configuration file."""
    config_error: str
    """Reason why the changed file was rejected and the previous configuration is still
    in use; empty if the file is in use."""
    uptime: float
    """Seconds since its start."""
    draining: bool
    """True while the daemon ends and accepts no new connections."""
    tunnels: tuple[TunnelStatus, ...]
    """The tunnels, in the order of the files."""
    identities: tuple[IdentityStatus, ...]
    """Identities of the tunnels towards AWS."""
    defects: tuple[DefectStatus, ...]
    """Services of the daemon that raised an unexpected exception."""
    audit: AuditStatus | None
    """The audit log of connections; null without one."""
    groups: tuple[str, ...]
    """Groups whose tunnels the daemon was started for; empty for all tunnels."""

    @property
    def ready(self) -> bool:
        """True if every required tunnel is usable."""
        return not self.draining and all(m.usable for m in self.tunnels if m.required)

    def as_document(self) -> dict[str, Any]:
        """Return what ``status --json`` prints, without any secret."""
        document = _as_document(self)
        assert isinstance(document, dict), "of a dataclass"
        return document


_GIVEN: Final[dict[type[Any], set[str]]] = {
    TunnelStatus: {"name", "groups"},
    IdentityStatus: {"tunnels"},
    DaemonStatus: {"groups"},
}
"""Fields with names from the configuration, by which commands find tunnels. They stay
as they are: a service chooses the tokens of its sessions, and one that has the name of
another tunnel in it must not take that from them."""
_FIELDS: Final[dict[type[Any], tuple[tuple[str, bool], ...]]] = {}


def _fields_of(kind: type[Any]) -> tuple[tuple[str, bool], ...]:
    """Return the fields of dataclass ``kind``, and whether they can have a secret.

    None for another type.
    """
    names = _FIELDS.get(kind)
    if names is None:
        found = fields(kind) if is_dataclass(kind) else ()
        given = _GIVEN.get(kind, ())
        names = _FIELDS[kind] = tuple((f.name, f.name not in given) for f in found)
    return names


def _as_document(value: object) -> object:
    """Return ``value`` as ``dataclasses.asdict`` does, with others' texts redacted.

    That one copies each number deeply, which takes longer than to look at each text.
    """
    if type(value) is str:
        return redact(value)
    if found := _fields_of(type(value)):
        kept = ((name, getattr(value, name), redacted) for name, redacted in found)
        return {
            name: _as_document(each) if redacted else each
            for name, each, redacted in kept
        }
    if isinstance(value, tuple):
        return tuple(_as_document(item) for item in value)
    if isinstance(value, dict):
        return {key: _as_document(item) for key, item in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class StatusInputs:
    """The inputs from which a tunnel's status is made."""

    name: str
    target: str
    destination: str
    required: bool
    pool: PoolSnapshot
    server: Server
    unbound: Exception | None = None
    """Reason for an address that cannot be bound."""
    paused: bool = False
    """True if an operator has paused the tunnel."""
    probe: ProbeStatus | None = None
    """Result of its probe."""
    login: TunnelError | None = None
    """The error that makes its identity unusable."""
    mode: Literal["tcp", "socks5", "http-connect"] = "tcp"
    """``tcp``, or the protocol in which clients name the destination."""
    destinations: tuple[DestinationStatus, ...] = ()
    """Those that they have named."""
    defects: tuple[DefectStatus, ...] = ()
    """Its parts that broke."""
    groups: tuple[str, ...] = ()
    """Its groups."""
    access: NodeAccess | None = None
    """The access to its node, where somebody must ask for it."""
    bastion: "Bastion | None" = None
    """The instance, where it is started on demand."""

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
        lasting=_is_lasting(subject, state),
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
        groups=subject.groups,
        access=None if subject.access is None else _access_status(subject.access),
        bastion=None if subject.bastion is None else _bastion_status(subject.bastion),
    )


def _bastion_status(bastion: "Bastion") -> BastionStatus:
    return BastionStatus(
        phase=bastion.phase.value,
        instance=bastion.instance,
        state=bastion.state,
        started_by_us=bastion.is_ours,
        starts=bastion.starts,
        stops=bastion.stops,
    )


def _access_status(access: NodeAccess) -> NodeAccessStatus:
    request, status = access.request, access.status
    return NodeAccessStatus(
        granted=access.is_open,
        expires_at=access.expires_at,
        request_id=None if request is None else request.id,
        request=None if status is None else _REQUEST_STATES[status],
        target=None if request is None else request.target,
        reason="" if request is None else request.reason,
        asked_at=None if request is None else round(request.asked_at),
    )


_REQUEST_STATES: Final[
    Mapping[
        AccessStatus, Literal["pending", "approved", "rejected", "revoked", "expired"]
    ]
] = {
    AccessStatus.PENDING: "pending",
    AccessStatus.APPROVED: "approved",
    AccessStatus.REJECTED: "rejected",
    AccessStatus.REVOKED: "revoked",
    AccessStatus.EXPIRED: "expired",
}
_ACCESS_STATES: Final = {
    None: TunnelState.NEEDS_ACCESS,
    AccessStatus.PENDING: TunnelState.AWAITING_APPROVAL,
    AccessStatus.APPROVED: TunnelState.AWAITING_APPROVAL,
    AccessStatus.REJECTED: TunnelState.ACCESS_REJECTED,
    AccessStatus.REVOKED: TunnelState.ACCESS_REVOKED,
    AccessStatus.EXPIRED: TunnelState.ACCESS_EXPIRED,
}
"""The state of a tunnel without access, by what has become of the latest request."""


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
    known = last or _blank_status(tunnel, TunnelState.STARTING)
    return replace(
        known,
        state=TunnelState.RETRYING,
        usable=False,
        reason=defects[-1].reason if defects else "",
        advice=Unforeseen.advice,
        lasting=False,
        defects=defects,
    )


def disabled_status(tunnel: TunnelSettings) -> TunnelStatus:
    """Return the status of a tunnel of which nothing runs, because the file says so."""
    return _blank_status(tunnel, TunnelState.DISABLED)


def _blank_status(tunnel: TunnelSettings, state: TunnelState) -> TunnelStatus:
    """Return the status of a tunnel of which nothing is known but its settings."""
    return TunnelStatus(
        name=tunnel.name,
        state=state,
        usable=False,
        reason="",
        advice="",
        lasting=False,
        listen=(),
        target=tunnel.target,
        destination=tunnel.destination,
        required=tunnel.required and tunnel.enabled,
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
        last_refusal=None,
        access=None,
        bastion=None,
        groups=tunnel.groups,
    )


def _presentable(text: str) -> str:
    """Return what health, hook, service manager and page may say of a tunnel.

    Others' words are cleaned where they enter; this is for unexpected text.
    """
    return clean(redact(text), REASON_LIMIT)


def _why(subject: StatusInputs, state: TunnelState) -> tuple[str, str]:
    """Return why a tunnel is not as it should be, and what to do about it."""
    match state:
        case TunnelState.READY | TunnelState.IDLE:
            return "", ""
        case TunnelState.PAUSED:
            return "paused by an operator", f"run: ssmtunneld resume {subject.name}"
        case TunnelState.UNHEALTHY if subject.probe is not None:
            return subject.probe.reason, subject.probe.advice
        case _ if state in _HINDRANCES:
            trouble = _HINDRANCES[state](subject)
        case _ if subject.broken is not None:
            return subject.broken.reason, Unforeseen.advice
        case TunnelState.STARTING if subject.pool.start_reason:
            return subject.pool.start_reason, ""
        case _:
            trouble = _asleep(subject) or subject.pool.trouble
    return str(trouble or ""), str(getattr(trouble, "advice", ""))


def _missing_access(subject: StatusInputs) -> Exception | None:
    return None if subject.access is None else subject.access.missing


def _asleep(subject: StatusInputs) -> Exception | None:
    return None if subject.bastion is None else subject.bastion.hindrance


_HINDRANCES: Final[Mapping[TunnelState, Callable[[StatusInputs], Exception | None]]] = {
    TunnelState.UNBOUND: lambda subject: subject.unbound,
    TunnelState.NEEDS_LOGIN: lambda subject: subject.login,
    **dict.fromkeys(_ACCESS_STATES.values(), _missing_access),
    TunnelState.ASLEEP: _asleep,
    TunnelState.WAKING: _asleep,
}
"""The causes of states in which a tunnel's sessions do not matter."""


def _is_lasting(subject: StatusInputs, state: TunnelState) -> bool:
    match state:
        case TunnelState.UNBOUND:
            # Before it has tried to listen, a tunnel is unbound without a reason.
            return subject.unbound is not None
        case TunnelState.NEEDS_LOGIN | TunnelState.FAILED:
            return True
        case TunnelState.AWAITING_APPROVAL:
            return False
        case _ if state in _ACCESS_STATES.values():
            return True
        case TunnelState.WAITING:
            trouble = _asleep(subject) or subject.pool.trouble
            return not (isinstance(trouble, AwsError) and trouble.passes)
        case TunnelState.RETRYING if subject.broken is None:
            trouble = subject.pool.trouble
            return isinstance(trouble, AwsError) and not trouble.passes
        case _:
            return False


def _state(subject: StatusInputs) -> TunnelState:
    if subject.paused:
        return TunnelState.PAUSED
    if subject.unbound is not None or not subject.server.bound:
        return TunnelState.UNBOUND
    if subject.login is not None:
        return TunnelState.NEEDS_LOGIN
    if _missing_access(subject) is not None and subject.access is not None:
        return _ACCESS_STATES[subject.access.status]
    if subject.broken is not None:
        return TunnelState.RETRYING
    return _state_of_sessions(subject)


def _state_of_sessions(subject: StatusInputs) -> TunnelState:
    if subject.bastion is not None and not subject.bastion.awake:
        return _state_of_bastion(subject.bastion)
    state = _state_of_pool(subject.pool)
    if state is not TunnelState.READY or subject.probe is None:
        return state
    if subject.probe.pending:
        return TunnelState.STARTING
    return state if subject.probe.usable else TunnelState.UNHEALTHY


def _state_of_bastion(bastion: "Bastion") -> TunnelState:
    if bastion.failure is not None:
        return TunnelState.WAITING
    from ssmtunneld.sessions.bastion import BastionPhase  # noqa: PLC0415 - there with a bastion

    if bastion.phase is BastionPhase.UNKNOWN and not bastion.needed:
        return TunnelState.STARTING
    up = bastion.phase in {BastionPhase.STARTING, BastionPhase.AWAITING_AGENT}
    return TunnelState.WAKING if up or bastion.needed else TunnelState.ASLEEP


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
        case TunnelState.ASLEEP | TunnelState.WAKING:
            return True  # it is on demand, and connections wait
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


def daemon_status(  # noqa: PLR0913 - one keyword for each part of the document
    *,
    pid: int,
    config: str,
    uptime: float,
    tunnels: tuple[TunnelStatus, ...],
    config_error: str = "",
    identities: tuple[IdentityStatus, ...] = (),
    draining: bool = False,
    defects: tuple[DefectStatus, ...] = (),
    audit: AuditStatus | None = None,
    groups: tuple[str, ...] = (),
) -> DaemonStatus:
    """Return the whole document."""
    return DaemonStatus(
        version=DOCUMENT_VERSION,
        program=__version__,
        pid=pid,
        config=config,
        config_error=config_error,
        uptime=round(uptime, 1),
        draining=draining,
        tunnels=tunnels,
        identities=identities,
        defects=defects,
        audit=audit,
        groups=groups,
    )
