"""A service and a daemon on the loop of the test, and the environment they need."""

import asyncio
import os
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ssmtunneld.config import parse_config
from ssmtunneld.daemon.daemon import Daemon
from ssmtunneld.emulator.server import Emulator
from tests.chaos.client import rest


@contextmanager
def environment(directory):
    """Set what the daemon reads; yield a function that renews the credentials."""
    credentials = Path(directory) / "credentials"
    numbers = iter(range(1_000_000))

    def log_in():
        text = (
            "[default]\naws_access_key_id = AKIAEMULATOR00000000\n"
            f"aws_secret_access_key = secret-{next(numbers)}\n"
        )
        fresh = credentials.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(credentials)

    wanted = {
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "STATE_DIRECTORY": str(directory),
    }
    before = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("AWS_") or name in wanted
    }
    for name in before:
        del os.environ[name]
    os.environ.update(wanted)
    log_in()
    try:
        yield log_in
    finally:
        for name in wanted:
            del os.environ[name]
        os.environ.update(before)


@dataclass
class House:
    """The parts that run in a household."""

    emulator: Emulator
    daemon: Daemon
    left: list = field(default_factory=list)
    """Ids of the sessions that the daemon left on the service; filled at its end."""

    @property
    def ports(self):
        """The local ports of the tunnels, in the order of the file."""
        return [port_of(tunnel) for tunnel in self.daemon.tunnels]


@asynccontextmanager
async def household(text, settings, instance=None):
    """Run an emulator and a daemon; yield the house once the daemon is ready.

    Args:
        text: The configuration; ``{endpoint}`` in it becomes the emulator's URL.
        settings: The emulator's.
        instance: The daemon's name.
    """
    async with Emulator(settings) as emulator:
        filled = text.replace("{endpoint}", emulator.endpoint_url)
        daemon = Daemon(parse_config(filled, Path("test.toml"), {}), instance)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(daemon.run(), name="daemon")
            await daemon.ready.wait()
            house = House(emulator, daemon)
            yield house
            daemon.stop()
        house.left = [session.id for session in emulator.sessions if not session.over]


def port_of(tunnel):
    """Return the TCP port that a tunnel listens on."""
    return int(tunnel.server.bound[0].rpartition(":")[2])


async def until(condition):
    """Return when ``condition()`` holds; bound the wait with ``asyncio.timeout``."""
    while not condition():
        await rest(0.01)


def watch(tunnel):
    """Note which session carries which connection; return ids by the local port.

    This is the only place that looks inside the daemon: nothing outside of it tells,
    and without it one lost session would excuse every reset connection.
    """
    carried, streams = {}, {}
    pool = tunnel.pool
    at_once, wait, move = pool.stream_at_once, pool.open_stream, pool._move
    start = tunnel.server._start
    accepted = []

    def starting(sock, name, client):
        # A stream that is ready is taken before the connection has a task.
        accepted.append(name)
        try:
            start(sock, name, client)
        finally:
            accepted.clear()

    def note(port, stream):
        streams[port] = stream
        carried[port] = stream.session.session_id

    def here(stream):
        if stream is not None:
            (name,) = accepted or [asyncio.current_task().get_name()]
            note(int(name.rpartition(":")[2]), stream)
        return stream

    async def waited(timeout):
        return here(await wait(timeout))

    def moving(session, stream):
        found = move(session, stream)
        for port, known in streams.items():
            if known is stream and port in carried:
                note(port, stream)
        return found

    pool.stream_at_once = lambda: here(at_once())
    pool.open_stream = waited
    pool._move = moving
    tunnel.server._start = starting
    return carried
