"""One tunnel of the configuration, at work: a server in front of a pool."""

import asyncio
import getpass
import os
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from ssmtunneld.aws.control import Control, Identity, SessionRequest
from ssmtunneld.aws.ssm import ControlRegistry
from ssmtunneld.config import Tunnel
from ssmtunneld.duplex import Duplex
from ssmtunneld.errors import AddressInUse
from ssmtunneld.listener.server import Server, ServerSettings
from ssmtunneld.log import EventLog, get_log
from ssmtunneld.ops.status import MappingStatus, Subject, mapping_status
from ssmtunneld.transport.ports import Buffers
from ssmtunneld.transport.websocket import Liveness
from ssmtunneld.tunnel.census import Census
from ssmtunneld.tunnel.connect import Connector
from ssmtunneld.tunnel.lifespan import Lifespan
from ssmtunneld.tunnel.limiter import StartLimiter
from ssmtunneld.tunnel.plan import Policy
from ssmtunneld.tunnel.pool import Pool
from ssmtunneld.tunnel.session import Session, SessionSettings, Surroundings
from ssmtunneld.version import __version__

REBIND_INTERVAL: Final = 5.0
"""Seconds between attempts to listen on an address that another process holds."""
REASON_LIMIT: Final = 256
"""Characters of a session's reason (protocol 1.1)."""


class TlsContexts:
    """One TLS context per file of trusted certificates, made when first needed.

    A context takes about a megabyte and tens of milliseconds, so mappings share it.
    """

    def __init__(self, environ_bundle: str | None) -> None:
        self._environ_bundle = environ_bundle
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    def get(self, ca_bundle: str | None) -> ssl.SSLContext:
        """Return the context that trusts ``ca_bundle``, else ``AWS_CA_BUNDLE``."""
        bundle = ca_bundle or self._environ_bundle
        if bundle not in self._contexts:
            self._contexts[bundle] = ssl.create_default_context(cafile=bundle)
        return self._contexts[bundle]


class Shared:
    """What all mappings of a process have in common.

    Args:
        start_rate: StartSession calls per second, for each account and region.
        start_burst: How many of them may come at once.
        instance: Tells the sessions of this configuration from all others, also after
            a restart; ``None`` to leave forgotten sessions alone.
    """

    def __init__(
        self, *, start_rate: float, start_burst: int, instance: str | None = None
    ) -> None:
        self.controls = ControlRegistry()
        self.tls = TlsContexts(os.environ.get("AWS_CA_BUNDLE"))
        # Only jitter depends on it.
        self.random = Random(secrets.randbits(64))  # noqa: S311 - not a secret
        self.instance = instance
        self._start_rate = start_rate
        self._start_burst = start_burst
        self._limiters: dict[tuple[str | None, ...], StartLimiter] = {}
        self._censuses: dict[Identity, Census] = {}

    def limiter(self, identity: Identity) -> StartLimiter:
        """Return the limiter of the identity's account and region."""
        key = (identity.profile, identity.region, identity.endpoint_url)
        if key not in self._limiters:
            self._limiters[key] = StartLimiter(self._start_rate, self._start_burst)
        return self._limiters[key]

    def census(self, identity: Identity) -> Census:
        """Return the identity's census."""
        if identity not in self._censuses:
            control = self.controls.get(identity)
            self._censuses[identity] = Census(control, get_log())
        return self._censuses[identity]


class Mapping:
    """One tunnel: its listeners, its sessions, and what joins them."""

    def __init__(
        self, tunnel: Tunnel, shared: Shared, inherited: Sequence[socket.socket] = ()
    ) -> None:
        """Make the mapping; ``inherited`` sockets are used instead of its addresses."""
        self.tunnel = tunnel
        self.log = get_log(mapping=tunnel.name)
        identity = identity_of(tunnel)
        self._census = shared.census(identity)
        self._mark = mark(shared.instance, tunnel.name)
        self._lifespan = Lifespan(tunnel.max_session_age)
        self.pool = Pool(
            tunnel.name,
            _session_factory(tunnel, shared, self._mark, self.log),
            Policy(
                warm=tunnel.warm,
                max_sessions=tunnel.max_sessions,
                streams_per_session=tunnel.streams_per_session,
                idle_close=tunnel.idle_close,
            ),
            limiter=shared.limiter(identity),
            random=shared.random,
            log=self.log,
            lifespan=self._lifespan,
            respects_idle=tunnel.keep_alive is False,
        )
        self.server = Server(
            name=tunnel.name,
            addresses=inherited or tunnel.listen,
            open_stream=self._open_stream,
            settings=ServerSettings(
                linger=tunnel.linger,
                max_connections=tunnel.max_connections,
                allow=tunnel.allow,
                socket_mode=tunnel.socket_mode,
            ),
            log=self.log,
        )

    async def _open_stream(self) -> Duplex:
        return await self.pool.open_stream(self.tunnel.connect_timeout)

    async def bind(self) -> bool:
        """Listen on the mapping's addresses; say in the log if that is impossible."""
        try:
            await self.server.bind()
        except (AddressInUse, OSError) as error:
            advice = error.advice if isinstance(error, AddressInUse) else ""
            self.log.error("listener.failed", reason=str(error), advice=advice)
            return False
        for address in self.server.bound:
            self.log.info("listener.bound", address=address)
        return True

    def status(self, now: float) -> MappingStatus:
        """Return how the mapping is at ``now``, on the loop's clock."""
        tunnel = self.tunnel
        port = "" if tunnel.port is None else f":{tunnel.port}"
        subject = Subject(
            name=tunnel.name,
            target=tunnel.target,
            destination=f"{tunnel.host or 'localhost'}{port}",
            required=tunnel.required,
            warm=tunnel.warm,
            pool=self.pool.snapshot(),
            server=self.server,
        )
        return mapping_status(subject, now)

    async def run(self, *, bound: bool) -> None:
        """Serve until cancelled; keep trying to listen where that failed at first."""
        while not bound:
            await asyncio.sleep(REBIND_INTERVAL)
            bound = await self.bind()
        name = self.tunnel.name
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.pool.run(), name=f"{name} pool")
            tasks.create_task(self.server.serve(), name=f"{name} server")
            tasks.create_task(self._take_census(), name=f"{name} census")

    async def _take_census(self) -> None:
        """End what a daemon before us left, and learn how old sessions may become."""
        if not self._mark:
            return
        await self.pool.wait_ready()
        limit = await self._census.terminate_orphans(
            self.tunnel.target, self._mark, self.pool.owns
        )
        if limit is not None:
            self._lifespan.tell(limit)


def identity_of(tunnel: Tunnel) -> Identity:
    """Return who a tunnel is towards AWS."""
    return Identity(
        profile=tunnel.profile,
        region=tunnel.region,
        endpoint_url=tunnel.endpoint_url,
        ssmmessages_endpoint=tunnel.ssmmessages_endpoint,
        ca_bundle=str(tunnel.ca_bundle) if tunnel.ca_bundle else None,
    )


def mark(instance: str | None, name: str) -> str:
    """Return what the reasons of a mapping's sessions end with; empty for none."""
    return f"[{instance}/{name}]" if instance else ""


def default_reason(name: str) -> str:
    """Return what a session of mapping ``name`` says of itself in the audit log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = str(os.getuid())
    host = socket.gethostname().partition(".")[0]
    return f"ssmtunneld/{__version__} {user}@{host} tunnel {name}"


def _session_factory(
    tunnel: Tunnel, shared: Shared, its_mark: str, log: EventLog
) -> Callable[[int, Callable[[], None]], Session]:
    reason = tunnel.reason or default_reason(tunnel.name)
    request = SessionRequest.port_forward(
        tunnel.target,
        tunnel.port,
        tunnel.host,
        document=tunnel.document,
        parameters=tunnel.parameters,
        reason=f"{reason[: REASON_LIMIT - len(its_mark) - 1]} {its_mark}".strip(),
    )
    settings = SessionSettings(
        keep_alive=tunnel.keep_alive or None,
        buffers=Buffers(tunnel.stream_buffer, tunnel.session_buffer),
    )
    world = _surroundings(tunnel, shared, log)

    def make(number: int, changed: Callable[[], None]) -> Session:
        return Session(number, request, world, settings, log=log, changed=changed)

    return make


def _surroundings(tunnel: Tunnel, shared: Shared, log: EventLog) -> Surroundings:
    identity = identity_of(tunnel)
    control: Control = shared.controls.get(identity)
    connector = Connector(
        control,
        Liveness(tunnel.ping_interval, tunnel.dead_peer_timeout),
        lambda: shared.tls.get(identity.ca_bundle),
        log,
    )
    return Surroundings(
        control=control,
        connect=connector.connect,
        random=shared.random,
        new_id=lambda: os.urandom(16),
        wall_clock_ms=lambda: time.time_ns() // 1_000_000,
        calling=shared.limiter(identity).calling,
    )
