"""The composition root: builds everything below by hand, starts it and ends it.

One event loop; per mapping one pool of sessions and one server. A mapping's trouble is
its own: nothing that happens to one stops another (design D11).
"""

import asyncio
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from ssmtunneld.config import Config
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.instance import claim_instance, control_socket
from ssmtunneld.log import get_log
from ssmtunneld.mapping import Mapping, Shared
from ssmtunneld.ops.status import MappingState, daemon_status
from ssmtunneld.ops.systemd import ServiceManager
from ssmtunneld.tunnel.network import NetworkWatch, open_route_socket
from ssmtunneld.version import __version__

STATUS_INTERVAL: Final = 15.0
"""Seconds between sentences for a service manager that has no watchdog."""
STOPPING_MARGIN: Final = 15.0
"""Seconds to ask the service manager for beyond ``drain_timeout``."""
CONTROL_DELAY: Final = 2.0
"""Seconds that the control socket waits for the first sessions, at most."""


class Daemon:
    """All mappings of a configuration, from start to a clean end.

    Args:
        config: What to run.
        instance: This daemon's name (``instance.py``); ``None`` to leave the sessions
            of a daemon before it alone.
        manager: The service manager's part of the process.
    """

    def __init__(
        self,
        config: Config,
        instance: str | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        self._config = config
        self._instance = instance
        self._manager = manager or ServiceManager.none()
        self._log = get_log()
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self.ready = asyncio.Event()
        """Set once every mapping that is required could take connections."""
        self.mappings: list[Mapping] = []
        self._started = asyncio.get_running_loop().time()

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
            start_rate=settings.start_rate,
            start_burst=settings.start_burst,
            instance=self._instance,
        )
        self.mappings = [
            Mapping(tunnel, shared, self._manager.sockets.pop(tunnel.name, ()))
            for tunnel in self._config.tunnels
        ]
        for name in self._manager.sockets:
            self._log.warning(
                "socket.unused", name=name, reason="no tunnel of this name"
            )
        self._log.info(
            "daemon.started", version=__version__, mappings=len(self.mappings)
        )
        try:
            # Before any session is asked for: a taken port costs nothing (D10).
            bound = [await mapping.bind() for mapping in self.mappings]
            if not any(bound):
                self._give_up()
            await self._serve(bound)
        finally:
            await shared.controls.close()
            self._log.info("daemon.stopped")

    async def _serve(self, bound: list[bool]) -> None:
        watch = NetworkWatch(
            self._on_network, wall_clock=_wall_clock, route=open_route_socket()
        )
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(m.run(bound=b), name=m.tunnel.name)
                for m, b in zip(self.mappings, bound, strict=True)
            ]
            running.append(tasks.create_task(self._announce(), name="readiness"))
            running.append(tasks.create_task(watch.run(), name="network"))
            running.append(tasks.create_task(self._inform(), name="manager"))
            if self._instance is not None:
                control = self._serve_control(control_socket(self._instance))
                running.append(tasks.create_task(control, name="control"))
            await self._stop.wait()
            await self._drain()
            for task in running:
                task.cancel()

    async def _inform(self) -> None:
        """Tell the service manager how we are, until cancelled."""
        notifier = self._manager.notifier
        if not notifier.listening:
            return
        interval = self._manager.watchdog or STATUS_INTERVAL
        announced = False
        while True:
            # That this task runs shows that the loop does; the rest is looked at here.
            if self._stop.is_set() or self._accepts():
                notifier.watchdog()
            if self.ready.is_set() and not announced:
                announced = True
                notifier.ready(self._sentence())
            else:
                notifier.status(self._sentence())
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    if announced:
                        await asyncio.Event().wait()
                    await self.ready.wait()

    def _accepts(self) -> bool:
        return all(m.server.accepting for m in self.mappings if m.server.bound)

    def _sentence(self) -> str:
        now = asyncio.get_running_loop().time()
        found = [mapping.status(now) for mapping in self.mappings]
        ready = sum(m.state is MappingState.READY for m in found)
        troubles = [m for m in found if m.reason]
        sentence = f"{len(found)} tunnels, {ready} ready"
        if troubles:
            first = troubles[0]
            sentence += f"; {first.name}: {first.reason} {first.advice}".rstrip()
        return sentence

    async def _serve_control(self, path: Path) -> None:
        """Answer ``ssmtunneld status`` until cancelled."""
        # Sessions first: this library takes as long to import as one takes to start.
        with suppress(TimeoutError):
            async with asyncio.timeout(CONTROL_DELAY):
                await self.ready.wait()
        control = await asyncio.to_thread(_import_control)
        try:
            async with control.serve_control(path, control.make_app(self.status)):
                self._log.info("control.bound", path=str(path))
                await asyncio.Event().wait()
        except OSError as error:
            self._log.warning("control.failed", path=str(path), reason=str(error))

    def status(self) -> dict[str, Any]:
        """Return the status document (``ops/status.py``)."""
        now = asyncio.get_running_loop().time()
        return daemon_status(
            pid=os.getpid(),
            config=str(self._config.source.resolve()),
            uptime=now - self._started,
            mappings=tuple(mapping.status(now) for mapping in self.mappings),
        ).as_document()

    def _on_network(self, kind: str) -> None:
        """Check all links; try again at once where the machine is somewhere else."""
        self._log.info("network.changed", kind=kind)
        for mapping in self.mappings:
            if kind == "route":
                mapping.pool.check()
            else:
                mapping.pool.retry_now()

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
        # Beyond connections there are sessions to end.
        self._manager.notifier.stopping(budget + STOPPING_MARGIN)
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


def _import_control() -> ModuleType:
    from ssmtunneld.ops import control  # noqa: PLC0415 - see _serve_control

    return control


def _wall_clock() -> float:
    return time.time_ns() / 1e9


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
    # Before anything else opens files: descriptors are passed by number.
    manager = ServiceManager.of(os.environ, os.getpid())
    raise_file_limit()

    async def main() -> None:
        with claim_instance(config.source) as instance:
            if instance is None:
                get_log().warning("daemon.not_alone", config=str(config.source))
            daemon = Daemon(config, instance, manager)
            with stop_on_signals(daemon):
                await daemon.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())


def raise_file_limit() -> None:
    """Let this process open as many files as it may.

    A mapping takes two and each connection one more, but the usual limit is 1024, for
    the sake of programs that call select().
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems refuse "unlimited"; then the limit stays what it was.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes an event loop: uvloop's, or ``None`` for the default."""
    try:
        import uvloop  # noqa: PLC0415 - optional: it has no wheels for some platforms
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
