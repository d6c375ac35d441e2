"""One tunnel of the configuration, at work: a server in front of a pool."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

from ssmtunneld.aws.api.endpoints import configured_endpoint
from ssmtunneld.base.aio import run_until
from ssmtunneld.base.compartment import Defects, run_compartment
from ssmtunneld.base.duplex import Duplex, EagerDuplex
from ssmtunneld.base.log import get_log
from ssmtunneld.base.small_event import SmallEvent
from ssmtunneld.config import Address, TunnelSettings
from ssmtunneld.config.destinations import Destination
from ssmtunneld.config.reload import needs_sessions
from ssmtunneld.daemon.backend import Backend, BackendDependencies
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.dynamic_backend import DynamicBackend
from ssmtunneld.errors import AddressInUse, InheritedSocketRefused, SsmtunneldError
from ssmtunneld.listener.access import allowed_uids
from ssmtunneld.listener.client import Client
from ssmtunneld.listener.connection import StreamSource
from ssmtunneld.listener.inherited import check_inherited
from ssmtunneld.listener.proxy.frontend import ProxyFrontend, ProxyFrontendSettings
from ssmtunneld.listener.server import Server, ServerSettings
from ssmtunneld.observe.audit import TunnelAudit
from ssmtunneld.observe.history import TrafficSample
from ssmtunneld.observe.probe import Prober, ProbeSettings
from ssmtunneld.observe.status import StatusInputs, TunnelStatus, tunnel_status
from ssmtunneld.sessions.counters import PoolSnapshot, SessionCounters
from ssmtunneld.sessions.node_access import AccessRequest
from ssmtunneld.sessions.pool import Pool, PoolRetired
from ssmtunneld.transport.streams import StreamDuplex

FILE_CHECK: Final = 5.0
"""Seconds between looks at the files of Unix sockets, which cleaners can remove."""
REBIND_INTERVAL: Final = 5.0
"""Seconds between attempts to listen on an address that another process holds."""
SWITCH_PATIENCE: Final = 15.0
"""Seconds that new connections go on using sessions with the settings of before, at
most, until one with the new settings is ready."""


class Tunnel:
    """One tunnel: its listeners, its sessions, and what joins them.

    Attributes:
        tunnel: Its settings.
        log: Bound to its name.
        defects: What broke in it that nobody foresaw.
        server: Its listeners and connections.
        unbound: The reason why an address is not bound; ``None`` while all are.
        paused: Whether an operator wants no new connections.
    """

    def __init__(
        self,
        tunnel: TunnelSettings,
        context: DaemonContext,
        inherited: Sequence[socket.socket] = (),
    ) -> None:
        """Make the tunnel; ``inherited`` sockets are used instead of its addresses.

        They are not closed: connections wait in them while nobody accepts.
        """
        self.settings = tunnel
        self.log = get_log(tunnel=tunnel.name)
        self.defects = Defects(self.log)
        self.unbound: AddressInUse | InheritedSocketRefused | OSError | None = None
        self.paused = False
        self._inherited = tuple(inherited)
        self._dependencies = BackendDependencies(
            context, self.log, SessionCounters(), self.defects
        )
        self._backend = self._make_backend(tunnel)
        self._retired: list[Backend | DynamicBackend] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._binding = asyncio.Lock()
        self._stirred = SmallEvent()
        self._opened = SmallEvent()
        self._resumed = SmallEvent()
        self._begun = False
        self._switched = SmallEvent()
        self._frontend = _make_frontend(tunnel, self._open_stream)
        self._audit = self._make_audit(context)
        self.server = Server(
            name=tunnel.name,
            addresses=self._addresses(tunnel),
            opening=self._frontend
            or StreamSource(self._stream_at_once, self._open_stream),
            settings=_server_settings(tunnel),
            log=self.log,
            quota=context.connection_limit.join(tunnel.max_connections),
            defects=self.defects,
            names=context.name_connection,
            observer=self._audit,
        )
        self.prober = Prober(
            _probe_settings(tunnel),
            self._open_probe,
            self._wait_ready,
            log=self.log,
            random=context.random,
        )

    def _make_audit(self, context: DaemonContext) -> TunnelAudit | None:
        if context.audit is None:
            return None
        return TunnelAudit(context.audit, self.settings.name, self.fixed_destination)

    @property
    def fixed_destination(self) -> str | None:
        """Its destination, as text; None if its clients name it."""
        return None if self.settings.is_dynamic else self.settings.destination

    def _make_backend(
        self, tunnel: TunnelSettings, *, first: bool = True
    ) -> Backend | DynamicBackend:
        make = DynamicBackend if tunnel.is_dynamic else Backend
        return make(tunnel, self._dependencies, first=first)

    @property
    def pool(self) -> Pool:
        """The sessions that take new connections; where they have one destination."""
        assert isinstance(self._backend, Backend), "clients name the destination"
        return self._backend.pool

    @property
    def pools(self) -> list[Pool | DynamicBackend]:
        """All that have sessions: before a change of settings, and now."""
        return [backend.pool for backend in (*self._retired, self._backend)]

    def _addresses(self, tunnel: TunnelSettings) -> Sequence[Address | socket.socket]:
        if self.paused or self._refusal(tunnel) is not None:
            return ()
        return self._inherited or tunnel.listen

    def _refusal(self, tunnel: TunnelSettings) -> InheritedSocketRefused | None:
        """Return why an inherited socket must not be used with these settings."""
        try:
            for sock in self._inherited:
                check_inherited(
                    sock,
                    listen=tunnel.listen,
                    allow=tunnel.allow,
                    socket_mode=tunnel.socket_mode,
                )
        except InheritedSocketRefused as refusal:
            return refusal
        return None

    async def _listen(self) -> tuple[str, ...]:
        if self._inherited:
            # Modes and settings change; all sockets of a tunnel are used, or none.
            self.server.addresses = self._addresses(self.settings)
            refusal = self._refusal(self.settings)
            if refusal is not None and not self.paused:
                raise refusal
        return await self.server.bind()

    async def _open_stream(self, destination: Destination | None = None) -> Duplex:
        loop = asyncio.get_running_loop()
        timeout = self.settings.connect_timeout
        deadline = loop.time() + timeout
        while True:
            try:
                return await _open_stream(self._backend, destination, timeout)
            except PoolRetired:
                # Its successor is there already.
                timeout = max(0.0, deadline - loop.time())

    def _stream_at_once(self) -> EagerDuplex | None:
        backend = self._backend
        return backend.stream_at_once() if isinstance(backend, Backend) else None

    @property
    def usable(self) -> bool:
        """True if a session is ready, and the destination has not failed its probe."""
        return self._backend.pool.ready and self.prober.usable

    async def wait_usable(self) -> None:
        """Return once the tunnel is ready for connections. Cancelling is safe."""
        await self._wait_ready()
        await self.prober.wait_usable()

    async def _wait_ready(self) -> None:
        # Whichever backend's the session is.
        while not self._backend.pool.ready:
            self._switched.clear()
            await run_until(self._backend.pool.wait_ready(), self._switched)

    def leads_to(self, target: str, port: int, endpoint: str) -> bool:
        """Return True if its connections end at ``port`` of ``target`` itself.

        Args:
            target: As the configuration spells it.
            port: On the target.
            endpoint: The AWS endpoint at which it is that target; empty for any.
        """
        settings = self.settings
        if settings.is_dynamic or settings.target != target:
            return False
        if settings.destination != f"localhost:{port}":
            return False
        ours = settings.endpoint_url or configured_endpoint(os.environ)
        return not endpoint or ours.rstrip("/") == endpoint.rstrip("/")

    def connect(self, uid: int | None) -> socket.socket | None:
        """Return the client's end of a new connection; None if it would have to wait.

        Args:
            uid: The user who asks; None where the platform cannot tell.
        """
        if self.paused or not self.usable or not _is_permitted(self._backend):
            return None
        peer = "a user of this machine" if uid is None else f"uid {uid}"
        return self.server.connect(peer, Client(uid=uid))

    def wake(self) -> bool:
        """Start the target, if it sleeps; return False if there is no need.

        It is waited for as long as for a connection.
        """
        bastion = self._backend.bastion
        if bastion is None or bastion.awake or self.paused:
            return False
        bastion.wake(self.settings.connect_timeout)
        return True

    def _open_probe(self) -> StreamDuplex | None:
        return self._backend.pool.open_probe()

    # Life.

    async def bind(self) -> bool:
        """Listen on the tunnel's addresses; say in the log if that is impossible.

        Cancelling is safe.
        """
        async with self._binding:
            try:
                names = await self._listen()
            except (AddressInUse, InheritedSocketRefused, OSError) as error:
                self.unbound = error
                advice = error.advice if isinstance(error, SsmtunneldError) else ""
                self.log.error("listener.failed", reason=str(error), advice=advice)
                self._stirred.set()
                return False
            self.unbound = None
            self._stirred.set()
        for name in names:
            self.log.info("listener.bound", address=name)
        self._opened.set()
        return True

    async def run(self) -> None:
        """Serve until cancelled; keep trying to listen where that is impossible.

        No session is started before every address is ours (design D10). Cancelling
        resets all connections and terminates all sessions. After a defect it can be
        called again.
        """
        parts = {
            "addresses": self._keep_bound,
            "listener": self.server.serve,
            "sessions": self._begin,
            "probe": self.prober.run,
        }
        self._retired.clear()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for part, work in parts.items():
                    self._start(part, work)
        except asyncio.CancelledError:
            self.server.stop_accepting()
            raise

    def _start(self, part: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the tunnel as a compartment."""
        assert self._tasks is not None, "a part before run()"
        running = run_compartment(part, work, self.defects)
        self._tasks.create_task(running, name=f"{self.settings.name} {part}")

    async def _keep_bound(self) -> None:
        while True:
            while self._has_addresses:
                self._stirred.clear()
                await self._stirred_or_lost()
            await asyncio.sleep(REBIND_INTERVAL)
            if not self._has_addresses:
                await self.bind()

    async def _stirred_or_lost(self) -> None:
        """Wait for a change of addresses; look after files that cleaners can remove."""
        interval = FILE_CHECK if self.server.has_files else None
        with suppress(TimeoutError):
            async with asyncio.timeout(interval):
                await self._stirred.wait()
        for name in self.server.forget_lost():
            self.log.warning("listener.lost", address=name)

    @property
    def _has_addresses(self) -> bool:
        # A refused socket is not an address that is missing, but may be put right.
        return self.paused or (self.server.complete and self.unbound is None)

    async def _begin(self) -> None:
        await self._opened.wait()
        self._begun = True
        # Of this moment: another one may have taken its place when it is started again.
        self._start("sessions", partial(self._keep, self._backend))

    async def _keep(self, backend: Backend | DynamicBackend) -> None:
        await backend.run()
        if backend in self._retired:
            self._retired.remove(backend)

    async def end(self, budget: float) -> int:
        """Give addresses back, let connections finish, end all sessions.

        Cancel :meth:`run` afterwards.

        Args:
            budget: Seconds that connections have to finish; then they are reset.

        Returns:
            How many were reset.
        """
        cut = await self.defects.attempt("listener", partial(self.server.drain, budget))
        async with asyncio.TaskGroup() as tasks:
            for pool in self.pools:
                stopping = self.defects.attempt("sessions", pool.stop)
                tasks.create_task(stopping, name=self.settings.name)
        return cut or 0

    # Changes.

    def release(self, tunnel: TunnelSettings) -> None:
        """Give back the addresses that ``tunnel`` does not have."""
        if not self._inherited:
            kept = [a for a in self.server.addresses if a in tunnel.listen]
            self.server.addresses = kept

    async def apply(self, tunnel: TunnelSettings) -> None:
        """Take over other settings; what has not changed is not touched.

        Where they need other sessions, returns when these take the new connections:
        once one is ready, or in trouble, or after ``SWITCH_PATIENCE``. Connections that
        are open keep their sessions until they end. An address that cannot be bound is
        tried again while the tunnel runs.
        """
        before, self.settings = self.settings, tunnel
        self.server.settings = _server_settings(tunnel)
        self.prober.settings = _probe_settings(tunnel)
        if self._audit is not None:
            self._audit.fixed = self.fixed_destination
        if self._frontend is not None:
            self._frontend.settings = _frontend_settings(tunnel)
        self.server.addresses = self._addresses(tunnel)
        await self.bind()
        if needs_sessions(before, tunnel):
            await self._replace_sessions(tunnel)
        else:
            self._backend.tunnel = tunnel

    async def _replace_sessions(self, tunnel: TunnelSettings) -> None:
        old = self._backend
        new = self._make_backend(tunnel, first=False)
        new.resting = self.paused
        if self._tasks is None or not self._begun:
            self._use(new)  # the old one has no sessions
            return
        self._start("sessions", partial(self._keep, new))
        try:
            expected = old.pool.ready and tunnel.warm and not self.paused
            if expected and _is_permitted(new) and isinstance(new, Backend):
                await _settle(new.pool, min(SWITCH_PATIENCE, tunnel.connect_timeout))
        finally:
            self._use(new)
            self._retired.append(old)
            old.pool.retire()

    def _use(self, backend: Backend | DynamicBackend) -> None:
        self._backend = backend
        self._switched.set()
        self.prober.reset()

    def pause(self) -> None:
        """Take no new connections until :meth:`resume`; idempotent.

        Addresses are given back: whoever connects is refused. Inherited sockets belong
        to the service manager: whoever connects waits in them. Connections go on, and
        sessions are given up once no connection needs them.
        """
        if self.paused:
            return
        self.paused = True
        self._resumed.clear()
        self.server.addresses = self._addresses(self.settings)
        self._backend.resting = True
        self.log.info("tunnel.paused")

    async def resume(self) -> None:
        """Take connections again; idempotent. Ends a :meth:`drain` without harm."""
        if not self.paused:
            return
        self.paused = False
        self._resumed.set()
        self._backend.resting = False
        self.server.addresses = self._addresses(self.settings)
        self.log.info("tunnel.resumed")
        await self.bind()

    async def drain(self, budget: float) -> int:
        """Pause, let connections finish, then reset those that did not.

        Returns when all sessions are over, or when the tunnel is resumed meanwhile.

        Args:
            budget: Seconds that connections have to finish.

        Returns:
            How many connections were reset.
        """
        self.pause()
        return await run_until(self._drain(budget), self._resumed) or 0

    async def _drain(self, budget: float) -> int:
        cut = await self.server.finish(budget)
        self.log.info("tunnel.drained", cut=cut)
        for pool in self.pools:
            await pool.emptied()
        return cut

    async def request_access(self, reason: str) -> AccessRequest:
        """Ask for access to the node, and return the request.

        Raises:
            AwsError: The node cannot be found, or the service said no.
            SsmtunneldError: A request is undecided already, or none is needed.
        """
        access = self._backend.access
        if access is None:
            needless = SsmtunneldError(f"{self.settings.name} needs no access request")
            needless.advice = 'set access = "request" for nodes that ask for one'
            raise needless
        return await access.ask(reason)

    def kill(self, name: str) -> bool:
        """Reset the connection called ``name``; return whether there is one."""
        connection = self.server.kill(name)
        if connection is None:
            return False
        self.log.info("connection.killed", id=name, peer=connection.peer)
        return True

    # Observation.

    def status(self, now: float) -> TunnelStatus:
        """Return how the tunnel is at ``now``, on the loop's clock."""
        tunnel = self.settings
        backend = self._backend
        subject = StatusInputs(
            name=tunnel.name,
            target=tunnel.target,
            destination=tunnel.destination,
            required=tunnel.required,
            pool=self._snapshot(),
            login=self._backend.login,
            access=self._backend.access,
            bastion=self._backend.bastion,
            server=self.server,
            unbound=self.unbound,
            paused=self.paused,
            defects=self.defects.snapshot(now),
            probe=self.prober.status(now),
            mode=tunnel.mode,
            destinations=(
                backend.listing() if isinstance(backend, DynamicBackend) else ()
            ),
            groups=tunnel.groups,
        )
        return tunnel_status(subject, now)

    def _snapshot(self) -> PoolSnapshot:
        snapshot = self._backend.pool.snapshot()
        if not self._retired:
            return snapshot
        older = [m for old in self._retired for m in old.pool.snapshot().members]
        return replace(snapshot, members=(*older, *snapshot.members))

    def reading(self) -> TrafficSample:
        """Return what the status page plots; asked every second."""
        sent, received = self.server.moved()
        return TrafficSample(sent, received, self._backend.pool.rtt)


async def _open_stream(
    backend: Backend | DynamicBackend, destination: Destination | None, timeout: float
) -> Duplex:
    if isinstance(backend, DynamicBackend):
        assert destination is not None, "a dynamic tunnel's server asks its clients"
        return await backend.open_stream(destination, timeout)
    return await backend.open_stream(timeout)


def _is_permitted(backend: Backend | DynamicBackend) -> bool:
    """Return True unless access to the node is missing, or the node is asleep."""
    if backend.bastion is not None and not backend.bastion.awake:
        return False
    return backend.access is None or backend.access.is_open


async def _settle(pool: Pool, patience: float) -> None:
    """Wait until a session is ready or in trouble, for a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await pool.wait_for(lambda: pool.ready or pool.trouble is not None)


def _server_settings(tunnel: TunnelSettings) -> ServerSettings:
    return ServerSettings(
        linger=tunnel.linger,
        max_connections=tunnel.max_connections,
        allow=tunnel.allow,
        allow_uids=allowed_uids(tunnel.allow_users),
        socket_mode=tunnel.socket_mode,
        destination="" if tunnel.is_dynamic else tunnel.destination,
    )


def _make_frontend(
    tunnel: TunnelSettings, open_stream: Callable[[Destination], Awaitable[Duplex]]
) -> ProxyFrontend | None:
    if not tunnel.is_dynamic:
        return None
    return ProxyFrontend(_frontend_settings(tunnel), open_stream)


def _frontend_settings(tunnel: TunnelSettings) -> ProxyFrontendSettings:
    assert tunnel.mode != "tcp", "replaced by another tunnel"
    return ProxyFrontendSettings(tunnel.mode, tunnel.destinations)


def _probe_settings(tunnel: TunnelSettings) -> ProbeSettings | None:
    if tunnel.probe is None:
        return None
    return ProbeSettings(
        tunnel.probe,
        tunnel.probe_interval,
        tunnel.probe_timeout,
        host=tunnel.host or "localhost",
        expected=tunnel.warm > 0 and tunnel.keep_alive is not False,
    )
