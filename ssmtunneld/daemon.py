"""The composition root: builds everything below by hand, starts it and ends it.

One event loop; per mapping one pool of sessions and one server (``mapping.py``), and
all of them in a fleet that changes with the configuration (``fleet.py``). Each mapping
and each of the daemon's own services is a compartment (``base/compartment.py``).
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from ssmtunneld.backend import identity_of
from ssmtunneld.base.compartment import Defects, run_compartment
from ssmtunneld.config import Config, DaemonSettings
from ssmtunneld.config.reload import Changes
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.fleet import Fleet
from ssmtunneld.herald import Herald
from ssmtunneld.instance import control_socket
from ssmtunneld.log import get_log
from ssmtunneld.mapping import Mapping as RunningMapping
from ssmtunneld.ops.front import Front, FrontSettings
from ssmtunneld.ops.history import Reading
from ssmtunneld.ops.hook import StateHook
from ssmtunneld.ops.status import (
    DaemonStatus,
    MappingStatus,
    daemon_status,
)
from ssmtunneld.ops.systemd import ServiceManager
from ssmtunneld.precautions import Precautions
from ssmtunneld.race import unless
from ssmtunneld.reload import Reloader, ending
from ssmtunneld.shared import Shared
from ssmtunneld.tunnel.network import NetworkWatch, open_route_socket
from ssmtunneld.version import __version__

CLOSING_TIME: Final = 3.0
"""Seconds at the end for calls that were made and that nobody waits for any more."""
SURVEY_BATCH: Final = 16
"""Mappings that are looked at in one turn of the loop: about 2 ms."""


class Daemon:
    """All mappings of a configuration, from start to a clean end.

    Args:
        config: What to run.
        instance: This daemon's name (``instance.py``); ``None`` to leave the sessions
            of a daemon before it alone.
        manager: The service manager's part of the process.
        log_as: Called with the settings after a reload that changes how the log is to
            look, or how much it is to say.
        when_ready: Called when ``ready`` is set.
        claim: Where there is no ``instance``: returns its name once it is free.

    Attributes:
        ready: Set once every mapping that is required could take connections, and
            whoever asks the daemon for its status gets an answer.
    """

    def __init__(
        self,
        config: Config,
        instance: str | None = None,
        manager: ServiceManager | None = None,
        log_as: Callable[[DaemonSettings], None] = lambda _: None,
        when_ready: Callable[[], None] = lambda: None,
        claim: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._config = config
        self._instance = instance
        self._log_as = log_as
        self._when_ready = when_ready
        self._claim = claim
        self._log = get_log()
        self._defects = Defects(self._log)
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self.ready = asyncio.Event()
        self._control_opened = asyncio.Event()
        manager = manager or ServiceManager.none()
        settings = config.daemon
        self._shared = Shared(
            start_rate=settings.start_rate,
            start_burst=settings.start_burst,
            instance=instance,
        )
        self._precautions = Precautions(self._log)
        self._fleet = Fleet(config.tunnels, self._shared, manager.sockets)
        self._herald = Herald(
            manager,
            sentence=self._sentence,
            alive=self._is_alive,
            defects=self._defects,
        )
        self._reloader = Reloader(
            config.source,
            self._apply,
            herald=self._herald,
            stop=self._stop,
            defects=self._defects,
        )
        self._reloader.watch_file(enabled=settings.watch_config)
        self._hook = StateHook(self.survey, os.environ, self._log)
        self._hook.command = settings.on_state
        self._front = Front(self, FrontSettings.of(settings), self._log)
        self._started = asyncio.get_running_loop().time()

    @property
    def mappings(self) -> list[RunningMapping]:
        """Those that run, in the order of the file."""
        return list(self._fleet)

    @property
    def settings(self) -> DaemonSettings:
        """The table ``[daemon]``, as it is now."""
        return self._config.daemon

    # Life.

    def stop(self) -> None:
        """Ask for a clean end; asked again, for an immediate one."""
        if self._stop.is_set():
            self._force.set()
        self._stop.set()

    async def run(self) -> None:
        """Serve until :meth:`stop`, or cancellation, which does not drain.

        Raises:
            SsmtunneldError: No mapping at all can listen, or far too few files can be
                opened.
        """
        self._log.info(
            "daemon.started",
            version=__version__,
            mappings=len(self._fleet),
            loop=type(asyncio.get_running_loop()).__module__.partition(".")[0],
        )
        try:
            self._take_precautions(strict=True)
            if not await self._fleet.bind():
                self._give_up()
            await self._serve()
        finally:
            with self._defects.guard("end"):
                self._fleet.close()
            await self._defects.attempt("end", self._close_controls)
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
                await self._shared.controls.close()

    async def _end(self) -> None:
        await unless(self._force, self._say_farewell())
        if self._force.is_set() and (cut := self._open_connections()):
            self._log.warning("connections.cut", count=cut)

    def _parts(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return what runs until the end, by name. Each of them ends when cancelled.

        Whom one can ask comes first: somebody may ask while the sessions are started.
        """
        return {
            "control": self._answer_operators,
            "http": self._front.run,
            "tunnels": self._fleet.run,
            "readiness": self._announce,
            "network": self._watch_network,
            "notifier": self._herald.run,
            "reload": self._reloader.run,
            "hook": self._hook.run,
        }

    async def _keep(
        self, name: str, part: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        # One that breaks must not be waited for.
        opened = {"control": self._control_opened, "http": self._front.opened}
        broke = opened[name].set if name in opened else lambda: None
        await run_compartment(name, part, self._defects, broke=broke)

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
        await self._fleet.wait_ready()
        # Whoever is told that we are ready may ask us the next moment.
        await self._control_opened.wait()
        await self._front.opened.wait()
        self.ready.set()
        self._herald.ready()
        self._log.info("daemon.ready")
        with self._defects.guard("readiness"):
            self._when_ready()

    async def _say_farewell(self) -> None:
        budget = self.settings.drain_timeout
        self._fleet.stop_accepting()
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
        self._herald.ending()
        cut = await self._fleet.end(budget)
        if cut:
            self._log.warning("connections.cut", count=cut)

    def _open_connections(self) -> int:
        return sum(mapping.connections for mapping in self.snapshot().mappings)

    def _give_up(self) -> NoReturn:
        raise SsmtunneldError("no mapping can listen on its addresses")

    def _on_network(self, kind: str) -> None:
        """Check all links; try again at once where the machine is somewhere else."""
        self._log.info("network.changed", kind=kind)
        for pool in self._shared.pools:
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
            one a number.

        Raises:
            ConfigError: The file cannot be used; nothing has changed.
            SsmtunneldError: The daemon is ending.
        """
        return (await self._reloader.reload()).as_document()

    async def _apply(self, config: Config) -> Changes:
        before, self._config = self._config, config
        self._take_over(config.daemon, before.daemon)
        self._take_precautions(strict=False)
        return await self._fleet.apply(config.tunnels, self.settings.drain_timeout)

    def _take_precautions(self, *, strict: bool) -> None:
        tunnels = self._config.tunnels
        self._precautions.check_access(tunnels)
        self._shared.allowance.limit = self._precautions.connections(
            self.settings, tunnels, strict=strict
        )

    def _take_over(self, settings: DaemonSettings, before: DaemonSettings) -> None:
        """Apply the table ``[daemon]``, where it differs from ``before``."""
        self._shared.limit_starts(rate=settings.start_rate, burst=settings.start_burst)
        self._front.settings = FrontSettings.of(settings)
        self._hook.command = settings.on_state
        self._reloader.watch_file(enabled=settings.watch_config)
        # What an operator has chosen meanwhile stays unless the file has changed.
        old = before.log_level, before.log_format
        if old != (settings.log_level, settings.log_format):
            self._log_as(settings)

    # What an operator may ask for (``ops/control.py``).

    async def pause(self, name: str) -> dict[str, Any]:
        """Let mapping ``name`` take no connections.

        Raises:
            UnknownMapping: There is none of this name.
            SsmtunneldError: The daemon is ending.
        """
        self._manageable(name).pause()
        return {}

    async def resume(self, name: str) -> dict[str, Any]:
        """Let mapping ``name`` take connections again.

        Raises:
            UnknownMapping: There is none of this name.
            SsmtunneldError: The daemon is ending.
        """
        await self._manageable(name).resume()
        return {}

    async def drain(self, name: str) -> dict[str, Any]:
        """Pause ``name`` and let its connections finish within ``drain_timeout``.

        Returns:
            How many connections were reset: ``{"cut": 0}``.

        Raises:
            UnknownMapping: There is none of this name.
            SsmtunneldError: The daemon is ending.
        """
        mapping = self._manageable(name)
        drained = mapping.drain(self.settings.drain_timeout)
        cut = await unless(self._stop, drained)
        return {"cut": cut or 0}

    def _manageable(self, name: str) -> RunningMapping:
        if self._stop.is_set():
            raise ending()
        return self._fleet.get(name)

    async def _answer_operators(self) -> None:
        """Answer operators until cancelled; once no other daemon of this file does."""
        if self._instance is None:
            self._control_opened.set()
            if self._claim is None:
                return
            self._instance = self._shared.instance = await self._claim()
            self._log.info("instance.claimed", config=str(self._config.source))
        await self._serve_control(control_socket(self._instance))

    async def _serve_control(self, path: Path) -> None:
        control = await asyncio.to_thread(_import_control)
        try:
            async with control.serve_control(path, control.make_app(self)):
                self._log.info("control.bound", path=str(path))
                self._control_opened.set()
                await asyncio.Event().wait()
        except OSError as error:
            self._log.warning("control.failed", path=str(path), reason=str(error))
            self._control_opened.set()

    # Observation.

    def snapshot(self) -> DaemonStatus:
        """Return how everything is at this moment."""
        now = asyncio.get_running_loop().time()
        found = [self._fleet.status_of(mapping, now) for mapping in self._fleet]
        return self._status_with(found, now)

    async def survey(self) -> DaemonStatus:
        """Return how everything is, as :meth:`snapshot`, without holding up the loop.

        For whoever asks every second: 500 mappings take some 50 ms. Cancelling is safe.
        """
        loop = asyncio.get_running_loop()
        found: list[MappingStatus] = []
        for mapping in self.mappings:
            found.append(self._fleet.status_of(mapping, loop.time()))
            if len(found) % SURVEY_BATCH == 0:
                await asyncio.sleep(0)
        return self._status_with(found, loop.time())

    def _status_with(self, mappings: list[MappingStatus], now: float) -> DaemonStatus:
        return daemon_status(
            pid=os.getpid(),
            config=str(self._config.source.resolve()),
            uptime=now - self._started,
            draining=self._stop.is_set(),
            mappings=tuple(mappings),
            identities=self._shared.identities(
                (m.tunnel.name, identity_of(m.tunnel)) for m in self._fleet
            ),
            defects=self._defects.snapshot(now),
        )

    def status(self) -> dict[str, Any]:
        """Return the status document (``ops/status.py``)."""
        return self.snapshot().as_document()

    def readings(self) -> Mapping[str, Reading]:
        """Return the counters of all mappings; asked every second."""
        return self._fleet.readings()

    def _is_alive(self) -> bool:
        if self._stop.is_set():
            return True
        return self._fleet.accepting

    def _sentence(self) -> str:
        found = self.snapshot().mappings
        usable = sum(m.usable for m in found)
        troubles = [m for m in found if m.reason]
        plural = "s" * (len(found) != 1)
        sentence = f"{len(found)} tunnel{plural}, {usable} usable"
        if troubles:
            first = troubles[0]
            sentence += f"; {first.name}: {first.reason} {first.advice}".rstrip()
        if self._reloader.refusal:
            refusal = self._reloader.refusal
            sentence += f"; the changed configuration is refused: {refusal}"
        return sentence


def _import_control() -> ModuleType:
    from ssmtunneld.ops import control  # noqa: PLC0415 - it takes 0.3 s: in a thread

    return control


def _wall_clock() -> float:
    return time.time_ns() / 1e9
