"""What a configuration is: frozen types with units, and what must hold among them.

An attribute's docstring is also its description in the JSON schema.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ssmtunneld.config.destinations import Destination
from ssmtunneld.config.fields import (
    Command,
    DataHost,
    Destinations,
    Document,
    Duration,
    ExistingFile,
    HostName,
    HostNames,
    HttpListen,
    KeepAlive,
    Listen,
    MfaSerial,
    Mode,
    Name,
    Networks,
    Parameters,
    ProbeText,
    ProxyUrl,
    Region,
    Role,
    SessionName,
    Size,
    Target,
    Text,
    Url,
    Users,
)
from ssmtunneld.config.targets import INSTANCE, may_be_instance, parse_target
from ssmtunneld.config.users import InstanceUser
from ssmtunneld.config.values import Address, TcpAddress, names_loopback

PLAIN_DOCUMENT: Final = "AWS-StartPortForwardingSession"
REMOTE_HOST_DOCUMENT: Final = "AWS-StartPortForwardingSessionToRemoteHost"
SSH_DOCUMENT: Final = "AWS-StartSSHSession"

FIXED: Final = INSTANCE | {"port", "host", "document", "parameters", "warm", "probe"}
"""Settings that make sense only where all connections have one destination."""
DYNAMIC: Final = frozenset({"destinations", "max_destinations"})
"""Settings that make sense only where clients name it."""

_MIB: Final = 1024 * 1024
# Four messages of the agent: with less, reading stops and starts for each of them.
_SMALLEST_BUFFER: Final = 4096
# A bound against slips of the pen ("8GiB"), far above what any mapping needs.
_LARGEST_BUFFER: Final = 1024 * _MIB


class Conflicts(ValueError):
    """Settings that do not go together.

    Args:
        found: Pairs of a key and what is wrong with it.
    """

    def __init__(self, found: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{key}: {message}" for key, message in found))
        self.found = found


class _Section(BaseModel):
    # A typo in a key must be an error at start-up, never a silent default. Strict: a
    # "yes" for a boolean or "3" for a number is a misunderstanding, not a spelling.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        # An error of pydantic's own would otherwise carry the value it is about.
        hide_input_in_errors=True,
    )


class DaemonSettings(_Section):
    """The table ``[daemon]``: what concerns the process as a whole."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """How lines look; auto means text for a terminal or the journal."""
    drain_timeout: Duration = 30.0
    """How long connections may go on once the daemon has been asked to stop."""
    start_rate: Annotated[float, Field(gt=0, le=1000)] = 2.0
    """StartSession calls per second, for each account and region."""
    start_burst: Annotated[int, Field(ge=1, le=1000)] = 4
    """StartSession calls that may come at once before the rate applies."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Local connections to all tunnels together; further ones wait until one ends."""
    watch_config: bool = False
    """Whether a change of this file is taken over without being asked."""
    on_state: Command = ()
    """A command that is run when a tunnel changes state, without a shell."""
    http_listen: HttpListen = ()
    """Where health, metrics and the status page are served; off if left out."""
    http_allow: Networks = ()
    """Networks that may ask there, beside this machine."""
    http_hosts: HostNames = ()
    """Names of this listener in requests, beside localhost and its own addresses."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        exposed = _exposed(self.http_listen)
        found: list[tuple[str, str]] = []
        if exposed and not self.http_allow:
            found.append(("http_allow", _needs_allow(exposed[0], "ask")))
        elif self.http_allow and not exposed:
            found.append(
                ("http_allow", "has no effect: no address of http_listen is open")
            )
        if self.http_hosts and not self.http_listen:
            found.append(("http_hosts", "has no effect without http_listen"))
        if found:
            raise Conflicts(found)
        return self


class TunnelDefaults(_Section):
    """The table ``[defaults]``: what every tunnel inherits where it says nothing."""

    target: Target | None = None
    """Where the agent runs: an id, or what it is found by (docs/targets.md)."""
    target_policy: Literal["first", "newest", "spread"] = "first"
    """Which one of several targets: the oldest, the newest, or all of them in turn."""
    mode: Literal["tcp", "socks5", "http-connect"] = "tcp"
    """Whether all connections have one destination, or clients name it, and how."""
    destinations: Destinations = ()
    """What clients may name: patterns of host and port."""
    max_destinations: Annotated[int, Field(ge=1, le=256)] = 16
    """Destinations in use at once; each of them has its own sessions."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The destination's port."""
    host: HostName | None = None
    """The destination, as the target can reach it; the target itself if left out."""
    document: Document | None = None
    """The session document; by default the one of AWS that suits the host."""
    parameters: Parameters = {}
    """Further parameters of a custom document."""
    reason: Annotated[Text, Field(max_length=256)] | None = None
    """A text for the service's session history."""
    profile: Text | None = None
    """The AWS profile; by default the usual credential chain."""
    role_arn: Role | None = None
    """A role to assume with the credentials of the profile."""
    external_id: Annotated[Text, Field(min_length=2, max_length=1224)] | None = None
    """What the role's trust policy asks for as sts:ExternalId."""
    role_session_name: SessionName | None = None
    """What the role's sessions are called; ssmtunneld-USER if left out."""
    mfa_serial: MfaSerial | None = None
    """The device whose codes the role asks for: see ssmtunneld login."""
    region: Region | None = None
    """The AWS region; by default the profile's."""
    endpoint_url: Url | None = None
    """The SSM API, where it is not the region's public one."""
    ssmmessages_endpoint: DataHost | None = None
    """The data channel's host, where it is not the one that the service names."""
    ca_bundle: ExistingFile | None = None
    """Certificate authorities to trust instead of the system's, as a PEM file."""
    proxy: ProxyUrl | None = None
    """A proxy, instead of those of the environment; false for none."""
    warm: Annotated[int, Field(ge=0, le=1000)] = 1
    """Sessions kept ready; 0 starts one for the first connection."""
    max_sessions: Annotated[int, Field(ge=1, le=1000)] = 4
    """Sessions that this tunnel may have open at once."""
    streams_per_session: Annotated[int, Field(ge=1, le=65535)] = 64
    """Connections in one session; others wait for another one, if there may be one."""
    idle_close: Annotated[Duration, Field(gt=0)] = 300.0
    """When a session beyond the warm ones is closed after its last connection."""
    keep_alive: KeepAlive = 300.0
    """How often an idle session shows life, so that the service keeps it; or false."""
    max_session_age: Annotated[Duration, Field(ge=60)] | None = None
    """When a session is replaced by a new one; by default as late as possible."""
    connect_timeout: Annotated[Duration, Field(gt=0)] = 15.0
    """How long a new connection waits for a session before it is reset."""
    linger: Duration = 60.0
    """How long a connection may stay silent after its local end has sent everything."""
    ping_interval: Annotated[Duration, Field(gt=0)] = 20.0
    """How often the service is asked whether it still listens."""
    dead_peer_timeout: Annotated[Duration, Field(gt=0)] = 40.0
    """How much silence means that the link is dead and the session is resumed."""
    stream_buffer: Annotated[Size, Field(ge=_SMALLEST_BUFFER, le=_LARGEST_BUFFER)] = (
        _MIB
    )
    """Bytes held for one connection whose local end reads slowly."""
    session_buffer: Annotated[Size, Field(ge=_SMALLEST_BUFFER, le=_LARGEST_BUFFER)] = (
        8 * _MIB
    )
    """Bytes held for all connections of one session together."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Local connections at once; further ones wait until one ends."""
    socket_mode: Mode = 0o600
    """Permissions of this tunnel's Unix sockets."""
    allow: Networks = ()
    """Networks that may connect to addresses that are not loopback."""
    allow_users: Users = ()
    """Users of this machine that may connect, beside the daemon's own; "*" for all."""
    probe: ProbeText = None
    """How to ask the destination whether it is alive; false for not at all."""
    probe_interval: Annotated[Duration, Field(ge=1)] = 60.0
    """How often it is asked."""
    probe_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """How long its answer may take."""
    required: bool = True
    """Whether the daemon is ready only when this tunnel is."""
    instance_connect: bool = False
    """Whether a key is pushed by EC2 Instance Connect when somebody connects."""
    instance_connect_user: InstanceUser | None = None
    """The user of the instance who may log in with it."""
    instance_connect_key: ExistingFile | None = None
    """The public key; ~/.ssh/id_ed25519.pub or id_rsa.pub if left out."""
    db_engine: Literal["postgres", "mysql", "redis"] | None = None
    """What the destination is, for ssmtunneld env; by its port if left out."""
    db_user: Text | None = None
    """The user that ssmtunneld env and db-token speak of."""
    db_name: Text | None = None
    """The database that ssmtunneld env speaks of."""


class Tunnel(TunnelDefaults):
    """One table ``[tunnels.NAME]``: local addresses that lead to one destination."""

    name: Name
    """The table's name."""
    listen: Listen
    """The local addresses: one, or a list."""
    target: Target
    """Where the agent runs: an id, or what it is found by (docs/targets.md)."""

    @property
    def session_document(self) -> str:
        """The document to start sessions with: the one asked for, or AWS's own."""
        if self.document is not None:
            return self.document
        return PLAIN_DOCUMENT if self.host is None else REMOTE_HOST_DOCUMENT

    @property
    def is_dynamic(self) -> bool:
        """Whether clients name the destination."""
        return self.mode != "tcp"

    @property
    def destination(self) -> str:
        """Where connections lead, for people."""
        if self.is_dynamic:
            first, *others = map(str, self.destinations)
            return f"{first} (+{len(others)})" if others else first
        port = "" if self.port is None else f":{self.port}"
        return f"{self.host or 'localhost'}{port}"

    @property
    def session_limit(self) -> int:
        """How many sessions there may be, to all destinations together."""
        return self.max_sessions * (self.max_destinations if self.is_dynamic else 1)

    def towards(self, destination: Destination) -> Self:
        """Return the settings of sessions to one of the destinations."""
        # Agents refuse their own loopback by name; it is where they go without one.
        host = None if destination.is_loopback else destination.host
        found = {"host": host, "port": destination.port}
        return self.model_copy(update={"mode": "tcp", "destinations": (), **found})

    @model_validator(mode="before")
    @classmethod
    def _start_on_demand(cls, data: object) -> object:
        # Nobody knows beforehand to which destination a session would have to be.
        if isinstance(data, dict) and data.get("mode", "tcp") != "tcp":
            return {"warm": 0, **data}
        return data

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        found = [
            *self._order(),
            *(self._dynamic() if self.is_dynamic else self._fixed()),
            *self._exposure(),
            *self._identity(),
            *self._instance_connect(),
        ]
        if found:
            raise Conflicts(found)
        return self

    def _order(self) -> Iterator[tuple[str, str]]:
        if self.warm > self.max_sessions:
            yield "warm", f"is {self.warm}, above max_sessions ({self.max_sessions})"
        if self.dead_peer_timeout <= self.ping_interval:
            yield (
                "dead_peer_timeout",
                f"should be above ping_interval ({self.ping_interval:g} s)",
            )
        if self.session_buffer < self.stream_buffer:
            yield (
                "session_buffer",
                f"should not be below stream_buffer ({self.stream_buffer} bytes)",
            )

    def _fixed(self) -> Iterator[tuple[str, str]]:
        for key in sorted(DYNAMIC):
            if getattr(self, key) != TunnelDefaults.model_fields[key].default:
                yield key, 'has no effect without mode = "socks5" or "http-connect"'
        yield from self._destination()

    def _dynamic(self) -> Iterator[tuple[str, str]]:
        if not self.destinations:
            example = 'such as ["*.internal.example.com:443"]'
            yield "destinations", f"is required by mode {self.mode}, {example}"
        for key in sorted(FIXED):
            if getattr(self, key):
                yield key, f"has no place in mode {self.mode}: clients say where to go"

    def _destination(self) -> Iterator[tuple[str, str]]:
        document = self.session_document
        if document in {PLAIN_DOCUMENT, REMOTE_HOST_DOCUMENT} and self.port is None:
            yield "port", f"is required by {document}"
        if document in {PLAIN_DOCUMENT, SSH_DOCUMENT} and self.host is not None:
            yield "host", f"has no place in {document}: leave out host, or document"
        if document == REMOTE_HOST_DOCUMENT:
            yield from self._remote_host()
        if document in {PLAIN_DOCUMENT, REMOTE_HOST_DOCUMENT, SSH_DOCUMENT}:
            if self.parameters:
                yield "parameters", f"are for custom documents, not for {document}"
            return
        for key, parameter in (("port", "portNumber"), ("host", "host")):
            if getattr(self, key) is not None and parameter in self.parameters:
                yield key, f"says the same as parameters.{parameter}: keep one of them"

    def _remote_host(self) -> Iterator[tuple[str, str]]:
        if self.host is None:
            yield "host", f"is required by {REMOTE_HOST_DOCUMENT}"
        elif names_loopback(self.host):
            yield (
                "host",
                "is the target's own loopback, which agents refuse in this document: "
                "leave out host, and the destination is the target itself",
            )

    def _identity(self) -> Iterator[tuple[str, str]]:
        for key in ("external_id", "role_session_name", "mfa_serial"):
            if getattr(self, key) is not None and self.role_arn is None:
                yield key, "has no effect without role_arn"

    def _instance_connect(self) -> Iterator[tuple[str, str]]:
        if not self.instance_connect:
            for key in sorted(INSTANCE):
                if getattr(self, key):
                    yield key, "has no effect without instance_connect = true"
        elif self.instance_connect_user is None:
            yield "instance_connect_user", "is required: who logs in, such as ec2-user"
        elif self.host is not None:
            yield "instance_connect", "is for the target itself: leave out host"
        elif not may_be_instance(parse_target(self.target)):
            yield "instance_connect", f"is only for EC2 instances, not {self.target}"

    def _exposure(self) -> Iterator[tuple[str, str]]:
        exposed = _exposed(self.listen)
        if exposed and not self.allow:
            yield "allow", _needs_allow(exposed[0], "connect")
        elif self.allow and not exposed:
            yield "allow", "has no effect: every address of listen is local already"


def _exposed(addresses: Iterable[Address]) -> list[str]:
    """Return the addresses that other machines can reach."""
    return [
        str(address)
        for address in addresses
        if isinstance(address, TcpAddress) and not address.is_loopback
    ]


def _needs_allow(address: str, verb: str) -> str:
    return (
        f"is required, because {address} is open to other machines: list "
        f'the networks that may {verb}, such as ["10.0.0.0/8"]'
    )


class Config(_Section):
    """A whole file."""

    source: Path
    """The file."""
    daemon: DaemonSettings
    """The process as a whole."""
    tunnels: Annotated[tuple[Tunnel, ...], Field(min_length=1)]
    """The tunnels, in the order of the file."""
