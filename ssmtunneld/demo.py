"""The demonstration: emulator, destinations and daemon in one process, all loopback.

Nothing is simulated but AWS: the daemon is the one that ``ssmtunneld run`` starts, from
a configuration that is printed, and the emulator is as slow as the real agent is.
"""

import asyncio
import os
import shlex
import shutil
import socket
import sys
import tempfile
import termios
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Final

from ssmtunneld.base.aio import close_server
from ssmtunneld.config import parse_config
from ssmtunneld.daemon.daemon import Daemon
from ssmtunneld.daemon.instance_lock import claim_instance
from ssmtunneld.daemon.process import stop_on_signals
from ssmtunneld.emulator.server import Emulator
from ssmtunneld.emulator.settings import EmulatorSettings, Node
from ssmtunneld.errors import SsmtunneldError

TARGET: Final = "i-0123456789abcdef0"
_NAME: Final = "demo"
"""The target's name, for ``name:``."""
_SSH_PORT: Final = 22
_MOST_PORTS: Final = 9
"""Four in each of two files, and one for a command."""
_DOWNLOAD: Final = 30 * 1024 * 1024
"""Bytes of the page /download: half a minute and more at the agent's pace."""
_CHUNK: Final = 64 * 1024
_LOOK_INTERVAL: Final = 0.2
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
    """Run the demonstration until SIGINT, SIGTERM or SIGHUP.

    Args:
        say: Prints one line to the user.

    Raises:
        SsmtunneldError: It could not start.
    """
    for name in _UNWANTED:
        os.environ.pop(name, None)
    os.environ.update(_ENVIRONMENT)
    async with AsyncExitStack() as stack:
        node = Node(name=_NAME, tags={"Role": "bastion"})
        settings = EmulatorSettings(targets=frozenset({TARGET}), nodes={TARGET: node})
        emulator = await stack.enter_async_context(Emulator(settings))
        page = await stack.enter_async_context(_destination(_serve_page))
        echo = await stack.enter_async_context(_destination(_serve_echo))
        folder = Path(stack.enter_context(_temporary_folder()))
        url = emulator.endpoint_url
        # Two of them with ports of their own, so that both can run at once.
        source, yours = folder / "demo.toml", folder / "yours.toml"
        ports = iter(_free_ports(_MOST_PORTS))
        text = _configuration(url, page, echo, ports)
        source.write_text(text)
        yours.write_text(_configuration(url, page, echo, ports))
        config = parse_config(text, source, {})
        claim = stack.enter_context(claim_instance(source))
        # The folder, and so the name, is another one each time.
        daemon = Daemon(config, claim.name, lasting=False)
        say(f"# The tunnels of this demo, {source}:\n")
        say(text)
        guide = _Guide(daemon, emulator, say, yours, page, next(ports))
        with stop_on_signals(daemon):
            await _run(daemon, guide)


def _temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    try:
        return tempfile.TemporaryDirectory("-demo")
    except OSError as error:
        trouble = SsmtunneldError(f"no temporary folder can be made: {error.strerror}")
        trouble.advice = "let TMPDIR name a folder that this user can write"
        raise trouble from None


async def _run(daemon: Daemon, guide: "_Guide") -> None:
    """Run the daemon to its end, and say what to type once it is ready.

    Raises:
        SsmtunneldError: It could not start.
        OSError: What it says cannot be written any more.
    """
    failures: list[SsmtunneldError | OSError] = []

    async def tell() -> None:
        try:
            await guide.run()
        except OSError as error:
            failures.append(error)
            daemon.stop()

    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(tell(), name="instructions")
        try:
            await daemon.run()
        except SsmtunneldError as error:
            failures.append(error)  # the task group would put it into a group of one
        telling.cancel()
    for failure in failures:
        raise failure


def _configuration(
    endpoint_url: str, page: int, echo: int, ports: Iterator[int]
) -> str:
    tables = [
        f"""\
[daemon]
drain_timeout = "2s"
http_listen = "127.0.0.1:{next(ports)}"   # the status page

[defaults]
target = "{TARGET}"
region = "eu-west-1"
endpoint_url = "{endpoint_url}"   # the emulator; leave it out for AWS itself

[tunnels.web]
listen = "127.0.0.1:{next(ports)}"
port = {page}

[tunnels.echo]
listen = "127.0.0.1:{next(ports)}"
port = {echo}
"""
    ]
    if _is_open(_SSH_PORT):
        tables.append(
            f"""\
[tunnels.ssh]
listen = "127.0.0.1:{next(ports)}"
port = {_SSH_PORT}
"""
        )
    return "\n".join(tables)


class _Guide:
    """Says what to type, what happens, and answers keys.

    Args:
        daemon: The demo's.
        emulator: The service that it talks to.
        say: Prints one line.
        yours: A file that can run next to the demo.
        page: The port of the web server behind the agent.
        local: A port that is free for a tunnel to it.
    """

    def __init__(
        self,
        daemon: Daemon,
        emulator: Emulator,
        say: Callable[[str], None],
        yours: Path,
        page: int,
        local: int,
    ) -> None:
        self._daemon = daemon
        self._emulator = emulator
        self._say = say
        self._yours = yours
        self._page = page
        self._local = local
        self._accepted: dict[str, int] = {}
        self._cut: int | None = None
        self._fresh_cut = False

    async def run(self) -> None:
        """Say everything, until cancelled."""
        await self._daemon.ready.wait()
        self._instruct()
        with _keys({"c": self._cut_websockets}):
            while True:
                self._look()
                await asyncio.sleep(_LOOK_INTERVAL)

    def _instruct(self) -> None:
        ports = {
            tunnel.settings.name: tunnel.server.bound[0].rpartition(":")[2]
            for tunnel in self._daemon.tunnels
        }
        say, web = self._say, f"http://127.0.0.1:{ports['web']}"
        keys = " ".join(f"{name}={_ENVIRONMENT[name]}" for name in _KEYS)
        url = self._emulator.endpoint_url
        say("# Ready. In another terminal, try:\n")
        say(f"  curl {web}/")
        say(f"  curl -o /dev/null {web}/download")
        netcat = "nc" if shutil.which("nc") else "telnet"
        say(f"  {netcat} 127.0.0.1 {ports['echo']}      # every line comes back")
        if "ssh" in ports:
            say(f"  ssh -p {ports['ssh']} 127.0.0.1")
        source = self._yours.with_name("demo.toml")
        us = _invoked_as()
        say(f"  {us} status --watch -c {source}")
        address = self._daemon.settings.http_listen[0]
        say(f"  http://{address}/      # the status page, for a browser")
        say(
            "\n# A tunnel of your own to the page, without a file: two lines to type.\n"
        )
        say(f"  export {keys} AWS_REGION=eu-west-1 AWS_ENDPOINT_URL_SSM={url}")
        open_page = f"{us} open name:{_NAME} {self._page} --listen {self._local}"
        browser = f"http://127.0.0.1:{self._local}/"
        if shutil.which("curl"):
            say(f"  {open_page} -- curl -sS {browser}")
            say("\n# Without curl it stays open:\n")
        say(f"  {open_page}      # {browser}")
        say("\n# A file of your own: the tunnels above on other local ports.\n")
        say(f"  {us} run -c {self._yours}")
        if sys.stdin.isatty():
            say("\n# c cuts the websockets: what is under way goes on.")
        say("\n# Ctrl-C ends it.")

    def _look(self) -> None:
        """Say what has happened since the last look."""
        found = self._daemon.snapshot().tunnels
        for tunnel in found:
            before = self._accepted.get(tunnel.name, 0)
            self._accepted[tunnel.name] = tunnel.accepted
            for number in range(before + 1, tunnel.accepted + 1):
                listen = tunnel.listen[0] if tunnel.listen else "-"
                self._say(f"{tunnel.name}: connection {number} at {listen}")
        if self._fresh_cut:
            self._fresh_cut = False  # the daemon may not have noticed yet
        elif self._cut is not None and all(m.state.value == "ready" for m in found):
            open_now = sum(tunnel.connections for tunnel in found)
            self._say(f"resumed: {open_now} of {self._cut} connections are open")
            self._cut = None

    def _cut_websockets(self) -> None:
        found = self._daemon.snapshot().tunnels
        self._cut = sum(tunnel.connections for tunnel in found)
        self._fresh_cut = True
        self._emulator.cut_websockets()
        number = f"{self._cut} connection{'' if self._cut == 1 else 's'}"
        self._say(f"all websockets cut, with {number}")


_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@contextmanager
def _keys(answers: dict[str, Callable[[], None]]) -> Iterator[None]:
    """Call ``answers`` for keys that are typed, without echo; only on a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(terminal)
        tty.setcbreak(terminal)
    except termios.error:  # it was closed just now: SIGHUP is on its way
        yield
        return
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            keys = os.read(terminal, 64)
        except OSError:
            keys = b""
        if not keys:  # it has gone, and would be found readable for ever
            loop.remove_reader(terminal)
        for key in keys.decode("ascii", "replace"):
            answers.get(key, lambda: None)()

    loop.add_reader(terminal, read)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        with suppress(termios.error):  # it may be what has gone
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


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
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /download "):
            await _send_download(writer)
            return
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


async def _send_download(writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n" % _DOWNLOAD
    )
    for _ in range(_DOWNLOAD // _CHUNK):
        writer.write(bytes(_CHUNK))
        await writer.drain()


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


def _free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free.

    They are held until all are chosen, so that none is chosen twice.
    """
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _invoked_as() -> str:
    """Return what to type for this program: its path where the name is not enough."""
    program = Path(sys.argv[0])
    # The single file can have any other name.
    if program.name != "ssmtunneld" and program.suffix != ".pyz":
        return "ssmtunneld"
    found = shutil.which("ssmtunneld")
    if found and Path(found).samefile(program):
        return "ssmtunneld"
    return shlex.quote(str(program))
