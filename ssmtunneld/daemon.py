"""The composition root: builds everything below by hand, starts it and ends it.

One event loop; per mapping one pool of sessions and one server. A mapping's trouble is
its own: nothing that happens to one stops another (design D11).
"""

import asyncio
import getpass
import os
import secrets
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Final, NoReturn

from ssmtunneld import __version__
from ssmtunneld.aws.control import Control, Identity, SessionRequest
from ssmtunneld.aws.ssm import ControlRegistry
from ssmtunneld.config import Config, Tunnel
from ssmtunneld.duplex import Duplex
from ssmtunneld.errors import AddressInUse, SsmtunneldError
from ssmtunneld.listener.server import Server
from ssmtunneld.log import EventLog, get_log
from ssmtunneld.transport.streams import Buffers
from ssmtunneld.transport.websocket import Liveness
from ssmtunneld.tunnel.connect import Connector
from ssmtunneld.tunnel.limiter import StartLimiter
from ssmtunneld.tunnel.plan import Policy
from ssmtunneld.tunnel.pool import Pool
from ssmtunneld.tunnel.session import Session, SessionSettings, Surroundings

REBIND_INTERVAL: Final = 5.0
"""Seconds between attempts to listen on an address that another process holds."""


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
    """What all mappings of a process have in common."""

    def __init__(self, *, start_rate: float, start_burst: int) -> None:
        self.controls = ControlRegistry()
        self.tls = TlsContexts(os.environ.get("AWS_CA_BUNDLE"))
        # Only jitter depends on it.
        self.random = Random(secrets.randbits(64))  # noqa: S311 - not a secret
        self._start_rate = start_rate
        self._start_burst = start_burst
        self._limiters: dict[tuple[str | None, ...], StartLimiter] = {}

    def limiter(self, identity: Identity) -> StartLimiter:
        """Return the limiter of the identity's account and region."""
        key = (identity.profile, identity.region, identity.endpoint_url)
        if key not in self._limiters:
            self._limiters[key] = StartLimiter(self._start_rate, self._start_burst)
        return self._limiters[key]


class Mapping:
    """One tunnel of the configuration, at work: a server in front of a pool."""

    def __init__(self, tunnel: Tunnel, shared: Shared) -> None:
        self.tunnel = tunnel
        self.log = get_log(mapping=tunnel.name)
        identity = Identity(
            profile=tunnel.profile,
            region=tunnel.region,
            endpoint_url=tunnel.endpoint_url,
            ssmmessages_endpoint=tunnel.ssmmessages_endpoint,
            ca_bundle=str(tunnel.ca_bundle) if tunnel.ca_bundle else None,
        )
        control = shared.controls.get(identity)
        self.pool = Pool(
            tunnel.name,
            _session_factory(tunnel, control, shared, identity, self.log),
            Policy(
                warm=tunnel.warm,
                max_sessions=tunnel.max_sessions,
                streams_per_session=tunnel.streams_per_session,
                idle_close=tunnel.idle_close,
            ),
            limiter=shared.limiter(identity),
            random=shared.random,
            log=self.log,
        )
        self.server = Server(
            name=tunnel.name,
            addresses=tunnel.listen,
            open_stream=self._open_stream,
            linger=tunnel.linger,
            max_connections=tunnel.max_connections,
            allow=tunnel.allow,
            socket_mode=tunnel.socket_mode,
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

    async def run(self, *, bound: bool) -> None:
        """Serve until cancelled; keep trying to listen where that failed at first."""
        while not bound:
            await asyncio.sleep(REBIND_INTERVAL)
            bound = await self.bind()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.pool.run(), name=f"{self.tunnel.name} pool")
            tasks.create_task(self.server.serve(), name=f"{self.tunnel.name} server")


def _session_factory(
    tunnel: Tunnel,
    control: Control,
    shared: Shared,
    identity: Identity,
    log: EventLog,
) -> Callable[[int, Callable[[], None]], Session]:
    request = SessionRequest.port_forward(
        tunnel.target,
        tunnel.port,
        tunnel.host,
        document=tunnel.document,
        parameters=tunnel.parameters,
        reason=tunnel.reason or default_reason(tunnel.name),
    )
    liveness = Liveness(tunnel.ping_interval, tunnel.dead_peer_timeout)
    connector = Connector(
        control, liveness, lambda: shared.tls.get(identity.ca_bundle), log
    )
    settings = SessionSettings(
        keep_alive=tunnel.keep_alive or None,
        buffers=Buffers(tunnel.stream_buffer, tunnel.session_buffer),
    )
    world = Surroundings(
        control=control,
        connect=connector.connect,
        random=shared.random,
        new_id=lambda: os.urandom(16),
        wall_clock_ms=lambda: time.time_ns() // 1_000_000,
    )

    def make(number: int, changed: Callable[[], None]) -> Session:
        return Session(number, request, world, settings, log=log, changed=changed)

    return make


def default_reason(name: str) -> str:
    """Return what a session of mapping ``name`` says of itself in the audit log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = str(os.getuid())
    host = socket.gethostname().partition(".")[0]
    return f"ssmtunneld/{__version__} {user}@{host} tunnel {name}"


class Daemon:
    """All mappings of a configuration, from start to a clean end."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._log = get_log()
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self.ready = asyncio.Event()
        """Set once every mapping that is required could take connections."""
        self.mappings: list[Mapping] = []

    def stop(self) -> None:
        """Ask for a clean end; asked again, for an immediate one."""
        if self._stop.is_set():
            self._force.set()
        self._stop.set()

    async def run(self) -> None:
        """Serve until :meth:`stop`, or cancellation, which does not drain.

        Raises:
            SsmtunneldError: No mapping at all can listen.
        """
        settings = self._config.daemon
        shared = Shared(
            start_rate=settings.start_rate, start_burst=settings.start_burst
        )
        self.mappings = [Mapping(t, shared) for t in self._config.tunnels]
        self._log.info(
            "daemon.started", version=__version__, mappings=len(self.mappings)
        )
        try:
            # Before any session is asked for: a taken port costs nothing (D10).
            bound = [await mapping.bind() for mapping in self.mappings]
            if not any(bound):
                self._give_up()
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(m.run(bound=b), name=m.tunnel.name)
                    for m, b in zip(self.mappings, bound, strict=True)
                ]
                running.append(tasks.create_task(self._announce(), name="readiness"))
                await self._stop.wait()
                await self._drain()
                for task in running:
                    task.cancel()
        finally:
            await shared.controls.close()
            self._log.info("daemon.stopped")

    def _give_up(self) -> NoReturn:
        raise SsmtunneldError("no mapping can listen on its addresses")

    async def _announce(self) -> None:
        for mapping in self.mappings:
            if mapping.tunnel.required and mapping.tunnel.warm:
                await mapping.pool.wait_ready()
        self.ready.set()
        self._log.info("daemon.ready")

    async def _drain(self) -> None:
        """End politely; at once if asked to stop again."""
        async with asyncio.TaskGroup() as tasks:
            farewell = tasks.create_task(self._say_farewell(), name="farewell")
            forced = tasks.create_task(self._force.wait(), name="force")
            await asyncio.wait({farewell, forced}, return_when="FIRST_COMPLETED")
            farewell.cancel()
            forced.cancel()

    async def _say_farewell(self) -> None:
        budget = self._config.daemon.drain_timeout
        self._log.info("daemon.draining", budget=budget)
        async with asyncio.TaskGroup() as tasks:
            drains = [
                tasks.create_task(m.server.drain(budget), name=m.tunnel.name)
                for m in self.mappings
            ]
        cut = sum(drain.result() for drain in drains)
        if cut:
            self._log.warning("connections.cut", count=cut)
        async with asyncio.TaskGroup() as tasks:
            for mapping in self.mappings:
                tasks.create_task(mapping.pool.stop(), name=mapping.tunnel.name)


@contextmanager
def stop_on_signals(daemon: Daemon) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop ``daemon``: once to drain, twice to end at once."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def run_daemon(config: Config) -> None:
    """Run the daemon until a signal ends it; uvloop where it imports.

    Raises:
        SsmtunneldError: It could not start.
    """

    async def main() -> None:
        daemon = Daemon(config)
        with stop_on_signals(daemon):
            await daemon.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes an event loop: uvloop's, or ``None`` for the default."""
    try:
        import uvloop  # noqa: PLC0415 - optional: it has no wheels for some platforms
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
