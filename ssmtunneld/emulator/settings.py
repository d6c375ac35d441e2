"""Settings of an emulator, fixed at its start."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

from ssmtunneld.base.secret import Secret
from ssmtunneld.emulator.path import PathSettings


class Pace(StrEnum):
    """The speed at which the agent sends."""

    REAL = "real"
    """One message of at most 1024 bytes, then a rest of 1 ms (protocol 6.5)."""
    NONE = "none"
    """As fast as the client reads."""


DEFAULT_AGENT_VERSION: Final = "3.3.5068.0"
PACE_INTERVAL: Final = 0.001
"""Seconds that the agent sleeps after each message at ``Pace.REAL`` (protocol 6.5). It
never makes up for what the rest of its work takes: 1.1 to 1.4 ms pass in all."""


def _wall_clock() -> datetime:
    return datetime.now(tz=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Data of a target in the API's answers, except its id."""

    name: str = ""
    """The computer's own."""
    address: str = ""
    """Its IP address."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSettings:
    """Everything that can be chosen; durations are in seconds."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless ``allow_remote``."""
    port: int = 0
    pace: Pace = Pace.REAL
    agent_version: str = DEFAULT_AGENT_VERSION
    faults: tuple[str, ...] = ()
    """Specifications in the language of `ssmtunneld.emulator.faults`."""
    require_signature: bool = False
    """Answer an unsigned websocket upgrade with 403."""
    access_key: str = "AKIAEMULATOR00000000"
    secret_key: Secret | None = None
    """Keys to verify signatures with; without them only the form is checked."""
    idle_timeout: float = 1200.0
    """Without a sequenced message from the client (protocol 1.8)."""
    max_duration: float | None = None
    bye_after: float | None = None
    """Close every client websocket of this age with 1000 ``Bye``; AWS: 3600."""
    host_aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of remote hosts, and the addresses that the agent resolves them to. What an
    alias leads to is never on the deny list: it stands for another machine."""
    http_hosts: tuple[str, ...] = ()
    """Further names that requests may come to; see `ssmtunneld.emulator.screen`."""
    targets: frozenset[str] | None = None
    """The targets that exist; None for those in ``nodes``, ``stopped`` and ``offline``,
    and for any that is well formed where there are no ``nodes``."""
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Custom documents by name: the JSON content of a session document."""
    allow_remote: bool = False
    """Listen on, and dial, addresses that are not loopback."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    stream_endpoint: str | None = None
    """Start of StreamUrl, such as ``wss://ssmmessages.eu-west-1.amazonaws.com``
    for clients that come through a proxy; None is the emulator's own address."""
    handshake_timeout: float = 15.0
    opener_timeout: float = 15.0
    """Time within which a websocket must send its first message."""
    approval: Literal["auto", "manual", "reject"] | float = "auto"
    """The fate of a request for node access by itself: approved, undecided until
    somebody decides, rejected; a number approves it after so many seconds."""
    access_duration: float = 3600.0
    """Time for which node access is approved."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    """Data of targets, by their ids; see ``targets``."""
    offline: frozenset[str] = frozenset()
    """Targets whose agents are away at the start, whatever faults come and go."""
    stopped: frozenset[str] = frozenset()
    """Instances that are stopped at the start."""
    boot_time: float = 1.0
    """Time from the start of an instance until its agent is connected."""
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """IAM policies by access key; that of ``""`` is for callers who have none of their
    own. Without any, everybody may do everything."""
    record: Path | None = None
    """File for all messages of all sessions; see
    `ssmtunneld.emulator.recording`."""
    record_payloads: bool = False
    """Write what users send, too."""
    replay: Path | None = None
    """A recording whose sessions are played, one after the other and then again, in the
    place of agents."""
    path: PathSettings | None = None
    """The network between clients and all of this, shared by them; None for loopback as
    it is."""
    scan_interval: float = 0.1
    """Between two looks at the front of what is not acknowledged: the agent repeats at
    most one message each time, so this bounds its recovery from loss (protocol 4.5)."""
    drain_time: float = 2.0
    """Time for which the agent waits for acknowledgements at its end (protocol 6.3)."""
    pong_deadline: float = 60.0
    """Time for which new agents can be blocked before they reconnect (protocol 6.7)."""
    freeze_notice: float = 30.0
    """Time for which the API reports a frozen agent as connected."""
    agent_away_time: float = 0.15
    """Time that the agent's own websocket takes to reconnect (protocol 1.9)."""
    keepalive_interval: float = 10.0
    keepalive_timeout: float = 30.0
    """The agent's smux keepalive, where its version has it on (protocol 7.5)."""
    lane_capacity: int = 4096
    """Messages that the gateway holds for each peer: about 4.5 MiB at 1024 bytes, above
    any sensible client's window, so that a blocked agent does not stop pings."""
    agent_buffer: int = 100_000
    """Messages in each of the agent's two buffers (protocol 4.3, 4.4)."""
    owner: str = "arn:aws:sts::123456789012:assumed-role/emulator/dev@example.com"
    caller: str = "dev@example.com"
    """Prefix of session ids."""
    identities: Mapping[str, str] = field(default_factory=dict)
    """Other callers: their ARNs by access key. Whoever has another key, or none, is
    ``owner``."""
    wall_clock: Callable[[], datetime] = _wall_clock
    """The clock of the service and of the agents."""
    signing_clock: Callable[[], datetime] = _wall_clock
    """The clock by which signatures are too old: that of whoever signs."""

    @property
    def existing(self) -> frozenset[str] | None:
        """The targets that exist; None for any that is well formed."""
        if self.targets is not None or not self.nodes:
            return self.targets
        return frozenset(self.nodes) | self.stopped | self.offline
