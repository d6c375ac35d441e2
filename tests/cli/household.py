"""A daemon's control socket without a daemon: the real server, and scripted answers."""

import asyncio
import socket
import threading
from contextlib import asynccontextmanager, contextmanager

import pytest
from aiohttp import web

from ssmtunneld.cli.main import main
from ssmtunneld.daemon.instance_lock import control_socket, instance_name
from ssmtunneld.errors import ConfigError, SsmtunneldError, UnknownConnection
from ssmtunneld.serve.control_socket import serve_control

PATIENCE = 30


def tunnel_document(name="db", **changes):
    """Return the status of a tunnel as the daemon sends it."""
    return {
        "name": name,
        "state": "ready",
        "usable": True,
        "reason": "",
        "advice": "",
        "lasting": False,
        "listen": ["127.0.0.1:5432"],
        "target": "i-0123456789abcdef0",
        "destination": "orders:5432",
        "required": True,
        "connections": 2,
        "waiting": 0,
        "refused": 0,
        "sent": 2048,
        "received": 5,
        "retry_in": None,
        "mode": "tcp",
        "sessions": [session_document()],
        "groups": [],
        **changes,
    }


def connection_document(name="7c1e0a-17", **changes):
    """Return an open connection as the daemon sends it."""
    return {
        "id": name,
        "tunnel": "db",
        "peer": "127.0.0.1:40000",
        "user": "ada",
        "uid": 1000,
        "program": "psql",
        "pid": 812,
        "since": 1_700_000_000.0,
        "age": 61.0,
        "sent": 2048,
        "received": 5,
        "sent_rate": 1024,
        "received_rate": 0,
        "session": 3,
        "session_id": "me-0123456789abcdef0",
        "target": "i-0123456789abcdef0",
        "destination": "orders:5432",
        **changes,
    }


def session_document(number=1, **changes):
    """Return the status of a session as the daemon sends it."""
    return {
        "number": number,
        "session_id": f"me-0123456789abcde{number:02}",
        "phase": "ready",
        "retiring": False,
        "age": 61.0,
        "streams": 2,
        "rate": 1024,
        "stalled": False,
        "agent": "3.3.40.0",
        "mode": "mux",
        "rtt": 0.0042,
        "unacknowledged": 0,
        "unacknowledged_bytes": 0,
        "window": 65536,
        "message_size": 1024,
        "delivered_rate": None,
        "least_rtt": None,
        "paused": False,
        "retransmitted": 0,
        "duplicates": 0,
        **changes,
    }


def event_document(number=1, event="session.started", **changes):
    """Return a line of the log as the daemon sends it."""
    return {
        "number": number,
        "time": "2026-01-02T03:04:05.678Z",
        "level": "info",
        "event": event,
        "tunnel": "db",
        "facts": {"session": f"me-{number}"},
        "pid": 7,
        **changes,
    }


def waiting(name="dead", **changes):
    """Return the status of a tunnel that needs somebody."""
    trouble = {
        "state": "waiting",
        "usable": False,
        "reason": "nobody answers.",
        "advice": "start the agent",
        "sessions": [],
    }
    return tunnel_document(name, **{**trouble, **changes})


def off(name="off", **changes):
    """Return the status of a tunnel that the file disables."""
    blank = {"state": "disabled", "usable": False, "required": False, "listen": []}
    return tunnel_document(name, **{**blank, "sessions": [], **changes})


def document(*tunnels, **changes):
    """Return a status document."""
    return {
        "version": 1,
        "program": "1.0",
        "pid": 7,
        "uptime": 61,
        "config": "/etc/c.toml",
        "tunnels": list(tunnels),
        **changes,
    }


class Household:
    """An operator that remembers what it was asked, and does as it is told.

    Attributes:
        documents: What it says of itself, one after the other; the last one for ever.
        problems: What is wrong with the file, if anything.
        cut: How many connections a drain cuts.
        present: The open connections.
        more: How many more there are.
        failure: What it raises at every request but the status.
        asked: What was asked for.
        way: Returns a connection to a place, or None.
        waking: The tunnel whose target is started for a place; None for none.
    """

    def __init__(self, *documents):
        self.documents = list(documents) or [document(tunnel_document())]
        self.problems = []
        self.cut = 0
        self.present = []
        self.more = 0
        self.failure = None
        self.asked = []
        self.way = lambda _place: None
        self.waking = None

    def status(self):
        if len(self.documents) > 1:
            return self.documents.pop(0)
        return self.documents[0]

    async def reload(self):
        if self.problems:
            raise ConfigError(self.problems)
        self._note("reload")
        return {
            "added": ["a", "b"],
            "removed": [],
            "changed": ["db"],
            "unchanged": 1,
            "daemon": ["log_level", "http_listen"],
        }

    async def drain(self, name):
        self._note("drain", name)
        return {"cut": self.cut}

    async def pause(self, name):
        self._note("pause", name)
        return {}

    async def resume(self, name):
        self._note("resume", name)
        return {}

    async def request_access(self, name, reason):
        self._note("request", name, reason)
        return {"id": "oi-0123456789ab", "target": "i-0123456789abcdef0"}

    async def connections(self, name):
        self._note("connections", *([name] if name else []))
        found = [c for c in self.present if name in {None, c["tunnel"]}]
        return {"version": 1, "connections": found, "more": self.more}

    async def kill(self, name):
        if name not in [c["id"] for c in self.present]:
            raise UnknownConnection(name)
        self._note("kill", name)
        return {"tunnel": "db"}

    async def wake(self, name):
        self._note("wake", name)
        return {"waking": True}

    def wake_for(self, place):
        if self.waking is not None:
            self._note("wake for", place.target)
        return self.waking

    def connect(self, place, _uid):
        return self.way(place)

    def _note(self, *words):
        if self.failure is not None:
            raise self.failure
        self.asked.append(" ".join(words))


class Busy(SsmtunneldError):
    """Something that an operator cannot do now."""

    advice = "wait a moment"


class Serving:
    """A control socket, in a thread of its own."""

    def __init__(self, serve):
        self._serving = serve
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)

    async def _serve(self):
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self._serving():
            self._ready.set()
            await self._stop.wait()


@contextmanager
def serving(operator, config=None):
    """Serve ``operator`` as the daemon of the file ``config``, or of any."""
    path = _place_of(config)
    with Serving(lambda: serve_control(path, operator)):
        yield path


@contextmanager
def serving_app(app, config=None):
    """Serve any application where the daemon of ``config`` would."""
    path = _place_of(config)
    with Serving(lambda: _serve_app(path, app)):
        yield path


def _place_of(config):
    path = control_socket("0" * 12 if config is None else instance_name(config))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@asynccontextmanager
async def _serve_app(path, app):
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(path)).start()
        yield
    finally:
        await runner.cleanup()


def older_daemon(status):
    """Return the application of a daemon that tells no protocol."""

    async def get_status(_):
        return web.json_response(status)

    async def put_level(_):
        return web.json_response({"level": "debug"})

    app = web.Application()
    app.add_routes([web.get("/status", get_status), web.put("/log-level", put_level)])
    return app


def call(capsys, *arguments):
    """Run the command line; return its exit code, and what it wrote on both streams."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code or 0, *capsys.readouterr()


def use_home(monkeypatch, tmp_path):
    """Look for daemons and files in ``tmp_path`` only."""
    for name in ("SSMTUNNELD_CONFIG", "STATE_DIRECTORY", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(
        "ssmtunneld.cli.daemon_sockets.SYSTEM_PLACES", (tmp_path / "system",)
    )


def greeting_from(port):
    """Return what ``greeter`` says to a client that connects to a local port."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(b"words")
        with client.makefile("rb") as stream:
            return stream.read(len(GREETING))


GREETING = b"hello words"
