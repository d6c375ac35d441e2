"""A configuration as frozen types with units, and the rules between its settings.

All that is known of a setting stands with its field: type, default, marks of
``metadata`` (effect of a change, variables, scope), and a docstring. The JSON schema
and the tables in ``docs/configuration.md`` are made from that.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ssmtunneld.base.ports import HTTPS_PORT
from ssmtunneld.config.destinations import Destination
from ssmtunneld.config.fields import (
    REASON_LIMIT,
    AnyFile,
    Buffer,
    ClusterName,
    Command,
    Connections,
    Count,
    DataHost,
    Destinations,
    Document,
    Duration,
    ExistingFile,
    Groups,
    HostName,
    HostNames,
    HttpListen,
    IncludePatterns,
    KeepAlive,
    Listen,
    MessageSize,
    MfaSerial,
    Mode,
    Name,
    Networks,
    OutputFile,
    Parameters,
    Port,
    ProbeText,
    ProxyUrl,
    Region,
    Role,
    SessionName,
    Target,
    Text,
    Url,
    Users,
)
from ssmtunneld.config.metadata import EXPANDS, RELATIVE, Only, Reload, keys_for
from ssmtunneld.config.parsers import Address, TcpAddress, names_loopback
from ssmtunneld.config.probes import speaks_mysql
from ssmtunneld.config.session_documents import (
    PORT_DOCUMENT,
    REMOTE_HOST_DOCUMENT,
    SSH_DOCUMENT,
    takes_destination,
)
from ssmtunneld.config.targets import (
    bastion_target,
    may_be_instance,
    may_be_node,
    parse_target,
)
from ssmtunneld.config.users import InstanceUser

USUAL_MESSAGE_LIMIT: Final = 8192
"""Bytes that ``message_size = "auto"`` tries at most: nine tenths of what 32 KiB gain
(protocol Appendix E)."""
CLUSTER_PORT: Final = HTTPS_PORT
"""The port of an EKS cluster's endpoint, unless the file says otherwise."""
START_TIMEOUT: Final = "3m"
"""``connect_timeout`` with ``start_target``, unless the file says otherwise: a minute
for the start of an instance, another one for its agent, and some more."""
LEAST_START_TIMEOUT: Final = 60.0
"""Seconds of ``connect_timeout`` with ``start_target``, at least."""
STREAMS_PER_SESSION: Final = 64
"""Connections in one session, unless the file says otherwise."""


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
        defer_build=True,
        # An error of pydantic's own would otherwise carry the value it is about.
        hide_input_in_errors=True,
    )


class FileSettings(_Section):
    """Settings above all tables of the main file."""

    include: Annotated[IncludePatterns, Reload.LIVE] = ()
    """Further files with tunnels, as paths or patterns such as `"conf.d/*.toml"`;
    relative to the directory of this file. See [files for teams](#files-for-teams)."""


class DaemonSettings(_Section):
    """The table ``[daemon]``: settings of the process as a whole."""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], Reload.LIVE] = (
        "info"
    )
    """Minimum severity to log."""
    log_format: Annotated[Literal["auto", "text", "json"], Reload.LIVE] = "auto"
    """Format of the log; auto is text that suits a terminal or the journal."""
    drain_timeout: Annotated[Duration, Reload.LIVE] = 30.0
    """Time that connections have to finish once the daemon has been asked to stop."""
    watch_config: Annotated[bool, Reload.LIVE] = False
    """Reload automatically when this file changes, or one that it includes, or when
    one comes or goes. See
    [reload](#changing-the-file-while-the-daemon-runs)."""
    start_rate: Annotated[float, Field(gt=0, le=1000), Reload.LIVE] = 2.0
    """`StartSession` calls per second, for each account and region."""
    start_burst: Annotated[Count, Reload.LIVE] = 4
    """`StartSession` calls that may come at once before the rate applies, and limit of
    those that are under way. No `T` seconds see more than `start_burst + start_rate *
    T` of them arrive at the service, however long each takes."""
    on_state: Annotated[Command, Reload.LIVE] = ()
    """Command to run, without a shell, when a tunnel changes state. See
    [hook](identities.md#being-told)."""
    http_listen: Annotated[HttpListen, Reload.LISTENERS] = ()
    """Addresses that serve [health](status.md#health), [metrics](metrics.md) and the
    [status page](status.md#the-page); off without it."""
    http_allow: Annotated[Networks, Reload.LISTENERS] = ()
    """Networks that may ask there, besides this machine itself. Required where an
    address is not loopback, refused where all are."""
    http_hosts: Annotated[HostNames, Reload.LISTENERS] = ()
    """Names of the HTTP listener in requests, besides `localhost` and its addresses.
    See [status.md](status.md#who-may-ask)."""
    audit_log: Annotated[OutputFile | None, Reload.LIVE] = None
    """File for a line of JSON when a connection opens and one when it ends: who, which
    program, tunnel, target, destination, session, bytes, how it ended. Relative to the
    configuration's directory; of mode 0600; off without it. See [audit](audit.md)."""
    max_connections: Annotated[Connections, Reload.LIVE] = 10_000
    """Local connections to all tunnels together; further ones wait until one ends. Half
    of them are divided among the tunnels, so that a busy one leaves the rest their
    part. Fewer, with a warning, where the process may not open that many files. See
    [limits](#limits)."""

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
    """The table ``[defaults]``: settings that every tunnel inherits."""

    target: Annotated[Target | None, Reload.SESSIONS, EXPANDS] = None
    """Node with the SSM agent: an id (`i-…`, `mi-…`, `ecs:cluster_task_runtime`), or a
    search: `name:…`, `tag:Key=Value` or a list of those, `asg:…`, `ip:…`, `dns:…`,
    `ecs:cluster/service/container`. See [targets](targets.md)."""
    target_policy: Annotated[Literal["first", "newest", "spread"], Reload.SESSIONS] = (
        "first"
    )
    """Choice among several targets: the oldest, the newest, or all of them in turn."""
    mode: Annotated[Literal["tcp", "socks5", "http-connect"], Reload.SESSIONS] = "tcp"
    """`"tcp"` forwards to one destination. With the other modes, clients name it
    themselves. See [dynamic forwarding](dynamic.md)."""
    destinations: Annotated[Destinations, Reload.LIVE, Only.DYNAMIC] = ()
    """Destinations that clients may name, as patterns such as
    `"*.internal.example.com:443"` or `"10.0.0.0/8:8000-8999"`. Required by these modes.
    (`allow` is who may connect.)"""
    max_destinations: Annotated[int, Field(ge=1, le=256), Reload.LIVE, Only.DYNAMIC] = (
        16
    )
    """Destinations in use at once; each has `max_sessions` of its own."""
    port: Annotated[Port | None, Reload.SESSIONS, Only.FIXED] = None
    """The destination's port. Required, unless a document of yours or
    `AWS-StartSSHSession` knows it; with `cluster` it is 443 without this. A document of
    yours is not told it: see `parameters`."""
    host: Annotated[HostName | None, Reload.SESSIONS, Only.FIXED, EXPANDS] = None
    """The destination as the target can reach it. Without it the destination is the
    target itself; agents refuse the target's own loopback here, so leave it out for
    that."""
    cluster: Annotated[ClusterName | None, Reload.SESSIONS, Only.FIXED, EXPANDS] = None
    """Instead of `host`: an EKS cluster of the tunnel's account and region, whose
    endpoint is looked up when a session starts. See
    [clusters](tasks/clusters.md)."""
    document: Annotated[Document | None, Reload.SESSIONS, Only.FIXED] = None
    """The session document. Without it, `AWS-StartPortForwardingSession`, or with
    `host` or `cluster` `AWS-StartPortForwardingSessionToRemoteHost`."""
    parameters: Annotated[Parameters, Reload.SESSIONS, Only.FIXED] = {}
    """Values for a document of yours. Only AWS's own documents are told `port` and
    `host` (as `portNumber` and `host`); with your own these say where it leads,
    for status, `env`, `db-token` and probes. If yours takes them, write them here:
    `{ host = "db.internal", portNumber = "5432" }`."""
    reason: Annotated[
        Annotated[Text, Field(max_length=REASON_LIMIT)] | None, Reload.LIVE
    ] = None
    """Text for the session history of Systems Manager, after version, user, machine and
    tunnel; 256 characters altogether. A change is for the sessions that are started
    from then on."""
    profile: Annotated[Text | None, Reload.SESSIONS, EXPANDS] = None
    """A profile of `~/.aws/config`. Without it, the usual chain of credentials."""
    role_arn: Annotated[Role | None, Reload.SESSIONS, EXPANDS] = None
    """A role to assume with the credentials of the profile. See
    [identities](identities.md)."""
    external_id: Annotated[
        Annotated[Text, Field(min_length=2, max_length=1224)] | None,
        Reload.SESSIONS,
        EXPANDS,
    ] = None
    """The `sts:ExternalId` that the role's trust policy asks for."""
    role_session_name: Annotated[SessionName | None, Reload.SESSIONS] = None
    """Name of the role's sessions. Without it, `ssmtunneld-USER`."""
    mfa_serial: Annotated[MfaSerial | None, Reload.SESSIONS] = None
    """The device whose codes `role_arn` asks for: its ARN, or a hardware token's
    number. `ssmtunneld login`
    [asks for the code](identities.md#roles-that-ask-for-a-code)."""
    access: Annotated[Literal["direct", "request"], Reload.SESSIONS] = "direct"
    """`"request"` for nodes with just-in-time access: somebody asks with
    `ssmtunneld request`, and an approval brings the tunnel up. See
    [access on request](tasks/access.md)."""
    start_target: Annotated[bool, Reload.SESSIONS] = False
    """Start the target, an EC2 instance, when a connection comes and it is stopped. See
    [bastions that sleep](tasks/sleeping.md)."""
    stop_target_after: Annotated[
        Annotated[Duration, Field(gt=0)] | None, Reload.SESSIONS
    ] = None
    """Time without connections after which it is stopped again, if `start_target` has
    started it; a minute more at most, for the daemon looks once a minute. Without it,
    never."""
    region: Annotated[Region | None, Reload.SESSIONS, EXPANDS] = None
    """The AWS region. Without it, the profile's."""
    endpoint_url: Annotated[Url | None, Reload.SESSIONS, EXPANDS] = None
    """The SSM API, where it is not the region's public one: `"https://host"`, or
    `http://` for an emulator."""
    ssmmessages_endpoint: Annotated[DataHost | None, Reload.SESSIONS] = None
    """The data channel's host, where it is not the one that the service names (VPC
    endpoints). Path and query stay as the service gave them."""
    ca_bundle: Annotated[ExistingFile | None, Reload.SESSIONS, RELATIVE] = None
    """A PEM file of certificate authorities to trust instead of the system's; relative
    to the directory of the file that says it."""
    proxy: Annotated[ProxyUrl | None, Reload.SESSIONS, EXPANDS] = None
    """A proxy for API and data channel, `"http://host:port"` or
    `"socks5h://host:port"`; `false` for none. Without it, `HTTPS_PROXY` and `NO_PROXY`.
    See [networks](networks.md)."""
    warm: Annotated[int, Field(ge=0, le=1000), Reload.LIVE, Only.FIXED] = 1
    """Sessions kept ready. `0` starts one for the first connection. See
    [how many sessions](#how-many-sessions)."""
    max_sessions: Annotated[Count, Reload.LIVE] = 4
    """Sessions at once, while there are connections; not below `warm`. One that is
    being replaced (it ends soon, or nothing moves in it) comes on top until its
    connections have ended; of the latter kind at most as many again."""
    streams_per_session: Annotated[int, Field(ge=1, le=65535), Reload.LIVE] = (
        STREAMS_PER_SESSION
    )
    """Connections in one session; further ones wait a moment for another session, if
    one can be started."""
    idle_close: Annotated[Duration, Field(gt=0), Reload.LIVE] = 300.0
    """Time that a session beyond the warm ones stays after its last connection; with
    `warm = 0`, every session."""
    keep_alive: Annotated[KeepAlive, Reload.SESSIONS] = 300.0
    """Interval at which an idle session shows life, so that the service's idle timeout
    (20 minutes, unless your account says otherwise) never ends it. `false` respects the
    timeout, and the session is opened again on demand."""
    max_session_age: Annotated[
        Annotated[Duration, Field(ge=60)] | None, Reload.LIVE
    ] = None
    """Age at which a session is replaced by a new one. Without it, only before the
    service would end it."""
    required: Annotated[bool, Reload.LIVE] = True
    """The daemon is ready only when this tunnel is. `false`: also without it."""
    enabled: Annotated[bool, Reload.TUNNEL] = True
    """`false`: the tunnel is checked and listed, and nothing of it runs. See
    [disabled tunnels](#disabled-tunnels)."""
    groups: Annotated[Groups, Reload.LIVE] = ()
    """Names, such as `["orders"]`, by which `--group` of commands chooses tunnels. See
    [groups](#groups)."""
    connect_timeout: Annotated[Duration, Field(gt=0), Reload.LIVE] = 15.0
    """Time that a new connection waits for a session before it is reset; with
    `start_target` 3m without this, and not below 1m."""
    linger: Annotated[Duration, Reload.LIVE] = 60.0
    """Time that a connection may stay silent after the local end has sent everything.
    The agent closes both directions at once, so the end is passed on only after
    this."""
    ping_interval: Annotated[Duration, Field(gt=0), Reload.SESSIONS] = 20.0
    """Interval at which the service is asked for a sign of life."""
    dead_peer_timeout: Annotated[Duration, Field(gt=0), Reload.SESSIONS] = 40.0
    """Silence after which the link counts as dead and the session is resumed; above
    `ping_interval`."""
    stall_timeout: Annotated[Duration, Field(ge=10), Reload.LIVE] = 900.0
    """Silence of an agent after which its connections are reset, where AWS does not say
    whether it is connected: `ssm:GetConnectionStatus` is denied, or fails. Where AWS
    says so, that decides, within a minute or two; an agent that is connected and only
    waits for a destination that does not read keeps its connections."""
    max_connections: Annotated[Connections, Reload.LIVE] = 1000
    """Local connections at once; further ones wait until one ends. See
    [limits](#limits)."""
    stream_buffer: Annotated[Buffer, Reload.SESSIONS] = 2**20
    """Bytes held for one connection whose local end reads slowly."""
    session_buffer: Annotated[Buffer, Reload.SESSIONS] = 8 * 2**20
    """Bytes held for all connections of one session together; not below
    `stream_buffer`."""
    message_size: Annotated[MessageSize, Reload.LIVE] = "auto"
    """Payload of the messages of an upload, at most. Larger messages than 1 KiB are
    tried on new sessions before they carry data; `"auto"` tries 4 and 8 KiB, a number
    everything up to it, and 1024 nothing. See
    [large messages](#large-messages)."""
    socket_mode: Annotated[Mode, Reload.LIVE] = 0o600
    """Permissions of the tunnel's Unix sockets."""
    allow: Annotated[Networks, Reload.LIVE] = ()
    """Networks that may connect to addresses that are not loopback. Required where
    there is such an address, refused where there is none."""
    allow_users: Annotated[Users, Reload.LIVE] = ()
    """Users of this machine whose TCP connections are accepted, besides the daemon's
    own. See [users](#users)."""
    instance_connect: Annotated[bool, Reload.LIVE, Only.INSTANCE] = False
    """Push a public key with EC2 Instance Connect when somebody connects."""
    instance_connect_user: Annotated[
        InstanceUser | None, Reload.LIVE, Only.INSTANCE
    ] = None
    """The instance's user who may log in with it for a minute. Required with
    `instance_connect`."""
    instance_connect_key: Annotated[
        ExistingFile | None, Reload.LIVE, Only.INSTANCE, RELATIVE
    ] = None
    """The public key, a `.pub` file; relative to the directory of the file that says
    it. Without it `~/.ssh/id_ed25519.pub`, else `id_rsa.pub`, of the daemon's
    user."""
    db_engine: Annotated[
        Literal["postgres", "mysql", "redis", "mongodb", "sqlserver"] | None,
        Reload.COMMANDS,
    ] = None
    """Kind of database, for `ssmtunneld connect` and `env`. Without it, guessed from
    the probe, the host's name, then the port."""
    db_user: Annotated[Text | None, Reload.COMMANDS] = None
    """The database's user, for `ssmtunneld connect`, `env` and `db-token`."""
    db_name: Annotated[Text | None, Reload.COMMANDS] = None
    """The database, for `ssmtunneld connect` and `env`; of Redis, its number."""
    db_auth: Annotated[Literal["password", "iam"], Reload.COMMANDS] = "password"
    """The way of logging in. With `"iam"`, `ssmtunneld connect` gives the client a
    password by IAM. See [databases](databases.md)."""
    db_tls: Annotated[
        Literal["disable", "require", "verify-ca", "verify-full"] | None,
        Reload.COMMANDS,
    ] = None
    """TLS from the client to the database, for `ssmtunneld connect` and `env`; levels
    as PostgreSQL calls them. Without it, see [TLS](databases.md#tls)."""
    db_ca: Annotated[AnyFile | None, Reload.COMMANDS, RELATIVE] = None
    """A PEM file of the certificate authorities that sign for the database; relative to
    the directory of the file that says it. Without it, the system's."""
    probe: Annotated[ProbeText, Reload.LIVE, Only.FIXED] = None
    """Check of the destination; `false` where `[defaults]` has one."""
    probe_interval: Annotated[Duration, Field(ge=1), Reload.LIVE] = 60.0
    """Interval at which the destination is asked."""
    probe_timeout: Annotated[Duration, Field(gt=0), Reload.LIVE] = 10.0
    """Time that its answer may take."""


INSTANCE: Final = keys_for(TunnelDefaults, Only.INSTANCE)
"""Settings that make sense only where the target is an EC2 instance, and the end."""
FIXED: Final = keys_for(TunnelDefaults, Only.FIXED, Only.INSTANCE)
"""Settings that make sense only where all connections have one destination."""
DYNAMIC: Final = keys_for(TunnelDefaults, Only.DYNAMIC)
"""Settings that make sense only where clients name it."""


class TunnelSettings(TunnelDefaults):
    """One table ``[tunnels.NAME]``: local addresses that lead to one destination."""

    name: Name
    """The table's name."""
    listen: Annotated[Listen, Reload.LISTENERS]
    """The local address, or a list of them. See [addresses](#addresses)."""
    target: Target

    @property
    def session_document(self) -> str:
        """The document to start sessions with: the one asked for, or AWS's own."""
        if self.document is not None:
            return self.document
        own = self.host is None and self.cluster is None
        return PORT_DOCUMENT if own else REMOTE_HOST_DOCUMENT

    @property
    def message_limit(self) -> int:
        """Bytes of payload of the largest message that may be tried."""
        size = self.message_size
        return USUAL_MESSAGE_LIMIT if size == "auto" else size

    @property
    def is_dynamic(self) -> bool:
        """True if clients name the destination."""
        return self.mode != "tcp"

    @property
    def destination(self) -> str:
        """The destination of connections, for people."""
        if self.is_dynamic:
            first, *others = map(str, self.destinations)
            return f"{first} (+{len(others)})" if others else first
        named = None if self.cluster is None else f"eks/{self.cluster}"
        host = self.host or named or self._given("host") or "localhost"
        port = self.port or self._given("portNumber")
        known = port or host != "localhost" or takes_destination(self.session_document)
        if not known:
            return f"as {self.session_document} says"
        return f"{host}{'' if port is None else f':{port}'}"

    def _given(self, parameter: str) -> str | None:
        """Return a parameter of the document, if it has one value."""
        values = self.parameters.get(parameter, ())
        return values[0] if len(values) == 1 else None

    @property
    def is_mysql(self) -> bool:
        """True if the engine or the port says that the destination is MySQL."""
        written = "".join(self.parameters.get("portNumber", ()))
        port = int(written) if written.isdecimal() else None
        return speaks_mysql(self.port or port, self.db_engine)

    @property
    def session_limit(self) -> int:
        """Maximum number of sessions, to all destinations together."""
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
        # The destination of a session is not known beforehand.
        if isinstance(data, dict) and data.get("mode", "tcp") != "tcp":
            return {"warm": 0, **data}
        return data

    @model_validator(mode="before")
    @classmethod
    def _know_cluster_port(cls, data: object) -> object:
        if not isinstance(data, dict) or data.get("mode", "tcp") != "tcp":
            return data
        unsaid = data.get("cluster") is not None and data.get("port") is None
        return {**data, "port": CLUSTER_PORT} if unsaid else data

    @model_validator(mode="before")
    @classmethod
    def _await_start(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("start_target") is True:
            return {"connect_timeout": START_TIMEOUT, **data}
        return data

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        found = [
            *self._order(),
            *(self._dynamic() if self.is_dynamic else self._fixed()),
            *self._exposure(),
            *self._identity(),
            *self._access(),
            *self._starting(),
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
        yield from self._cluster()
        yield from self._harmful_probe()

    def _dynamic(self) -> Iterator[tuple[str, str]]:
        if not self.destinations:
            example = 'such as ["*.internal.example.com:443"]'
            yield "destinations", f"is required by mode {self.mode}, {example}"
        for key in sorted(FIXED):
            if getattr(self, key):
                yield (
                    key,
                    f"cannot be used in mode {self.mode}: clients name the destination",
                )

    def _harmful_probe(self) -> Iterator[tuple[str, str]]:
        if self.probe is None or self.probe.kind == "mysql":
            return
        if self.is_mysql:
            yield (
                "probe",
                f'should be "mysql", not "{self.probe}": MySQL and MariaDB lock the '
                "target's address out after 100 visits that do not finish their "
                "handshake (if something else listens there, set db_engine)",
            )

    def _destination(self) -> Iterator[tuple[str, str]]:
        document = self.session_document
        if document in {PORT_DOCUMENT, REMOTE_HOST_DOCUMENT} and self.port is None:
            yield "port", f"is required by {document}"
        if document in {PORT_DOCUMENT, SSH_DOCUMENT} and self.host is not None:
            yield "host", f"cannot be used with {document}: remove host or document"
        if document == REMOTE_HOST_DOCUMENT:
            yield from self._remote_host()
        if document in {PORT_DOCUMENT, REMOTE_HOST_DOCUMENT, SSH_DOCUMENT}:
            if self.parameters:
                yield "parameters", f"are for custom documents, not for {document}"
            return
        for key, parameter in (("port", "portNumber"), ("host", "host")):
            own, given = getattr(self, key), self._given(parameter)
            if own is not None and given is not None and given != str(own):
                yield key, f"contradicts parameters.{parameter}: remove one of them"

    def _cluster(self) -> Iterator[tuple[str, str]]:
        if self.cluster is None:
            return
        if self.host is not None:
            yield "cluster", "cannot be used with host: it stands for one"
        if self.session_document != REMOTE_HOST_DOCUMENT:
            yield (
                "cluster",
                f"cannot be used with {self.session_document}, which is not told the "
                "cluster's endpoint: remove document",
            )

    def _remote_host(self) -> Iterator[tuple[str, str]]:
        if self.host is None:
            if self.cluster is not None:
                return
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

    def _access(self) -> Iterator[tuple[str, str]]:
        if self.access == "request" and not may_be_node(parse_target(self.target)):
            yield (
                "access",
                f"is only for instances and managed nodes, not {self.target}",
            )

    def _starting(self) -> Iterator[tuple[str, str]]:
        if not self.start_target:
            if self.stop_target_after is not None:
                yield "stop_target_after", "has no effect without start_target = true"
            return
        if bastion_target(self.target) is None:
            yield (
                "start_target",
                f"is only for one EC2 instance (i-..., name:, tag:, ip:, dns:), not "
                f"{self.target}",
            )
        if self.access == "request":
            yield "start_target", 'cannot be used with access = "request"'
        if self.connect_timeout < LEAST_START_TIMEOUT:
            yield (
                "connect_timeout",
                f"should be at least {LEAST_START_TIMEOUT:g} s with start_target: a "
                "connection waits while the instance starts",
            )

    def _instance_connect(self) -> Iterator[tuple[str, str]]:
        if not self.instance_connect:
            for key in sorted(INSTANCE):
                if getattr(self, key):
                    yield key, "has no effect without instance_connect = true"
        elif self.instance_connect_user is None:
            yield (
                "instance_connect_user",
                "is required: the user to log in as, such as ec2-user",
            )
        elif self.host is not None:
            yield "instance_connect", "is for the target itself: leave out host"
        elif self.cluster is not None:
            yield "instance_connect", "is for the target itself: leave out cluster"
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
    """A main file, and those that it includes."""

    source: Path
    """The main file."""
    include: tuple[str, ...] = ()
    """Its patterns of further files."""
    included: tuple[Path, ...] = ()
    """The files that were included, in their order."""
    unmatched: tuple[str, ...] = ()
    """Patterns that matched no file."""
    daemon: DaemonSettings
    """The process as a whole."""
    tunnels: Annotated[tuple[TunnelSettings, ...], Field(min_length=1)]
    """The tunnels, in the order of the files; also those that are not enabled."""
    origins: dict[str, Path] = {}
    """The file of each tunnel, by its name."""

    @property
    def enabled(self) -> tuple[TunnelSettings, ...]:
        """The tunnels that are to run."""
        return tuple(tunnel for tunnel in self.tunnels if tunnel.enabled)
