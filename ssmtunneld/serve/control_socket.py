"""The control socket: HTTP over a Unix socket, for the daemon's user (design D14).

===================================  ============================================
``GET /status``                      the status document (``observe/status.py``)
``GET /version``                     ``{"protocol", "program", "pid"}``
``POST /reload``                     read the file again; what that has changed
``POST /tunnels/NAME/drain``        end its connections within the drain budget
``POST /tunnels/NAME/pause``        take no connections
``POST /tunnels/NAME/resume``       take them again
``GET /connections?tunnel=NAME``     who is connected (``observe/connections.py``)
``DELETE /connections/ID``           reset this connection
``GET /log?after=N``                 where the log is, and its last lines
``PUT /log-level``                   ``{"level": "debug"}``, until the daemon ends
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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol

from aiohttp import web

from ssmtunneld.base.aio import close_server
from ssmtunneld.base.compartment import note_here
from ssmtunneld.base.log import get_log
from ssmtunneld.errors import (
    ConfigError,
    SsmtunneldError,
    Unforeseen,
    UnknownConnection,
    UnknownTunnel,
)
from ssmtunneld.listener.owner import unix_peer_uid
from ssmtunneld.listener.sockets import LONGEST_PATH
from ssmtunneld.observe import logs
from ssmtunneld.observe.log_place import log_place
from ssmtunneld.serve.control_protocol import PROGRAM_HEADER, PROTOCOL, PROTOCOL_HEADER
from ssmtunneld.version import __version__

PATIENCE: Final = 1.0
"""Seconds that requests get to finish once the daemon ends; drains take longer."""

LARGEST_BODY: Final = 4096
"""Bytes of a request's body."""
_SUPERUSER: Final = 0
_NUMBER: Final = re.compile(r"[0-9]{1,15}")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Operator(Protocol):
    """The methods of a daemon that the control socket calls."""

    def status(self) -> dict[str, Any]:
        """Return the status document."""
        ...

    async def reload(self) -> dict[str, Any]:
        """Read the configuration again and take over what has changed.

        Returns:
            Names: ``{"added": [], "removed": [], "changed": [], "unchanged": 0}``.

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


def make_app(operator: Operator) -> web.Application:
    """Return the application behind the socket, which works for ``operator``."""
    requests = _Requests(operator)
    app = web.Application(
        client_max_size=LARGEST_BODY, middlewares=[_sign, _explain, _check_peer]
    )
    app.add_routes(
        [
            web.get("/status", requests.status),
            web.get("/version", requests.version),
            web.post("/reload", requests.reload),
            web.post("/tunnels/{name}/drain", requests.drain),
            web.post("/tunnels/{name}/pause", requests.pause),
            web.post("/tunnels/{name}/resume", requests.resume),
            web.get("/connections", requests.connections),
            web.delete("/connections/{name}", requests.kill),
            web.get("/log", requests.log),
            web.put("/log-level", requests.log_level),
        ]
    )
    return app


class _Requests:
    """One method for each kind of request."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response(self._operator.status())

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"protocol": PROTOCOL, "program": __version__, "pid": os.getpid()}
        )

    async def reload(self, _: web.Request) -> web.Response:
        return web.json_response(await self._operator.reload())

    async def drain(self, request: web.Request) -> web.Response:
        return web.json_response(await self._operator.drain(_name_in(request)))

    async def pause(self, request: web.Request) -> web.Response:
        return web.json_response(await self._operator.pause(_name_in(request)))

    async def resume(self, request: web.Request) -> web.Response:
        return web.json_response(await self._operator.resume(_name_in(request)))

    async def connections(self, request: web.Request) -> web.Response:
        document = await self._operator.connections(request.query.get("tunnel"))
        # In a thread: there can be thousands.
        text = await asyncio.to_thread(json.dumps, document)
        return web.json_response(text=text)

    async def kill(self, request: web.Request) -> web.Response:
        return web.json_response(await self._operator.kill(_name_in(request)))

    async def log(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not _NUMBER.fullmatch(after):
            return _refusal(HTTPStatus.BAD_REQUEST, "after must be a number")
        events = logs.recent.since(int(after))
        document = {
            "place": asdict(log_place(os.environ)),
            "newest": logs.recent.newest,
            "events": [asdict(event) for event in events],
        }
        return web.json_response(document)

    async def log_level(self, request: web.Request) -> web.Response:
        try:
            document = await request.json()
        except (ValueError, RecursionError):  # no JSON, or deeper than anybody means
            document = None
        level = str(document.get("level")) if isinstance(document, dict) else ""
        if level not in logs.LEVELS:
            levels = ", ".join(logs.LEVELS)
            return _refusal(
                HTTPStatus.BAD_REQUEST, "unknown log level", f"choose one of {levels}"
            )
        logs.set_level(level)
        return web.json_response({"level": level})


def _name_in(request: web.Request) -> str:
    return request.match_info["name"]


def _refusal(
    status: int, error: str, advice: str = "", problems: list[str] | None = None
) -> web.Response:
    document = {"error": error, "advice": advice, "problems": problems or []}
    return web.json_response(document, status=status)


@web.middleware
async def _sign(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Say in every answer who gives it."""
    response = await handler(request)
    response.headers[PROTOCOL_HEADER] = str(PROTOCOL)
    response.headers[PROGRAM_HEADER] = __version__
    return response


@web.middleware
async def _explain(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn errors into documents."""
    try:
        return await handler(request)
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
    except web.HTTPException as error:
        return _refusal(error.status, f"{request.method} {request.path}: {error}")
    except Exception as error:  # noqa: BLE001 - the boundary of a compartment
        defect = note_here("control", error, get_log())
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return _refusal(status, str(defect), Unforeseen.advice)


@web.middleware
async def _check_peer(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Serve this user and root only, whatever the socket's mode has become."""
    sock = request.get_extra_info("socket")
    # There is none once the peer has gone.
    if sock is None or not may_ask(unix_peer_uid(sock)):
        return _refusal(
            HTTPStatus.FORBIDDEN,
            "this daemon belongs to another user",
            "run this command as its user, or as root",
        )
    return await handler(request)


def may_ask(uid: int | None) -> bool:
    """Say whether the user ``uid`` may control this process.

    ``None`` stands for a platform that cannot tell: the socket's mode has let them in.
    """
    return uid is None or uid in {_SUPERUSER, os.geteuid()}


@asynccontextmanager
async def serve_control(path: Path, app: web.Application) -> AsyncIterator[None]:
    """Serve ``app`` on a socket that only this user can open, until the block ends.

    What a daemon before us left at ``path`` is replaced: whoever calls this holds the
    instance's lock. Requests that still run when the block ends get ``PATIENCE``.

    Raises:
        OSError: The socket cannot be made.
    """
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=PATIENCE
    )
    await runner.setup()
    handler = runner.server
    assert handler is not None, "set up, and without a server"
    try:
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise OSError(
                errno.ENAMETOOLONG,
                f"its path is longer than {LONGEST_PATH} bytes: let STATE_DIRECTORY "
                "name another folder",
            )
        _remove(path)
        # The mode is right from the first moment: nothing can connect before chmod.
        before = os.umask(0o177)
        try:
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(handler, path)
        finally:
            os.umask(before)
        try:
            yield
        finally:
            await close_server(server)
    finally:
        await runner.cleanup()
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
