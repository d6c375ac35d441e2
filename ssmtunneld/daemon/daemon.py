"""The composition root: builds everything below by hand, starts it and ends it.

One event loop; per tunnel one pool of sessions and one server (``tunnel.py``), and
all of them in a set that changes with the configuration (``tunnels.py``). Each tunnel
and each of the daemon's own services is a compartment (``base/compartment.py``).
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.base.aio import run_until
from ssmtunneld.base.compartment import Defects, run_compartment
from ssmtunneld.base.folders import make_private_folder
from ssmtunneld.base.log import get_log
from ssmtunneld.base.paths import real_path
from ssmtunneld.base.sentences import with_advice
from ssmtunneld.config import Config, DaemonSettings
from ssmtunneld.config.reload import Changes, changed_keys
from ssmtunneld.daemon.access_file import AccessFile, access_file
from ssmtunneld.daemon.connection_survey import ConnectionSurvey
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.instance_lock import control_socket
from ssmtunneld.daemon.preflight import Preflight
from ssmtunneld.daemon.reload import Reloader, ending
from ssmtunneld.daemon.service_notifier import ServiceNotifier
from ssmtunneld.daemon.size_file import SizeFile, size_file
from ssmtunneld.daemon.tunnel import Tunnel
from ssmtunneld.daemon.tunnels import Tunnels
from ssmtunneld.errors import SsmtunneldError, UnknownConnection
from ssmtunneld.observe import logs
from ssmtunneld.observe.audit import AuditLog
from ssmtunneld.observe.connections import LIMIT, connections_document
from ssmtunneld.observe.history import TrafficSample
from ssmtunneld.observe.hook import StateHook
from ssmtunneld.observe.status import (
    DaemonStatus,
    TunnelStatus,
    daemon_status,
)
from ssmtunneld.serve.control_socket import Place, is_still, serve_control
from ssmtunneld.serve.http_server import HttpServer, HttpServerSettings
from ssmtunneld.serve.systemd import ServiceManager
from ssmtunneld.sessions.network_watch import NetworkWatch, open_route_socket
from ssmtunneld.version import __version__

CLOSING_TIME: Final = 3.0
"""Seconds at the end for calls that were made and that nobody waits for any more."""
ABANDON_TIME: Final = 2.5
"""Seconds after which it is said that some of them are given up."""
CONTROL_CHECK: Final = 5.0
"""Seconds between looks at the control socket's file, which cleaners can remove."""
SURVEY_BATCH: Final = 16
"""Tunnels that are looked at in one turn of the loop: about 2 ms."""


class Daemon:
    """All tunnels of a configuration, from start to a clean end.

    Args:
        config: What to run.
        instance: This daemon's name (``instance_lock.py``); ``None`` to leave the
            sessions of a daemon before it alone.
        manager: The service manager's part of the process.
        log_as: Called with the settings after a reload that changes how the log is to
            look, or how much it is to say.
        when_ready: Called when ``ready`` is set.
        claim: Where there is no ``instance``: returns its name once it is free.
        renew: Called when the control socket's file is gone; says whether we are still
            the daemon of this file.
        groups: What a reload chooses tunnels by, as ``config`` was chosen; all without.
        named: Whether the tunnels stand in a file, by which a human knows them.
        lasting: Whether another daemon of this name can come after this one, for which
            sizes of messages are kept.

    Attributes:
        ready: Set once every tunnel that is required could take connections, and
            whoever asks the daemon for its status gets an answer.
        revision: A number that changes with each stop, pause, resume, drain and reload.
    """

    def __init__(  # noqa: PLR0913 - keywords for what surrounds it
        self,
        config: Config,
        instance: str | None = None,
        manager: ServiceManager | None = None,
        log_as: Callable[[DaemonSettings], None] = lambda _: None,
        when_ready: Callable[[], None] = lambda: None,
        claim: Callable[[], Awaitable[str]] | None = None,
        renew: Callable[[], bool] = lambda: True,
        *,
        groups: Sequence[str] = (),
        named: bool = True,
        lasting: bool = True,
    ) -> None:
        self._config = config
        self._groups = tuple(groups)
        self._log_as = log_as
        self._when_ready = when_ready
        self._claim = claim
        self._renew = renew
        self._lasting = lasting
        self._log = get_log()
        self._defects = Defects(self._log)
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self.ready = asyncio.Event()
        self.revision = 0
        self._control_opened = asyncio.Event()
        manager = manager or ServiceManager.none()
        settings = config.daemon
        self._audit = AuditLog(
            settings.audit_log, self._log, pid=os.getpid(), wall_clock=_wall_clock
        )
        self._context = DaemonContext(
            start_rate=settings.start_rate,
            start_burst=settings.start_burst,
            audit=self._audit,
            close_timeout=ABANDON_TIME,
            named=named,
        )
        self._instance: str | None = None
        self._size_file: SizeFile | None = None
        self._has_instance = asyncio.Event()
        if instance is not None:
            self._take_instance(instance)
        self._preflight = Preflight(self._log)
        self._tunnels = Tunnels(config.tunnels, self._context, manager.sockets)
        self._connections = ConnectionSurvey(
            lambda: self._tunnels.with_leaving, wall_clock=_wall_clock
        )
        self._notifier = ServiceNotifier(
            manager,
            describe=self._describe,
            alive=self._is_alive,
            defects=self._defects,
        )
        self._reloader = Reloader(
            config.source,
            self._apply,
            notifier=self._notifier,
            stop=self._stop,
            defects=self._defects,
            include=config.include,
            groups=self._groups,
        )
        self._reloader.watch_file(enabled=settings.watch_config)
        self._hook = StateHook(self.survey, os.environ, self._log)
        self._hook.command = settings.on_state
        self._http = HttpServer(self, HttpServerSettings.of(settings), self._log)
        self._started = asyncio.get_running_loop().time()

    @property
    def tunnels(self) -> list[Tunnel]:
        """Those that run, in the order of the files."""
        return list(self._tunnels)

    @property
    def settings(self) -> DaemonSettings:
        """The table ``[daemon]``, as it is now."""
        return self._config.daemon

    @property
    def end_budget(self) -> float:
        """The seconds for connections to finish, and then to stop bastions."""
        return self.settings.drain_timeout + self._context.bastions.end_patience

    # Life.

    def stop(self) -> None:
        """Ask for a clean end; asked again, for an immediate one."""
        if self._stop.is_set():
            self._force.set()
        self._stop.set()
        self.revision += 1

    async def run(self) -> None:
        """Serve until :meth:`stop`, or cancellation, which does not drain.

        Raises:
            SsmtunneldError: No tunnel at all can listen, or far too few files can be
                opened.
        """
        self._log.info(
            "daemon.started",
            version=__version__,
            tunnels=len(self._tunnels),
            loop=type(asyncio.get_running_loop()).__module__.partition(".")[0],
        )
        try:
            self._take_precautions(strict=True)
            if not await self._tunnels.bind() and len(self._tunnels):
                self._give_up()
            await self._serve()
        finally:
            with self._defects.guard("end"):
                self._tunnels.close()
            async with asyncio.TaskGroup() as tasks:
                for work in (self._close_controls, self._audit.close):
                    closing = self._defects.attempt("end", work)
                    tasks.create_task(closing, name=work.__name__)
            self._log.info("daemon.stopped")

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._keep(name, part), name=name)
                for name, part in self._parts().items()
            ]
            await self._stop.wait()
            await self._defects.attempt("end", self._end)
            for task in running:
                task.cancel()

    async def _close_controls(self) -> None:
        # A call in a thread may take longer than anybody has time for.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_TIME):
                await self._context.controls.close()

    async def _end(self) -> None:
        await run_until(self._say_farewell(), self._force)
        if self._force.is_set() and (cut := self._open_connections()):
            self._log.warning("connections.cut", count=cut)

    def _parts(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return what runs until the end, by name. Each of them ends when cancelled.

        The control socket comes first: somebody can ask while the sessions are started.
        """
        return {
            "sizes": self._keep_sizes,
            "control": self._answer_operators,
            "http": self._http.run,
            "tunnels": self._tunnels.run,
            "bastions": self._context.bastions.run,
            "readiness": self._announce,
            "network": self._watch_network,
            "notifier": self._notifier.run,
            "reload": self._reloader.run,
            "hook": self._hook.run,
            "audit": self._audit.run,
        }

    async def _keep(
        self, name: str, part: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        # One that breaks must not be waited for.
        opened = {"control": self._control_opened, "http": self._http.opened}
        broke = opened[name].set if name in opened else lambda: None
        await run_compartment(name, part, self._defects, broke=broke)

    def _take_instance(self, instance: str) -> str:
        """Keep under ``instance`` what outlasts a restart; return it."""
        self._instance = instance
        requests = AccessFile(access_file(instance), self._log)
        self._context.take_instance(instance, requests)
        if self._lasting:
            sizes = self._context.message_sizes
            self._size_file = SizeFile(size_file(instance), sizes, self._log)
        self._has_instance.set()
        return instance

    async def _keep_sizes(self) -> None:
        await self._has_instance.wait()
        if self._size_file is not None:
            await self._size_file.run()

    async def _watch_network(self) -> None:
        route = open_route_socket()
        try:
            network = NetworkWatch(
                self._on_network, wall_clock=_wall_clock, route=route
            )
            await network.run()
        finally:
            if route is not None:
                route.close()

    async def _announce(self) -> None:
        await self._tunnels.wait_ready()
        # Whoever is told that we are ready may ask us the next moment.
        await self._control_opened.wait()
        await self._http.opened.wait()
        self.ready.set()
        self._notifier.ready()
        self._log.info("daemon.ready")
        with self._defects.guard("readiness"):
            self._when_ready()

    async def _say_farewell(self) -> None:
        budget = self.settings.drain_timeout
        self._tunnels.stop_accepting()
        left = self._open_connections()
        if left:
            self._log.info(
                "daemon.draining",
                connections=left,
                budget=budget,
                advice="a second signal (Ctrl-C) resets them at once",
            )
        else:
            self._log.info("daemon.draining", connections=0, budget=budget)
        self._notifier.ending()
        cut = await self._tunnels.end(budget)
        await self._context.bastions.leave()
        if cut:
            self._log.warning("connections.cut", count=cut)

    def _open_connections(self) -> int:
        return sum(tunnel.connections for tunnel in self.snapshot().tunnels)

    def _give_up(self) -> NoReturn:
        raise SsmtunneldError("no tunnel can listen on its addresses")

    def _on_network(self, kind: str) -> None:
        """Check all links; try again at once where the machine is somewhere else."""
        self._log.info("network.changed", kind=kind)
        for pool in self._context.pools:
            with pool.defects.guard("session"):
                if kind == "route":
                    pool.check()
                else:
                    pool.retry_now()

    # Reload (design D12).

    def request_reload(self) -> None:
        """Ask for a reload as soon as one can be done; its result is in the log."""
        self._reloader.request()

    async def reload(self) -> dict[str, Any]:
        """Read the configuration again and take over what has changed.

        One reload after the other. Cancelling is safe: what has been taken over stays.

        Returns:
            Names of tunnels: ``{"added", "removed", "changed", "unchanged"}``, the last
            one a number; and under ``daemon`` the keys of ``[daemon]`` that changed.

        Raises:
            ConfigError: The file cannot be used; nothing has changed.
            SsmtunneldError: The daemon is ending.
        """
        return (await self._reloader.reload()).as_document()

    async def _apply(self, config: Config) -> Changes:
        before, self._config = self._config, config
        self._take_over(config.daemon, before.daemon)
        self._take_precautions(strict=False)
        tunnels = config.tunnels
        changes = await self._tunnels.apply(tunnels, self.settings.drain_timeout)
        self.revision += 1
        return replace(changes, daemon=changed_keys(before.daemon, config.daemon))

    def _take_precautions(self, *, strict: bool) -> None:
        tunnels = self._config.enabled
        self._preflight.check_access(tunnels)
        self._context.connection_limit.limit = self._preflight.connections(
            self.settings, tunnels, strict=strict
        )

    def _take_over(self, settings: DaemonSettings, before: DaemonSettings) -> None:
        """Apply the table ``[daemon]``, where it differs from ``before``."""
        self._context.limit_starts(rate=settings.start_rate, burst=settings.start_burst)
        self._http.settings = HttpServerSettings.of(settings)
        self._hook.command = settings.on_state
        self._audit.path = settings.audit_log
        self._reloader.watch_file(enabled=settings.watch_config)
        # What an operator has chosen meanwhile stays unless the file has changed.
        old = before.log_level, before.log_format
        if old != (settings.log_level, settings.log_format):
            self._log_as(settings)

    # What an operator may ask for (``serve/control_socket.py``).

    async def pause(self, name: str) -> dict[str, Any]:
        """Let tunnel ``name`` take no connections.

        Raises:
            UnknownTunnel: There is none of this name.
            TunnelDisabled: It does not run.
            SsmtunneldError: The daemon is ending.
        """
        self._manageable(name).pause()
        self.revision += 1
        return {}

    async def resume(self, name: str) -> dict[str, Any]:
        """Let tunnel ``name`` take connections again.

        Raises:
            UnknownTunnel: There is none of this name.
            TunnelDisabled: It does not run.
            SsmtunneldError: The daemon is ending.
        """
        await self._manageable(name).resume()
        self.revision += 1
        return {}

    async def drain(self, name: str) -> dict[str, Any]:
        """Pause ``name`` and let its connections finish within ``drain_timeout``.

        Returns:
            How many connections were reset: ``{"cut": 0}``.

        Raises:
            UnknownTunnel: There is none of this name.
            TunnelDisabled: It does not run.
            SsmtunneldError: The daemon is ending.
        """
        tunnel = self._manageable(name)
        tunnel.pause()  # as the drain does first
        self.revision += 1
        drained = tunnel.drain(self.settings.drain_timeout)
        cut = await run_until(drained, self._stop)
        return {"cut": cut or 0}

    async def request_access(self, name: str, reason: str) -> dict[str, Any]:
        """Ask for access to the node of tunnel ``name``.

        Returns:
            The request: ``{"id": "oi-…", "target": "i-…"}``.

        Raises:
            UnknownTunnel: There is none of this name.
            AwsError: The node cannot be found, or the service said no.
            SsmtunneldError: The daemon is ending, a request is undecided already, or
                the tunnel needs none.
        """
        request = await self._manageable(name).request_access(reason)
        return {"id": request.id, "target": request.target}

    async def connections(
        self, name: str | None = None, limit: int = LIMIT
    ) -> dict[str, Any]:
        """Return the open connections, of tunnel ``name`` or of all.

        Looked at once a second at most, whoever asks. Cancelling is safe.

        Returns:
            The document of ``observe/connections.py``, with ``limit`` of them at most.

        Raises:
            UnknownTunnel: There is no tunnel of this name.
        """
        if name is not None:
            self._tunnels.check(name)
        found = await self._connections.get()
        chosen = [each for each in found if name in {None, each.tunnel}]
        # Ten thousand take a third of a second to write down.
        return await asyncio.to_thread(connections_document, chosen, limit)

    async def kill(self, name: str) -> dict[str, Any]:
        """Reset the connection called ``name``.

        Returns:
            Its tunnel: ``{"tunnel": "db"}``.

        Raises:
            UnknownConnection: There is none, or not any more.
        """
        for tunnel in self._tunnels.with_leaving:
            if tunnel.kill(name):
                return {"tunnel": tunnel.settings.name}
        raise UnknownConnection(name)

    async def wake(self, name: str) -> dict[str, Any]:
        """Start the target of tunnel ``name``, if it sleeps.

        Returns:
            Whether it sleeps, or is on its way up: ``{"waking": true}``.

        Raises:
            UnknownTunnel: There is none of this name.
            TunnelDisabled: It does not run.
            SsmtunneldError: The daemon is ending.
        """
        return {"waking": self._manageable(name).wake()}

    def wake_for(self, place: Place) -> str | None:
        """Start the target of a tunnel to ``place``; return the tunnel's name.

        None if no tunnel leads there, or none whose target sleeps.
        """
        waking = (t.settings.name for t in self._leading_to(place) if t.wake())
        return next(waking, None)

    def connect(self, place: Place, uid: int | None) -> socket.socket | None:
        """Return one end of a new connection to ``place``, through a warm session.

        It counts as a connection of the tunnel like any other.

        Args:
            place: Where to.
            uid: The user who asks; None where the platform cannot tell.

        Returns:
            A socket, owned by the caller; None if no tunnel leads there at once.
        """
        for tunnel in self._leading_to(place):
            sock = tunnel.connect(uid)
            if sock is not None:
                return sock
        return None

    def _leading_to(self, place: Place) -> list[Tunnel]:
        if self._stop.is_set():
            return []
        if place.config not in {"", str(real_path(self._config.source))}:
            return []
        return [
            tunnel
            for tunnel in self._tunnels
            if tunnel.leads_to(place.target, place.port, place.endpoint)
        ]

    def _manageable(self, name: str) -> Tunnel:
        if self._stop.is_set():
            raise ending()
        return self._tunnels.get(name)

    async def _answer_operators(self) -> None:
        """Answer operators until cancelled; once no other daemon of this file does."""
        instance = self._instance
        if instance is None:
            self._control_opened.set()
            if self._claim is None:
                return
            instance = self._take_instance(await self._claim())
            self._log.info("instance.claimed", config=str(self._config.source))
        await self._serve_control(control_socket(instance))

    async def _serve_control(self, path: Path) -> None:
        told = ""
        while True:
            try:
                make_private_folder(path.parent)
                async with serve_control(path, self) as ours:
                    told = ""
                    self._log.info("control.bound", path=str(path))
                    self._control_opened.set()
                    await _until_gone(path, ours)
                self._log.warning("control.lost", path=str(path))
                reason = "" if self._renew() else "another daemon runs this file"
            except OSError as error:
                reason = str(error)
            while reason:
                # Once, however often it is tried.
                if reason != told:
                    self._log.warning("control.failed", path=str(path), reason=reason)
                told = reason
                self._control_opened.set()
                await asyncio.sleep(CONTROL_CHECK)
                reason = "" if self._renew() else reason

    # Observation.

    def snapshot(self) -> DaemonStatus:
        """Return how everything is at this moment."""
        now = asyncio.get_running_loop().time()
        found = [self._tunnels.status_of(entry, now) for entry in self._tunnels.entries]
        return self._status_with(found, now)

    async def survey(self) -> DaemonStatus:
        """Return how everything is, as :meth:`snapshot`, without holding up the loop.

        For whoever asks every second: 500 tunnels take some 50 ms. Cancelling is safe.
        """
        loop = asyncio.get_running_loop()
        found: list[TunnelStatus] = []
        for entry in self._tunnels.entries:
            found.append(self._tunnels.status_of(entry, loop.time()))
            if len(found) % SURVEY_BATCH == 0:
                await asyncio.sleep(0)
        return self._status_with(found, loop.time())

    def _status_with(self, tunnels: list[TunnelStatus], now: float) -> DaemonStatus:
        return daemon_status(
            pid=os.getpid(),
            config=str(real_path(self._config.source)),
            config_error=self._reloader.refusal,
            groups=self._groups,
            uptime=now - self._started,
            draining=self._stop.is_set(),
            tunnels=tuple(tunnels),
            identities=self._context.identities(
                (m.settings.name, Identity.of(m.settings)) for m in self._tunnels
            ),
            defects=(*self._defects.snapshot(now), *logs.defects.snapshot(now)),
            audit=self._audit.status(),
        )

    def status(self) -> dict[str, Any]:
        """Return the status document (``observe/status.py``)."""
        return self.snapshot().as_document()

    def readings(self) -> Mapping[str, TrafficSample]:
        """Return the counters of all tunnels; asked every second."""
        return self._tunnels.readings()

    def _is_alive(self) -> bool:
        if self._stop.is_set():
            return True
        return self._tunnels.accepting

    def _describe(self) -> str:
        found = [m for m in self.snapshot().tunnels if m.enabled]
        usable = sum(m.usable for m in found)
        troubles = [m for m in found if m.reason]
        plural = "s" * (len(found) != 1)
        sentence = f"{len(found)} tunnel{plural}, {usable} usable"
        if troubles:
            first = troubles[0]
            why = with_advice(first.reason, first.advice)
            sentence += f"; {first.name}: {why}"
        if self._reloader.refusal:
            refusal = self._reloader.refusal
            sentence += f"; the changed configuration was rejected: {refusal}"
        return sentence


async def _until_gone(path: Path, ours: os.stat_result) -> None:
    """Return once ``path`` is not ``ours`` any more. Cancelling is safe."""
    while True:
        await asyncio.sleep(CONTROL_CHECK)
        # In a thread: it may lie on a server that does not answer.
        if not await asyncio.to_thread(is_still, path, ours):
            return


def _wall_clock() -> float:
    return time.time_ns() / 1e9
