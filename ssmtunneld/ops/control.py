"""The control socket: HTTP over a Unix socket, for the daemon's user (design D14)."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from ssmtunneld.ops import logs


def make_app(status: Callable[[], dict[str, Any]]) -> web.Application:
    """Return the application behind the socket.

    ``GET /status`` gives the status document; ``PUT /log-level`` takes
    ``{"level": "debug"}`` and changes what is logged, until the daemon ends.
    """

    async def get_status(_: web.Request) -> web.Response:
        return web.json_response(status())

    async def put_level(request: web.Request) -> web.Response:
        try:
            document = await request.json()
        except ValueError:
            document = None
        level = str(document.get("level")) if isinstance(document, dict) else ""
        if level not in logs.LEVELS:
            raise web.HTTPBadRequest(text=f"level: one of {', '.join(logs.LEVELS)}")
        logs.set_level(level)
        return web.json_response({"level": level})

    app = web.Application(client_max_size=4096)
    app.add_routes([web.get("/status", get_status), web.put("/log-level", put_level)])
    return app


@asynccontextmanager
async def serve_control(path: Path, app: web.Application) -> AsyncIterator[None]:
    """Serve ``app`` on a socket that only this user can open, until the block ends.

    What a daemon before us left at ``path`` is replaced: whoever calls this holds the
    instance's lock.

    Raises:
        OSError: The socket cannot be made.
    """
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        _remove(path)
        # The mode is right from the first moment: nothing can connect before chmod.
        before = os.umask(0o177)
        try:
            await web.UnixSite(runner, path).start()
        finally:
            os.umask(before)
        yield
    finally:
        await runner.cleanup()
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
