"""The HTTP listener: health, metrics and the status page, for reading only.

=====================  =============================================================
``/livez``             the event loop turns
``/readyz``            tunnels that are required can be used; ``/readyz/NAME`` for one
``/startupz``          they listen
``/metrics``           for Prometheus
``/status.json``       the status document, with ``history`` and ``events``
``/connections.json``  who is connected; ``?tunnel=NAME`` for one tunnel
``/``                  the page that reads it
=====================  =============================================================

It is off unless it is configured. A browser on this machine reaches loopback for every
web site that it shows, so the Host header must be one of ours (DNS rebinding), nothing
is allowed to other origins, and no request changes anything.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware
from typing_extensions import override

from ssmtunneld.base.compartment import note_here
from ssmtunneld.base.log import EventLog
from ssmtunneld.base.web_origin import names_server, parse_ip
from ssmtunneld.errors import UnknownTunnel
from ssmtunneld.listener.sockets import ListenAddress
from ssmtunneld.observe import health, logs
from ssmtunneld.observe.history import History, TrafficSample
from ssmtunneld.observe.metrics import Metrics
from ssmtunneld.observe.status import DaemonStatus
from ssmtunneld.serve.cached_document import Fresh
from ssmtunneld.serve.http_acceptor import HttpAcceptor

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "ssmtunneld",
    "Connection": "close",
}
"""Of every answer."""

REVISIONS: Final = 8
"""Changes by an operator, within a second, after which probes are told at once; after
more of them, with the next second. Nobody else can cause them."""
METRIC_FORMS: Final = 2
"""Forms of the metrics that are rendered within a second; usually there is one."""
RECENT_SAMPLES: Final = 5
"""Missed samples up to which a reader is sent only these; beyond that, all."""
CONNECTIONS_SHOWN: Final = 200
"""Connections in one answer; the others are only counted."""
CONNECTION_LISTS: Final = 8
"""Lists of connections that are made within a second: of all, or of one tunnel."""
LINE_LIMIT: Final = 4096
"""Bytes of a request's first line, and of a header."""
HOST_SHOWN: Final = 100
"""Characters of a refused Host header that go into the log."""
FAREWELL: Final = 1.0
"""Seconds that answers get to be sent once the daemon ends."""


class _OfClients(logging.Filter):
    """Leaves out what clients have done wrong, or that they have left.

    The library calls it an error, and anybody on this machine can cause as many as they
    like. What breaks in our answers is caught before (``_screen``).
    """

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the record is about something else."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | ConnectionError)


logging.getLogger("aiohttp.server").addFilter(_OfClients())

_METHODS: Final = ("GET", "HEAD")
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_PAGE: Final = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StatusSource(Protocol):
    """The daemon that the listener shows."""

    @property
    def revision(self) -> int:
        """A number that changes with all that somebody has asked of the daemon."""
        ...

    async def survey(self) -> DaemonStatus:
        """Return how everything is; other work gets its turn meanwhile."""
        ...

    def readings(self) -> Mapping[str, TrafficSample]:
        """Return the counters of all tunnels; asked every second."""
        ...

    async def connections(self, name: str | None, limit: int) -> dict[str, Any]:
        """Return the document of ``limit`` open connections, of one tunnel or of all.

        Raises:
            UnknownTunnel: There is none of this name.
        """
        ...


@dataclass(frozen=True, slots=True)
class Admission:
    """Access to the listener: client networks and allowed Host headers.

    Attributes:
        allow: Networks that requests may come from, besides this machine itself.
        hosts: Names of this listener, besides ``localhost`` and the address that a
            connection was made to; in lower case.
    """

    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[str] = frozenset()

    def admits_peer(self, peer: str | None) -> bool:
        """Return True if a client at ``peer`` is allowed; ``None`` is a Unix socket."""
        if peer is None:
            return True
        address = parse_ip(peer)
        if address is None:
            return False
        return address.is_loopback or any(address in net for net in self.allow)

    def admits_host(self, header: str, local: str | None) -> bool:
        """Return True if ``header``, a Host header, names this listener."""
        return names_server(header, local, self.hosts)


def make_app(
    subject: StatusSource, history: History, admission: Admission, log: EventLog
) -> web.Application:
    """Return the application, which shows ``subject`` to whom ``admission`` admits.

    Raises:
        OSError: The page's files are not where the package should have them.
    """
    answers = _Answers(subject, history)
    app = web.Application(client_max_size=1024, middlewares=[_screen(admission, log)])
    app.on_response_prepare.append(_add_headers)
    app.add_routes(
        [
            web.get("/livez", answers.livez),
            web.get("/readyz", answers.readyz),
            web.get("/readyz/{name}", answers.readyz_of),
            web.get("/startupz", answers.startupz),
            web.get("/metrics", answers.metrics),
            web.get("/status.json", answers.status),
            web.get("/connections.json", answers.connections),
            *(web.get(path, handler) for path, handler in _page()),
        ]
    )
    return app


class _Answers:
    """One method for each kind of request."""

    def __init__(self, subject: StatusSource, history: History) -> None:
        self._subject = subject
        self._history = history
        self._metrics = Metrics()
        # Anybody on this machine may ask, as often as they like: what takes long is
        # done once a second, whoever asks.
        self._survey = Fresh(self._make_survey, variants=REVISIONS)
        self._rendered = Fresh(self._render_metrics, variants=METRIC_FORMS)
        self._document = Fresh(self._render_document)
        self._samples = Fresh(self._render_samples, variants=2 * RECENT_SAMPLES)
        self._events = Fresh(self._render_events)
        self._connections = Fresh(self._render_connections, variants=CONNECTION_LISTS)

    async def _make_survey(self, _: int) -> DaemonStatus:
        return await self._subject.survey()

    async def _look(self) -> DaemonStatus:
        """Return how all is, at most a second ago, and not before the last pause."""
        return await self._survey.get(self._subject.revision)

    async def livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        return _answer(request, health.readiness(await self._look()))

    async def readyz_of(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = health.readiness_of(await self._look(), name)
        if found is None:
            raise web.HTTPNotFound(text="unknown tunnel\n")
        return _answer(request, found)

    async def startupz(self, request: web.Request) -> web.Response:
        return _answer(request, health.startup(await self._look()))

    async def metrics(self, request: web.Request) -> web.Response:
        form = Metrics.form(request.headers.get("Accept", ""))
        body, kind = await self._rendered.get(form)
        return web.Response(body=body, headers={"Content-Type": kind})

    async def _render_metrics(self, form: str) -> tuple[bytes, str]:
        status = await self._subject.survey()
        # Off the loop: 500 tunnels take a third of a second to write down.
        return await asyncio.to_thread(self._metrics.render, status, form)

    async def status(self, request: web.Request) -> web.Response:
        sample, line = _number(request, "sample"), _number(request, "event")
        document = await self._document.get(None)
        newest = self._history.newest
        missed = newest - sample
        # Whoever has missed much, or asks oddly, gets all: that is one document too.
        known = sample if 0 <= missed <= RECENT_SAMPLES else 0
        samples = await self._samples.get((newest, known))
        events = await self._events.get(None)
        shown = b",".join(text for number, text in events if number > line)
        body = b'%b,"history":%b,"events":[%b]}' % (document, samples, shown)
        return web.Response(body=body, content_type="application/json")

    async def _render_document(self, _: None) -> bytes:
        """Return the document without its end."""
        status = await self._subject.survey()

        def render() -> bytes:
            return _as_json(status.as_document() | {"ready": status.ready})

        return (await asyncio.to_thread(render)).removesuffix(b"}")

    async def connections(self, request: web.Request) -> web.Response:
        try:
            body = await self._connections.get(request.query.get("tunnel"))
        except UnknownTunnel:
            raise web.HTTPNotFound(text="unknown tunnel\n") from None
        return web.Response(body=body, content_type="application/json")

    async def _render_connections(self, name: str | None) -> bytes:
        return _as_json(await self._subject.connections(name, CONNECTIONS_SHOWN))

    async def _render_samples(self, key: tuple[int, int]) -> bytes:
        excerpt = self._history.since(key[1])
        return await asyncio.to_thread(lambda: _as_json(excerpt.as_document()))

    async def _render_events(self, _: None) -> list[tuple[int, bytes]]:
        events = logs.recent.since()
        return [(event.number, _as_json(asdict(event))) for event in events]


def _as_json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _answer(request: web.Request, found: health.Health) -> web.Response:
    status = 200 if found.passed else 503
    if "application/json" in request.headers.get("Accept", ""):
        return web.json_response(found.as_document(), status=status)
    text = found.text(verbose="verbose" in request.query)
    return web.Response(
        body=text.encode("utf-8", "replace"),
        status=status,
        content_type="text/plain",
        charset="utf-8",
    )


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "0")
    if not _NUMBER.fullmatch(text):
        raise web.HTTPBadRequest(text=f"{name} must be a number\n")
    return int(text)


def _page() -> Iterator[tuple[str, _Handler]]:
    folder = files("ssmtunneld.serve") / "page"
    for path, (name, kind) in _PAGE.items():
        yield path, _asset((folder / name).read_bytes(), kind)


def _asset(body: bytes, kind: str) -> _Handler:
    async def send(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return send


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    # One request for each connection: then a connection's age says all about it.
    response.force_close()


def _screen(admission: Admission, log: EventLog) -> Middleware:
    """Return what lets only reading requests of ours through."""

    @web.middleware
    async def screen(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.method not in _METHODS:
            raise web.HTTPMethodNotAllowed(request.method, _METHODS)
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1:
            raise web.HTTPBadRequest(text="exactly one Host header is required\n")
        if not admission.admits_host(hosts[0], _local_address(request)):
            log.warning("http.refused", rule="host", host=hosts[0][:HOST_SHOWN])
            raise web.HTTPMisdirectedRequest(
                text="Host header not allowed; add it to http_hosts\n"
            )
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            defect = note_here("http", error, log)
        raise web.HTTPInternalServerError(text=f"{defect}\n")

    return screen


def _local_address(request: web.Request) -> str | None:
    transport = request.transport
    name = None if transport is None else transport.get_extra_info("sockname")
    return str(name[0]) if isinstance(name, tuple) else None


async def serve_web(
    subject: StatusSource,
    addresses: Sequence[ListenAddress],
    admission: Admission,
    log: EventLog,
    opened: Callable[[], None] = lambda: None,
) -> None:
    """Show ``subject`` on ``addresses`` until cancelled.

    An address that cannot be bound is said in the log and tried again. ``opened`` is
    called once it listens on all other addresses.
    """
    history = History(subject.readings)
    runner = web.AppRunner(
        make_app(subject, history, admission, log),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=FAREWELL,
        max_line_size=LINE_LIMIT,
        max_field_size=LINE_LIMIT,
        lingering_time=0,
    )
    await runner.setup()
    server = runner.server
    assert server is not None, "set up, and without a server"
    doorway = HttpAcceptor(
        addresses,
        admit=admission.admits_peer,
        enter=server,
        present=lambda: server.connections,
        log=log,
        opened=opened,
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(history.run(), name="http history")
            tasks.create_task(doorway.run(), name="http doorway")
    finally:
        await runner.cleanup()
