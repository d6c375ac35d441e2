"""The README's first command, as a process and from the inside."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import types
import urllib.request
from pathlib import Path

import pytest

from ssmtunneld import demo
from ssmtunneld.config import parse_config
from ssmtunneld.demo import run_demo
from ssmtunneld.errors import SsmtunneldError
from tests.integration import world
from tests.integration.processes import launch
from tests.integration.terminal import OWN_TERMINAL, Terminal
from tests.integration.world import PATIENCE, connection, destination
from tests.interop.programs import environment
from tests.support.ports import free_port
from tests.support.turns import until


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)
    # The demo needs nothing of what is set up here, and none of it may disturb.
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:9")


@pytest.mark.integration
def test_curl_gets_the_page_and_ctrl_c_ends_it_all(tmp_path):
    # Nor may a proxy: everything is loopback.
    nowhere = "http://127.0.0.1:9"
    program = launch("demo", HTTPS_PROXY=nowhere, HTTP_PROXY=nowhere, NO_PROXY="")
    try:
        program.wait_for("Ctrl-C ends it")
        said = program.log()
        page = re.search(r"curl (http://\S+)", said)[1]
        with urllib.request.urlopen(page, timeout=30) as answer:
            assert (answer.status, answer.read().count(b"It works")) == (200, 1)
        # The connection has made the tunnel wish for a spare, which starts now.
        assert program.stop(signal.SIGINT) == 0
        # No later daemon would find it.
        left = Path(os.environ["XDG_STATE_HOME"]) / "ssmtunneld"
        assert list(left.iterdir()) == []
        # Nothing but its own words, and the connection that there was.
        rest = program.log().removeprefix(said)
        assert re.fullmatch(r"(web: connection 1 at 127\.0\.0\.1:\d+\n)?", rest)
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(page)
    finally:
        program.kill()


@pytest.mark.integration
def test_the_daemon_can_be_asked_and_its_configuration_run_beside_it():
    program = launch("demo")
    try:
        program.wait_for("Ctrl-C ends it")
        said = program.log()
        keys = re.search(r"export (.*)", said)[1].split()
        environ = environment(**dict(word.split("=", 1) for word in keys))
        for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            environ[name] = os.environ[name]

        def call(*words):
            argv = [sys.executable, "-m", "ssmtunneld", *words]
            return subprocess.run(
                argv, env=environ, capture_output=True, text=True, check=False
            )

        source = re.search(r"status --watch -c (\S+)", said)[1]
        status = call("status", "--json", "-c", source)
        assert json.loads(status.stdout)["tunnels"][0]["state"] == "ready"
        yours = re.search(r"ssmtunneld run -c (\S+)", said)[1]
        done = call("exec", "-c", yours, "-t", "web", "--", "true")
        assert done.returncode == 0, done.stderr
        assert demo.TARGET in call("targets").stdout
        words = re.search(r"ssmtunneld open (.*?) +# http", said)[1].split()
        assert call("open", *words, "--", "true").returncode == 0
        page = re.search(r"http://\S+(?=/ +# the status page)", said)[0]
        with urllib.request.urlopen(f"{page}/readyz", timeout=30) as answer:
            assert answer.status == 200
    finally:
        program.kill()


@pytest.mark.integration
def test_a_key_cuts_the_websockets_and_a_download_goes_on():
    terminal = Terminal("-m", "ssmtunneld", "demo", columns=200)
    try:
        terminal.wait_for("c cuts the websockets")
        url = re.search(r"(http://\S+/download)", terminal.raw)[1]
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert len(answer.read(65536)) == 65536
            terminal.wait_for(r"web: connection 1 at 127\.0\.0\.1")
            terminal.type("c")
            terminal.wait_for("all websockets cut, with 1 connection")
            terminal.wait_for("resumed: 1 of 1 connections are open")
            assert len(answer.read(1024 * 1024)) == 1024 * 1024
        terminal.type("\x03")
        assert terminal.close() == 0
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.close()


class Screen:
    """The output of the demo, and a way to wait for text in it."""

    def __init__(self):
        self.text = ""
        self._changed = asyncio.Event()

    def say(self, line):
        self.text += f"{line}\n"
        self._changed.set()

    async def wait_for(self, pattern):
        async with asyncio.timeout(30):
            while not (found := re.search(pattern, self.text)):
                self._changed.clear()
                await self._changed.wait()
        return found


async def test_what_is_printed_is_a_configuration_and_what_to_type(monkeypatch):
    monkeypatch.setattr(demo, "_SSH_PORT", 1)
    screen = Screen()
    async with world.logging(), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_demo(screen.say), name="demo")
        await screen.wait_for("Ctrl-C ends it")
        text = screen.text.partition("# Ready")[0]
        config = parse_config(text, "demo.toml", {})
        assert [tunnel.name for tunnel in config.tunnels] == ["web", "echo"]
        assert "ssh -p" not in screen.text
        port = int((await screen.wait_for(r"(?:nc|telnet) 127\.0\.0\.1 (\d+)"))[1])
        # It is the one that runs: whoever types an address of it reaches something.
        assert [str(tunnel.listen[0]) for tunnel in config.tunnels] == [
            re.search(r"curl http://(\S+)/", screen.text)[1],
            f"127.0.0.1:{port}",
        ]
        status_page = re.search(r"http://(\S+)/ +# the status page", screen.text)[1]
        assert [str(address) for address in config.daemon.http_listen] == [status_page]
        async with connection(port) as line:
            assert await world.ask(*line, b"every line\n") == b"every line\n"
        await screen.wait_for(rf"echo: connection 1 at 127\.0\.0\.1:{port}\n")
        web = int((await screen.wait_for(r"curl http://127\.0\.0\.1:(\d+)/"))[1])
        async with connection(web) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"Content-Length: %d\r\n" % len(body) in head
        async with connection(web) as (reader, writer):
            writer.write(b"no HTTP" * 20_000)  # more than a request's head may be
            writer.write_eof()
            assert await _answer(reader) == b"", "a page for what was no request"
        os.kill(os.getpid(), signal.SIGTERM)
        await running


async def _answer(reader):
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("netcat", ["nc", None])
async def test_ssh_and_netcat_are_named_only_where_they_are(monkeypatch, netcat):
    monkeypatch.setattr(demo.shutil, "which", lambda _: netcat)
    screen = Screen()
    async with world.logging(), destination() as port, asyncio.TaskGroup() as tasks:
        monkeypatch.setattr(demo, "_SSH_PORT", port)
        running = tasks.create_task(run_demo(screen.say), name="demo")
        await screen.wait_for("Ctrl-C ends it")
        ssh = int((await screen.wait_for(r"  ssh -p (\d+) 127\.0\.0\.1\n"))[1])
        assert await world.echoes(ssh)
        assert f"  {netcat or 'telnet'} 127.0.0.1 " in screen.text
        os.kill(os.getpid(), signal.SIGINT)
        await running


@pytest.mark.integration
@pytest.mark.parametrize(
    ("called", "in_path", "typed"),
    [
        ("ssmtunneld", True, "ssmtunneld"),
        ("ssmtunneld", False, "{path}"),
        ("my ssmtunneld.pyz", False, "'{path}'"),
        ("__main__.py", False, "ssmtunneld"),
    ],
)
def test_it_is_called_as_it_was(called, in_path, typed, tmp_path, monkeypatch):
    program = tmp_path / called
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", str(tmp_path) if in_path else "")
    assert demo._invoked_as() == typed.format(path=program)


def test_a_reader_that_leaves_ends_it_without_a_trace():
    with subprocess.Popen(
        [sys.executable, "-m", "ssmtunneld", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as process:
        try:
            # It leaves before all is said, or the demo would not notice.
            assert process.stdout.readline().startswith("# The tunnels")
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(30) == 1
        finally:
            process.kill()


def test_a_terminal_that_is_closed_ends_it(tmp_path):
    controller, terminal = os.openpty()
    folder = tmp_path / "temporary"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, "-m", "ssmtunneld", "demo"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**environment(), "TMPDIR": str(folder)},
        start_new_session=True,
    ) as process:
        try:
            os.close(terminal)
            said = b""
            # The whole line: what cannot write it to its end says so.
            while b"Ctrl-C ends it.\r\n" not in said:
                said += os.read(controller, 65536)
            os.close(controller)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    assert list(folder.iterdir()) == []


@pytest.fixture
def terminal(monkeypatch):
    """Standard input on a terminal, and the file that closes it."""
    parent, child = os.openpty()
    # It stays one, as it was for whoever asked in time.
    stdin = types.SimpleNamespace(isatty=lambda: True, fileno=lambda: child)
    monkeypatch.setattr("sys.stdin", stdin)
    with os.fdopen(parent, "wb", buffering=0) as controller:
        yield controller
    os.close(child)


async def test_a_terminal_that_goes_before_it_is_asked_for_keys(terminal):
    terminal.close()
    with demo._keys({}):
        pass


async def test_a_terminal_that_has_gone_is_not_read_for_ever(terminal):
    watched = asyncio.get_running_loop()._selector.get_map()
    pressed = asyncio.Event()
    with demo._keys({"c": pressed.set}):
        terminal.write(b"c")
        await asyncio.wait_for(pressed.wait(), PATIENCE)
        terminal.close()
        await until(lambda: sys.stdin.fileno() not in watched)


def test_no_port_is_chosen_twice():
    # Of some 14,000 that the kernel gives: without care 5 of these would be.
    assert len(set(demo._free_ports(400))) == 400


async def test_a_demo_that_cannot_listen_says_so(monkeypatch):
    monkeypatch.setattr(demo, "_SSH_PORT", 1)
    screen = Screen()
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        taken = [free_port(), one.getsockname()[1], two.getsockname()[1]]
        ports = [*taken, *(free_port() for _ in range(4))]
        monkeypatch.setattr(demo, "_free_ports", lambda _: ports)
        async with world.logging() as events:
            with pytest.raises(SsmtunneldError, match="no tunnel can listen"):
                await run_demo(screen.say)
    assert "Ready" not in screen.text
    assert len(events.find("listener.failed")) == 2


async def test_without_a_temporary_folder_it_says_which_to_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(SsmtunneldError, match="no temporary folder") as caught:
        await run_demo(print)
    assert "TMPDIR" in caught.value.advice
