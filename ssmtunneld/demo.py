"""The demonstration: emulator, destinations and daemon in one process, all loopback.

Nothing is simulated but AWS: the daemon is the one that ``ssmtunneld run`` starts, from
a configuration that is printed, and the emulator is as slow as the real agent is.
"""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from ssmtunneld.config import parse_config
from ssmtunneld.daemon import Daemon
from ssmtunneld.emulator.server import Emulator
from ssmtunneld.emulator.settings import EmulatorSettings
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.farewell import close_server
from ssmtunneld.process import stop_on_signals

_SSH_PORT: Final = 22
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>ssmtunneld demo</title>
<style>body{font:1.1em/1.6 system-ui;max-width:34em;margin:4em auto}</style>
<h1>It works</h1>
<p>This page came through an (emulated) Session Manager data channel: a local listener,
an smux stream, acknowledged messages on a websocket, an agent, and a web server behind
it that only the agent can reach.</p>
</html>
"""

# Any well-formed credentials do: the emulator accepts every signature.
_ENVIRONMENT: Final = {
    "AWS_ACCESS_KEY_ID": "AKIADEMODEMODEMODEMO",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_REGION": "eu-west-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_UNWANTED: Final = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_SSM")


async def run_demo(say: Callable[[str], None]) -> None:
    """Run the demonstration until SIGINT or SIGTERM.

    Args:
        say: Prints one line to the user.

    Raises:
        SsmtunneldError: It could not start.
    """
    for name in _UNWANTED:
        os.environ.pop(name, None)
    os.environ.update(_ENVIRONMENT)
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator(EmulatorSettings()))
        page = await stack.enter_async_context(_destination(_serve_page))
        echo = await stack.enter_async_context(_destination(_serve_echo))
        text = _configuration(emulator.endpoint_url, page, echo)
        config = parse_config(text, Path("demo.toml"), {})
        daemon = Daemon(config)
        say("# The configuration of this demo, as a file for `ssmtunneld run`:\n")
        say(text)
        with stop_on_signals(daemon):
            await _run(daemon, say)


async def _run(daemon: Daemon, say: Callable[[str], None]) -> None:
    """Run the daemon to its end, and say what to type once it is ready.

    Raises:
        SsmtunneldError: It could not start.
    """
    failure: SsmtunneldError | None = None
    async with asyncio.TaskGroup() as tasks:
        guide = tasks.create_task(_instruct(daemon, say), name="instructions")
        try:
            await daemon.run()
        except SsmtunneldError as error:
            failure = error  # the task group would put it into a group of one
        guide.cancel()
    if failure is not None:
        raise failure


def _configuration(endpoint_url: str, page: int, echo: int) -> str:
    tables = [
        f"""\
[daemon]
drain_timeout = "2s"

[defaults]
target = "i-0123456789abcdef0"
endpoint_url = "{endpoint_url}"   # the emulator; leave it out for AWS itself

[tunnels.web]
listen = "127.0.0.1:{_free_port()}"
port = {page}

[tunnels.echo]
listen = "127.0.0.1:{_free_port()}"
port = {echo}
"""
    ]
    if _is_open(_SSH_PORT):
        tables.append(
            f"""\
[tunnels.ssh]
listen = "127.0.0.1:{_free_port()}"
port = {_SSH_PORT}
"""
        )
    return "\n".join(tables)


async def _instruct(daemon: Daemon, say: Callable[[str], None]) -> None:
    await daemon.ready.wait()
    ports = {
        mapping.tunnel.name: mapping.server.bound[0].rpartition(":")[2]
        for mapping in daemon.mappings
    }
    say("# Ready. In another terminal, try:\n")
    say(f"  curl http://127.0.0.1:{ports['web']}/")
    netcat = "nc" if shutil.which("nc") else "telnet"
    say(f"  {netcat} 127.0.0.1 {ports['echo']}      # every line comes back")
    if "ssh" in ports:
        say(f"  ssh -p {ports['ssh']} 127.0.0.1")
    say("\n# Ctrl-C ends it.")


@asynccontextmanager
async def _destination(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve on a free loopback port, and yield it."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        await close_server(server)
        await server.wait_closed()


async def _serve_page(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        body = _PAGE.encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # a client that says no HTTP gets no page
    finally:
        writer.close()


async def _serve_echo(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the client is gone, and so is its echo
    finally:
        writer.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
