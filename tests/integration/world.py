"""A daemon, an emulator and destinations in this process, for tests of the whole."""

import asyncio
import json
import os
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from ssmtunneld.base.aio import close_server
from ssmtunneld.base.secret import Secret
from ssmtunneld.config import parse_config
from ssmtunneld.daemon.daemon import Daemon
from ssmtunneld.emulator.server import Emulator
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from tests.support.turns import turns

TARGET = "i-0123456789abcdef0"
ACCESS_KEY = "AKIAEMULATOR00000000"
SECRET_KEY = "canary-secret-key-" + "s" * 22
PATIENCE = 30.0
"""Seconds until a test gives up waiting for what never comes."""


def use_loopback_aws(monkeypatch, tmp_path):
    """Hide the developer's own AWS configuration, and give keys that an emulator takes.

    Everything else that the package keeps in a home directory goes to ``tmp_path`` too.
    """
    for name in os.environ:
        if name.startswith(("AWS_", "SSMTUNNELD_")) or name == "STATE_DIRECTORY":
            monkeypatch.delenv(name)
    wanted = {
        "HOME": tmp_path,
        "XDG_STATE_HOME": tmp_path / "state",
        "XDG_CONFIG_HOME": tmp_path / "config",
        "AWS_CONFIG_FILE": tmp_path / "aws-config",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "eu-west-1",
        "NO_PROXY": "*",
    }
    for name, value in wanted.items():
        monkeypatch.setenv(name, str(value))


def table(name, **settings):
    """Return the TOML table ``[name]``."""
    values = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join([f"[{name}]", *values, ""])


def tunnel(name, **settings):
    """Return the table of one tunnel; on a free port, to the usual target."""
    defaults = {"listen": "127.0.0.1:0", "target": TARGET}
    return table(f"tunnels.{name}", **{**defaults, **settings})


def configuration(endpoint_url, *tunnels, **daemon):
    """Return a whole configuration; keywords are for the table ``[daemon]``."""
    settings = {"drain_timeout": "5s", "start_rate": 100, **daemon}
    defaults = {"endpoint_url": endpoint_url, "linger": "200ms"}
    return "\n".join(
        [table("daemon", **settings), table("defaults", **defaults), *tunnels]
    )


class Events:
    """Lines logged in any thread, and a way to wait for them."""

    def __init__(self):
        self.lines = []
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def take(self, _logger, method, event):
        """Keep one line; a processor for structlog."""
        self.lines.append({"level": method, **event})
        self._loop.call_soon_threadsafe(self._changed.set)
        raise structlog.DropEvent

    def find(self, name, **facts):
        """Return the lines of an event that have all of ``facts``."""
        wanted = {"event": name, **facts}.items()
        return [line for line in self.lines if wanted <= line.items()]

    async def wait_for(self, name, *, count=1, **facts):
        """Return the last of at least ``count`` such lines, as soon as it is there."""
        try:
            async with asyncio.timeout(PATIENCE):
                while len(self.find(name, **facts)) < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            text = "\n".join(map(str, self.lines))
            raise AssertionError(f"{name} {facts} never came:\n{text}") from None
        return self.find(name, **facts)[-1]


_logs = []
"""Logs that are captured now, for the explanation of a failure."""


@asynccontextmanager
async def logging():
    """Catch everything that is logged, at every level."""
    before = structlog.get_config()
    events = Events()
    _logs.append(events)
    structlog.configure(processors=[events.take])
    try:
        yield events
    finally:
        structlog.configure(**before)
        _logs.remove(events)


def emulator(**settings):
    """Return an emulator that is as fast as it can and knows our key."""
    settings = {"pace": Pace.NONE, "access_key": ACCESS_KEY, **settings}
    return Emulator(EmulatorSettings(secret_key=Secret(SECRET_KEY), **settings))


@asynccontextmanager
async def running(text, *, source="test.toml", ready=True, **parts):
    """Run a daemon from configuration ``text``; whatever happens, it must end."""
    daemon = Daemon(parse_config(text, Path(source), {}), **parts)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(daemon.run(), name="daemon")
        try:
            if ready:
                async with asyncio.timeout(PATIENCE):
                    await daemon.ready.wait()
            yield daemon
            daemon.stop()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait([task])
        finally:
            daemon.stop()
            daemon.stop()


def port_of(daemon, name):
    """Return the local port of the tunnel ``name``."""
    tunnel = next(m for m in daemon.tunnels if m.settings.name == name)
    return int(tunnel.server.bound[0].rpartition(":")[2])


def has_ipv6():
    """Say whether ::1 can be bound here."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def statuses(service):
    """Return the status of every session that an emulator ever had."""
    return [session.status.value for session in service.sessions]


@asynccontextmanager
async def destination(serve=None):
    """Serve on a free loopback port, by default an echo, and yield the port.

    Its end cuts what is left: the agent keeps the connections of a session that nobody
    has terminated, and would for twenty minutes.
    """
    serve = serve or echo
    present = set()

    async def attend(reader, writer):
        present.add(writer)
        try:
            await serve(reader, writer)
        finally:
            present.discard(writer)

    server = await asyncio.start_server(attend, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await close_server(server)
        for writer in present:
            writer.transport.abort()
        await turns(1)
        # Since Python 3.12 this waits for connections.
        await server.wait_closed()


async def echo(reader, writer):
    """Return what comes, until the peer has no more."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the agent is gone
    finally:
        writer.close()


@asynccontextmanager
async def connection(address):
    """Connect to a port, a ``host, port`` pair or the path of a Unix socket."""
    if isinstance(address, Path):
        opening = asyncio.open_unix_connection(address)
    else:
        host, port = address if isinstance(address, tuple) else ("127.0.0.1", address)
        opening = asyncio.open_connection(host, port)
    reader, writer = await opening
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask(reader, writer, data):
    """Send ``data`` and return as many bytes of the answer."""
    writer.write(data)
    try:
        async with asyncio.timeout(PATIENCE):
            return await reader.readexactly(len(data))
    except TimeoutError:
        logged = "\n".join(str(line) for log in _logs for line in log.lines)
        raise AssertionError(f"no answer in {PATIENCE:g} s:\n{logged}") from None


async def echoes(address, data=b"is anybody there?"):
    """Say whether an echo answers behind ``address``."""
    async with connection(address) as (reader, writer):
        return await ask(reader, writer, data) == data
