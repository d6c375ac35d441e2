"""The emulator as one object: API, websocket and admin path on one port."""

import asyncio
import socket
import ssl
import time
from collections import ChainMap
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from ssmtunneld.base.aio import close_server
from ssmtunneld.base.log import EventLog, get_log
from ssmtunneld.emulator.access import AccessRequests
from ssmtunneld.emulator.admin import PATH, Admin
from ssmtunneld.emulator.agent.pacing import Pacer
from ssmtunneld.emulator.agent.port import is_loopback
from ssmtunneld.emulator.api import ControlPlane
from ssmtunneld.emulator.faults import Action, FaultPlan
from ssmtunneld.emulator.gateway import PATH_PREFIX, Gateway
from ssmtunneld.emulator.instance_connect import InstanceConnect
from ssmtunneld.emulator.path import HIGH_WATER, Path, PathSettings
from ssmtunneld.emulator.permissions import Permissions
from ssmtunneld.emulator.recording import Recorder, load
from ssmtunneld.emulator.registry import Registry
from ssmtunneld.emulator.screen import own_names, screen
from ssmtunneld.emulator.settings import EmulatorSettings
from ssmtunneld.emulator.targets import check_target
from ssmtunneld.emulator.versions import AgentTraits
from ssmtunneld.errors import AddressInUse, ConfigError

_BACKLOG: Final = 1024
_SEGMENT: Final = 16 << 10
"""Bytes of one TCP segment. Loopback's own are four times as large, and so are the
bursts in which a full connection goes on: nobody else's message gets through one. On a
real network they are 1,448 bytes."""
_SEND_BUFFER: Final = 16 << 10
"""Bytes that the kernel takes of us before they are on their way. Left alone it takes
megabytes and asks for more when a third of them is gone, which is another burst."""


class Emulator:
    """The AWS side, on loopback.

    ``async with Emulator(EmulatorSettings()) as emulator`` listens while its body runs;
    `endpoint_url` says where.

    Args:
        settings: Everything that can be chosen.

    Raises:
        ConfigError: A fault, a document, a policy, a recording, the agent's version or
            the address is not acceptable.
    """

    def __init__(self, settings: EmulatorSettings | None = None) -> None:
        settings = settings or EmulatorSettings()
        _check(settings)
        issued: dict[str, str] = {}
        others: Any = settings.identities  # which may grow, and is not changed here
        self.settings = replace(settings, identities=ChainMap(issued, others))
        self.faults = FaultPlan(self.settings.faults, self.settings.offline)
        """The faults in force; only to be used on the emulator's own loop."""
        if self.settings.bye_after is not None:
            self.faults.knobs.bye_every = self.settings.bye_after
        self._log = get_log(component="emulator")
        self._tasks = asyncio.TaskGroup()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._path: Path | None = None
        self._pacer = Pacer()
        scripts = [] if self.settings.replay is None else load(self.settings.replay)
        self._recorder = _recorder(self.settings, self._log)
        self.sessions = Registry(
            self.settings,
            self.faults,
            self._tasks,
            self._log,
            pacer=self._pacer,
            recorder=self._recorder,
            scripts=scripts,
        )
        """Every session, for looking at."""
        self.permissions = Permissions(self.settings)
        """Permissions of the callers; can be changed at any time."""
        self.access = AccessRequests(
            self.settings, self.permissions, self.sessions, issued
        )
        """Requests for node access."""
        self.admin = Admin(self.sessions, self.faults, self.access)
        """The admin API."""
        self._control = ControlPlane(
            self.sessions,
            self.settings,
            self.faults,
            self._stream_url,
            self._log,
            permissions=self.permissions,
        )
        keys = InstanceConnect(self.settings, f"{PATH}/keys")
        self._control.offer(keys.operations)
        self._control.offer_with_caller(self.access.operations)
        self._control.require(self.access.check)
        gateway = Gateway(
            self.sessions,
            self.settings,
            self.faults,
            self._log,
            permissions=self.permissions,
        )
        application = web.Application(
            client_max_size=1024 * 1024,
            middlewares=[screen(own_names(self.settings), self._log)],
        )
        application.add_routes(
            [
                web.post("/", self._control.serve),
                web.get(PATH_PREFIX + "{id}", gateway.serve),
                *self.admin.routes(),
                *keys.routes(),
            ]
        )
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            AddressInUse: The address cannot be bound.
        """
        await self._tasks.__aenter__()
        await self._runner.setup()
        handler = self._runner.server
        assert handler is not None, "the runner has been set up"
        if self.settings.path is not None:
            self._path = Path(self.settings.path)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                handler if self._path is None else self._path.behind(handler),
                self.settings.host,
                self.settings.port,
                ssl=_tls(self.settings),
                backlog=_BACKLOG,
            )
        except OSError as error:
            await self._stop()
            address = f"{self.settings.host}:{self.settings.port}"
            raise AddressInUse(address, error.strerror or str(error)) from None
        for sock in self._server.sockets:
            with suppress(OSError):  # not every system lets it be chosen
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            if self.settings.path is not None:
                # What waits for the path must wait with its sender.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HIGH_WATER)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End every session, close every connection, stop listening.

        Raises:
            ExceptionGroup: A session failed, which is a defect of the emulator.
        """
        await self._stop(error)

    @property
    def endpoint_url(self) -> str:
        """The value for ``AWS_ENDPOINT_URL_SSM``."""
        return f"http{self._secure}://{self._authority}"

    @property
    def operations(self) -> frozenset[tuple[str, str]]:
        """Every call that is answered: the service, as boto3 names it, and the call."""
        return self._control.operations

    def close_session(self, session_id: str, output: str = "") -> None:
        """End a session as the service does, with ``output`` for its client.

        Raises:
            KeyError: There is no such session.
        """
        session = self.sessions.get(session_id)
        if session is None:
            raise KeyError(session_id)
        session.end(output)

    def cut_websockets(self) -> None:
        """Reset the TCP connection of every client."""
        self.sessions.do(Action.CUT)

    def change_path(self, settings: PathSettings) -> None:
        """Replace the network, as a laptop does that leaves the office.

        Connections stay; what is under way arrives when it would have.

        Raises:
            ConfigError: The emulator was started without a path.
        """
        if self._path is None:
            raise ConfigError(["the emulator was started without a path"])
        self._path.change(settings)

    def state(self) -> dict[str, Any]:
        """Return what ``GET /_emulator/state`` answers."""
        return self.admin.state()

    async def _stop(self, error: BaseException | None = None) -> None:
        self.faults.clear()  # a black hole would hold the websockets
        for session in self.sessions:
            session.end()
        # The group must hear of a cancellation, lest it wait for ever; any other error
        # of the body is not the sessions' business.
        cancelled = error if isinstance(error, asyncio.CancelledError) else None
        kind = None if cancelled is None else type(cancelled)
        try:
            await self._tasks.__aexit__(kind, cancelled, None)
        finally:
            if self._server is not None:
                await close_server(self._server)
            await self._runner.cleanup()
            self._pacer.__exit__()
            if self._recorder is not None:
                self._recorder.close()

    def _stream_url(self) -> str:
        own = f"ws{self._secure}://{self._authority}"
        return (self.settings.stream_endpoint or own) + PATH_PREFIX

    @property
    def _secure(self) -> str:
        return "s" if self.settings.tls_certificate else ""

    @property
    def _authority(self) -> str:
        host = self.settings.host
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"


def _check(settings: EmulatorSettings) -> None:
    AgentTraits.of(settings.agent_version)
    if not settings.allow_remote and not (
        settings.host == "localhost" or is_loopback(settings.host)
    ):
        raise ConfigError(
            [f"{settings.host} is not loopback; allow_remote is needed to listen there"]
        )
    named = {*settings.nodes, *settings.stopped, *settings.offline}
    for target in sorted(named | (settings.targets or frozenset())):
        try:
            check_target(target)
        except ValueError as error:
            raise ConfigError([str(error)]) from None


def _recorder(settings: EmulatorSettings, log: EventLog) -> Recorder | None:
    if settings.record is None:
        return None
    path = settings.record

    def failed(reason: str) -> None:
        log.error("emulator.recording_stopped", path=str(path), reason=reason)

    try:
        return Recorder(
            path,
            payloads=settings.record_payloads,
            now=time.perf_counter,
            failed=failed,
        )
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror or error}"]) from None


def _tls(settings: EmulatorSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context
