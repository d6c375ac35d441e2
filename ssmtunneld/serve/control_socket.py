"""The control socket: HTTP over a Unix socket, for the daemon's user (design D14).

===================================  ============================================
``GET /status``                      the status document (``observe/status.py``)
``GET /version``                     ``{"protocol", "program", "pid"}``
``POST /reload``                     read the file again; what that has changed
``POST /tunnels/NAME/drain``        end its connections within the drain budget
``POST /tunnels/NAME/pause``        take no connections
``POST /tunnels/NAME/resume``       take them again
``POST /tunnels/NAME/request``      ask for access to its node, with ``{"reason"}``
``POST /tunnels/NAME/wake``         start its target, if that sleeps
``GET /connections?tunnel=NAME``     who is connected (``observe/connections.py``)
``DELETE /connections/ID``           reset this connection
``GET /log?after=N``                 where the log is, and its last lines
``PUT /log-level``                   ``{"level": "debug"}``, until the daemon ends
``POST /connect``                    a connection to ``{"target", "port"}``, as a socket
``POST /wake``                       start the target of such a connection
===================================  ============================================

Every answer is JSON and names the protocol's version in a header
(``serve/control_protocol.py``). A refusal is ``{"error", "advice", "problems"}``: one
sentence, what to do, and, for a configuration, one line for each problem.
"""

import asyncio
import errno
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote

from ssmtunneld.base.compartment import note_here
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.log import get_log
from ssmtunneld.base.on_error import on_error
from ssmtunneld.config.fields import REASON_LIMIT
from ssmtunneld.errors import (
    ConfigError,
    SsmtunneldError,
    Unforeseen,
    UnknownConnection,
    UnknownTunnel,
)
from ssmtunneld.listener.sockets import LONGEST_PATH
from ssmtunneld.observe import logs
from ssmtunneld.observe.log_place import log_place
from ssmtunneld.serve.control_http import Answer, BadRequest, ControlServer, Request
from ssmtunneld.serve.control_protocol import PROGRAM_HEADER, PROTOCOL, PROTOCOL_HEADER
from ssmtunneld.version import __version__

PATIENCE: Final = 1.0
"""Seconds that requests get to finish once the daemon ends; drains take longer."""

_SUPERUSER: Final = 0
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_BACKLOG: Final = 128
_HEADERS: Final = {PROTOCOL_HEADER: str(PROTOCOL), PROGRAM_HEADER: __version__}


@dataclass(frozen=True, slots=True)
class Place:
    """The place that a client of the control socket wants a connection to.

    Attributes:
        target: As a configuration spells it.
        port: On the target itself.
        endpoint: The AWS endpoint that is meant; empty for whichever the daemon has.
        config: The configuration file whose daemon is meant; empty for any.
    """

    target: str
    port: int
    endpoint: str = ""
    config: str = ""

    @classmethod
    def of(cls, document: object) -> "Place | None":
        """Read it from a request's body; None if it does not say where."""
        match document:
            case {"target": str(target), "port": int(port), **rest}:
                endpoint, config = rest.get("endpoint"), rest.get("config")
                return cls(target, port, str(endpoint or ""), str(config or ""))
            case _:
                return None


class Operator(Protocol):
    """The methods of a daemon that the control socket calls."""

    def status(self) -> dict[str, Any]:
        """Return the status document."""
        ...

    async def reload(self) -> dict[str, Any]:
        """Read the configuration again and take over what has changed.

        Returns:
            Names: ``{"added": [], "removed": [], "changed": [], "unchanged": 0}``, and
            keys of ``[daemon]``: ``{"daemon": []}``.

        Raises:
            ConfigError: The file cannot be used; nothing has changed.
        """
        ...

    async def drain(self, name: str) -> dict[str, Any]:
        """Let the connections of tunnel ``name`` finish, within the drain budget.

        Returns:
            How many had to be cut: ``{"cut": 0}``.

        Raises:
            UnknownTunnel: There is none of this name.
        """
        ...

    async def pause(self, name: str) -> dict[str, Any]:
        """Let tunnel ``name`` take no connections.

        Raises:
            UnknownTunnel: There is none of this name.
        """
        ...

    async def resume(self, name: str) -> dict[str, Any]:
        """Let tunnel ``name`` take connections again.

        Raises:
            UnknownTunnel: There is none of this name.
        """
        ...

    async def request_access(self, name: str, reason: str) -> dict[str, Any]:
        """Ask for access to the node of tunnel ``name``.

        Returns:
            The request: ``{"id": "oi-…", "target": "i-…"}``.

        Raises:
            UnknownTunnel: There is none of this name.
            AwsError: The node cannot be found, or the service said no.
            SsmtunneldError: A request is undecided already, or none is needed.
        """
        ...

    async def connections(self, name: str | None) -> dict[str, Any]:
        """Return the document of the open connections, of tunnel ``name`` or of all.

        Raises:
            UnknownTunnel: There is none of this name.
        """
        ...

    async def kill(self, name: str) -> dict[str, Any]:
        """Reset the connection called ``name``.

        Returns:
            Its tunnel: ``{"tunnel": "db"}``.

        Raises:
            UnknownConnection: There is none of this name.
        """
        ...

    async def wake(self, name: str) -> dict[str, Any]:
        """Start the target of tunnel ``name``, if it sleeps.

        Returns:
            Whether it sleeps, or is on its way up: ``{"waking": true}``.

        Raises:
            UnknownTunnel: There is none of this name.
        """
        ...

    def wake_for(self, place: Place) -> str | None:
        """Start the target of a tunnel to ``place``; return the tunnel's name.

        None if no tunnel leads there, or none whose target sleeps.
        """
        ...

    def connect(self, place: Place, uid: int | None) -> socket.socket | None:
        """Return one end of a new connection to ``place``, through a warm session.

        Args:
            place: Where to.
            uid: The user who asks; None where the platform cannot tell.

        Returns:
            A socket, owned by the caller; None if no tunnel leads there at once.
        """
        ...


_Route = tuple[str, re.Pattern[str], Callable[..., Awaitable[Answer]]]
_NAME: Final = "/tunnels/([^/]+)/"
_ID: Final = "/connections/([^/]+)"


class _Requests:
    """One method for each kind of request."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        routes: dict[str, Callable[..., Awaitable[Answer]]] = {
            "GET /status": self._status,
            "GET /version": self._version,
            "POST /reload": self._reload,
            "POST /connect": self._connect,
            "POST /wake": self._wake_for,
            f"POST {_NAME}drain": self._drain,
            f"POST {_NAME}pause": self._pause,
            f"POST {_NAME}resume": self._resume,
            f"POST {_NAME}request": self._request_access,
            f"POST {_NAME}wake": self._wake,
            "GET /connections": self._connections,
            f"DELETE {_ID}": self._kill,
            "GET /log": self._log,
            "PUT /log-level": self._log_level,
        }
        self._routes: list[_Route] = [
            (method, re.compile(path), answer)
            for route, answer in routes.items()
            for method, path in [route.split(" ")]
        ]

    async def answer(self, request: Request | BadRequest) -> Answer:
        """Return the answer, whatever goes wrong."""
        if isinstance(request, BadRequest):
            return _refusal(request.status, str(request))
        # Whatever the socket's mode has become.
        if not may_ask(request.uid):
            return _refusal(
                HTTPStatus.FORBIDDEN,
                "this daemon belongs to another user",
                "run this command as its user, or as root",
            )
        return await _explain(self._answer(request))

    async def _answer(self, request: Request) -> Answer:
        found = [
            (method, partial(answer, request, *map(unquote, match.groups())))
            for method, path, answer in self._routes
            if (match := path.fullmatch(request.path))
        ]
        for method, answer in found:
            if method == request.method:
                return await answer()
        what = f"{request.method} {request.path}"
        if found:
            return _refusal(
                HTTPStatus.METHOD_NOT_ALLOWED, f"{what}: only {found[0][0]} is allowed"
            )
        return _refusal(HTTPStatus.NOT_FOUND, f"{what}: there is no such request")

    async def _status(self, _: Request) -> Answer:
        return Answer(HTTPStatus.OK, self._operator.status())

    async def _version(self, _: Request) -> Answer:
        document = {"protocol": PROTOCOL, "program": __version__, "pid": os.getpid()}
        return Answer(HTTPStatus.OK, document)

    async def _reload(self, _: Request) -> Answer:
        return Answer(HTTPStatus.OK, await self._operator.reload())

    async def _connect(self, request: Request) -> Answer:
        place = Place.of(_json(request))
        if place is None:
            return _no_place()
        sock = self._operator.connect(place, request.uid)
        if sock is None:
            return _refusal(
                HTTPStatus.NOT_FOUND, "no tunnel that is ready leads there now"
            )
        return Answer(HTTPStatus.OK, {}, sock)

    async def _wake_for(self, request: Request) -> Answer:
        place = Place.of(_json(request))
        if place is None:
            return _no_place()
        name = self._operator.wake_for(place)
        if name is None:
            return _refusal(HTTPStatus.NOT_FOUND, "no tunnel to a target that sleeps")
        return Answer(HTTPStatus.OK, {"tunnel": name})

    async def _wake(self, _: Request, name: str) -> Answer:
        return Answer(HTTPStatus.OK, await self._operator.wake(name))

    async def _drain(self, _: Request, name: str) -> Answer:
        return Answer(HTTPStatus.OK, await self._operator.drain(name))

    async def _pause(self, _: Request, name: str) -> Answer:
        return Answer(HTTPStatus.OK, await self._operator.pause(name))

    async def _resume(self, _: Request, name: str) -> Answer:
        return Answer(HTTPStatus.OK, await self._operator.resume(name))

    async def _request_access(self, request: Request, name: str) -> Answer:
        document = _json(request)
        reason = document.get("reason") if isinstance(document, dict) else None
        if (
            not isinstance(reason, str)
            or clean(reason, REASON_LIMIT) != reason
            or not reason
        ):
            return _refusal(
                HTTPStatus.BAD_REQUEST,
                "no reason that AWS would take",
                f"give one line of 1 to {REASON_LIMIT} characters",
            )
        return Answer(HTTPStatus.OK, await self._operator.request_access(name, reason))

    async def _connections(self, request: Request) -> Answer:
        document = await self._operator.connections(request.query.get("tunnel"))
        # In a thread: there can be thousands.
        return Answer(HTTPStatus.OK, await asyncio.to_thread(json.dumps, document))

    async def _kill(self, _: Request, name: str) -> Answer:
        return Answer(HTTPStatus.OK, await self._operator.kill(name))

    async def _log(self, request: Request) -> Answer:
        after = request.query.get("after", "0")
        if not _NUMBER.fullmatch(after):
            return _refusal(HTTPStatus.BAD_REQUEST, "after must be a number")
        events = logs.recent.since(int(after))
        document = {
            "place": asdict(log_place(os.environ)),
            "pid": os.getpid(),
            "newest": logs.recent.newest,
            "events": [asdict(event) for event in events],
        }
        return Answer(HTTPStatus.OK, document)

    async def _log_level(self, request: Request) -> Answer:
        document = _json(request)
        level = str(document.get("level")) if isinstance(document, dict) else ""
        if level not in logs.LEVELS:
            levels = ", ".join(logs.LEVELS)
            return _refusal(
                HTTPStatus.BAD_REQUEST, "unknown log level", f"choose one of {levels}"
            )
        logs.set_level(level)
        return Answer(HTTPStatus.OK, {"level": level})


def _no_place() -> Answer:
    return _refusal(HTTPStatus.BAD_REQUEST, "no target and port", "name both, as JSON")


def _json(request: Request) -> object:
    """Return the body; None if it is not JSON, or nested too deeply."""
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        return None


def _refusal(
    status: int, error: str, advice: str = "", problems: list[str] | None = None
) -> Answer:
    return Answer(
        status, {"error": error, "advice": advice, "problems": problems or []}
    )


async def _explain(answer: Awaitable[Answer]) -> Answer:
    """Turn errors into documents."""
    try:
        return await answer
    except ConfigError as error:
        return _refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "the configuration is invalid; the daemon keeps the previous one",
            "correct the file and reload again",
            error.problems,
        )
    except (UnknownTunnel, UnknownConnection) as error:
        return _refusal(HTTPStatus.NOT_FOUND, str(error), error.advice)
    except SsmtunneldError as error:
        return _refusal(HTTPStatus.CONFLICT, str(error), error.advice)
    except Exception as error:  # noqa: BLE001 - the boundary of a compartment
        defect = note_here("control", error, get_log())
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return _refusal(status, str(defect), Unforeseen.advice)


def may_ask(uid: int | None) -> bool:
    """Say whether the user ``uid`` may control this process.

    ``None`` stands for a platform that cannot tell: the socket's mode has let them in.
    """
    return uid is None or uid in {_SUPERUSER, os.geteuid()}


@asynccontextmanager
async def serve_control(
    path: Path, operator: Operator
) -> AsyncIterator[os.stat_result]:
    """Serve on a socket that only this user can open, until the block ends.

    Yields what ``path`` is, by which whoever replaces it can be noticed.

    What a daemon before us left at ``path`` is replaced: whoever calls this holds the
    instance's lock. Requests that still run when the block ends get ``PATIENCE``.

    Raises:
        OSError: The socket cannot be made.
    """
    end = asyncio.Event()
    with _listen(path) as listening:
        ours = _identity(path)
        try:
            server = ControlServer(listening, _Requests(operator).answer, _HEADERS)
            failure: Exception | None = None
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(
                    server.run(PATIENCE, end), name="control socket"
                )
                try:
                    yield ours
                except Exception as error:  # noqa: BLE001 - raised again below
                    failure = error  # the task group would put it into a group of one
                finally:
                    end.set()
                    await asyncio.wait({serving})
            if failure is not None:
                raise failure
        finally:
            # It may be another daemon's by now.
            if is_still(path, ours):
                _remove(path)


def is_still(path: Path, ours: os.stat_result) -> bool:
    """Return True if ``path`` is what it was; by its time too: numbers come again."""
    try:
        now = path.lstat()
    except OSError:
        return False
    return os.path.samestat(now, ours) and now.st_mtime_ns == ours.st_mtime_ns


def _identity(path: Path) -> os.stat_result:
    return path.lstat()


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise OSError(
            errno.ENAMETOOLONG,
            f"its path is longer than {LONGEST_PATH} bytes: let STATE_DIRECTORY "
            "name another folder",
        )
    _remove(path)
    listening = socket.socket(socket.AF_UNIX)
    with on_error(listening.close):
        listening.settimeout(0)
        # The mode is right from the first moment: nothing can connect before chmod.
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen(_BACKLOG)
    return listening


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
