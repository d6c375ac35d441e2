"""`ssmtunneld top` in a real terminal, with a real daemon."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ssmtunneld.testing import ACCESS_KEY, SECRET_KEY, EmulatorThread
from tests.integration.processes import await_line, await_port, running
from tests.integration.terminal import OWN_TERMINAL, Screen
from tests.integration.world import PATIENCE, configuration, tunnel
from tests.support.tui import need_textual

need_textual()

SIZES = [(80, 24), (200, 50), (40, 10)]
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
COLOUR = re.compile(
    r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m"
)
"""A sequence that sets a colour; 39 and 49 are the terminal's own."""


@contextmanager
def greeting():
    """Send a byte to whoever connects, and keep the connection; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as kept:

        def serve():
            with suppress(OSError):  # the server is closed
                while True:
                    connection, _ = server.accept()
                    kept.enter_context(connection)
                    connection.sendall(b"!")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


class Top(Screen):
    """``top`` in a terminal whose screen can be looked at."""

    def __init__(self, config, size=(80, 24), env=None, program=("-m", "ssmtunneld")):
        super().__init__(
            *(*program, "top", "-c", config),
            columns=size[0],
            rows=size[1],
            env=env,
        )

    def end(self):
        """End it, whatever it does, unless it has ended."""
        if self.process.returncode is None:
            self.process.kill()
            self.close()

    def modes(self):
        """Return the local modes of its terminal."""
        return termios.tcgetattr(self._screen)[3]


@pytest.fixture
def tmp_path():
    """A folder whose path fits into a Unix socket's and into a line of the screen."""
    with TemporaryDirectory(prefix="top-") as folder:
        yield Path(folder)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Yield a starter of daemon processes with two tunnels."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with EmulatorThread() as emulator, greeting() as port:
        text = configuration(
            emulator.endpoint_url,
            tunnel("orders", port=port),
            tunnel("wiki", port=port),
        )
        yield partial(running, tmp_path / "c.toml", text, "--log-format", "json")


@contextmanager
def everything(start, tmp_path, size=(80, 24), **environ):
    """Run a daemon with one connection, and `top`."""
    with ExitStack() as stack:
        daemon = stack.enter_context(start())
        await_line(daemon, "daemon.ready")
        port = await_port(daemon, "orders")
        client = socket.create_connection(("127.0.0.1", port))
        stack.enter_context(closing(client))
        assert client.recv(1) == b"!"
        shown = Top(tmp_path / "c.toml", size, {**os.environ, **environ})
        stack.callback(shown.end)
        yield daemon, shown


@sizes
def test_every_key_works_in_a_terminal_and_leaves_it_as_it_was(start, tmp_path, size):
    with everything(start, tmp_path, size) as (daemon, shown):
        text = shown.see("2 of 2 tunnels usable, 1 connection,")
        assert re.search(r"(?m)^orders +ready +1", text)
        shown.see(r"(?m)^\? help  q quit")
        shown.type("\x1b[Bp")  # the arrow down
        await_line(daemon, "tunnel.paused", tunnel="wiki")
        shown.see(r"wiki +paused")
        shown.type("r")
        await_line(daemon, "tunnel.resumed", tunnel="wiki")
        shown.see(r"wiki +(ready|starting)")
        shown.type("?")
        shown.see("Show these keys")
        shown.type("\x1b")  # which with the next key at once would be another key
        shown.see_no_more("Show these keys")
        shown.type("\tk")
        shown.see("Kill connection")
        shown.type("y")
        shown.see_no_more("Kill connection")
        shown.see("Connections 0")
        shown.type("\t")
        shown.see("Sessions [1-9]")
        shown.type("\t")
        shown.see("connection.killed")
        shown.type("\td")
        shown.see("Drain wiki")
        shown.type("y")
        await_line(daemon, "tunnel.drained", tunnel="wiki")
        shown.see(r"wiki +paused")
        shown.type("/ord")
        shown.see("Tunnels 1")
        shown.type("\r")
        shown.see(r"\? help")
        shown.type("D")
        shown.see("the tunnel works")
        shown.type("q")
        shown.see_no_more("the tunnel works")
        shown.see(r"orders +ready")
        shown.type("q")
        assert shown.close() == 0
        # The other screen is left, and the cursor is back.
        for begin, end in (("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h")):
            assert shown.raw.rfind(end) > shown.raw.rfind(begin)


def test_without_colour_there_is_none(start, tmp_path):
    with everything(start, tmp_path, NO_COLOR="1") as (_, shown):
        shown.see("2 of 2 tunnels usable")
        shown.type("\t?")
        shown.see("Show these keys")
        shown.type("\x03")
        assert shown.close() == 0
        assert COLOUR.search(shown.raw) is None
        # What is selected is seen all the same.
        assert re.search(r"\x1b\[(?:[0-9;]*;)?7(?:;[0-9;]*)?m", shown.raw)


def test_with_colours_they_are_the_terminals_own(start, tmp_path):
    with everything(start, tmp_path) as (_, shown):
        shown.see("2 of 2 tunnels usable")
        shown.type("q")
        assert shown.close() == 0
        assert COLOUR.search(shown.raw)
        assert not re.search(r"\x1b\[[0-9;]*[34]8;[25]", shown.raw)


def test_it_outlives_the_daemon_and_follows_the_next_one(start, tmp_path):
    with everything(start, tmp_path, (200, 50)) as (daemon, shown):
        shown.see("2 of 2 tunnels usable")
        assert daemon.stop() == 0
        shown.see(r"no daemon runs for \S+ \(for \d+s\); waiting")
        with start() as following:
            await_line(following, "daemon.ready")
            shown.see("2 of 2 tunnels usable.*restarted 1x meanwhile")
            shown.type("p")
            await_line(following, "tunnel.paused", tunnel="orders")
            shown.type("q")
            assert shown.close() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(start, tmp_path, number):
    with everything(start, tmp_path) as (_, shown):
        shown.see("2 of 2 tunnels usable")
        shown.process.send_signal(number)
        assert shown.close() == 0
        assert "\x1b[?1049l" in shown.raw
        assert "Traceback" not in shown.raw


def test_a_terminal_that_goes_takes_it_along(start, tmp_path):
    with start() as daemon:
        await_line(daemon, "daemon.ready")
        parent, child = pty.openpty()
        argv = ["-m", "ssmtunneld", "top", "-c", tmp_path / "c.toml"]
        # Without a thread that reads: it would hold the terminal.
        process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *map(str, argv)],
            stdin=child,
            stdout=child,
            stderr=child,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        try:
            os.close(child)
            seen = b""
            while b"usable" not in seen:
                seen += os.read(parent, 65536)
            os.close(parent)
            assert process.wait(30) is not None
        finally:
            process.kill()
            process.wait()


def test_the_terminals_modes_are_given_back(start, tmp_path):
    with everything(start, tmp_path) as (_, shown):
        shown.see("2 of 2 tunnels usable")
        inside = shown.modes()
        shown.type("q")
        shown.process.wait(30)
        assert not inside & termios.ECHO
        assert shown.modes() & termios.ECHO
        shown.close()


BROKEN = """
import sys
from ssmtunneld.cli.main import main
{how}
def break_down(*_):
    token = "hunter2"
    raise ValueError("no such token: " + token)
{where} = break_down
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("how", "where"),
    [
        ("from ssmtunneld.cli.top import app", "app.Board.action_help"),
        ("from ssmtunneld.cli.top import app", "app.Board._show_head"),
        ("from ssmtunneld.cli.top import app", "app.TopApp.run"),
        ("from ssmtunneld.cli.top import daemon_source", "daemon_source.Feed._run"),
    ],
)
def test_a_defect_is_one_line_without_values_and_the_terminal_is_as_it_was(
    start, tmp_path, how, where
):
    with start() as daemon:
        await_line(daemon, "daemon.ready")
        words = ("-c", BROKEN.format(how=how, where=where))
        shown = Top(tmp_path / "c.toml", program=words)
        try:
            before = shown.modes()
            if where.endswith("action_help"):
                shown.see("2 of 2 tunnels usable")
                shown.type("?")
            assert shown.process.wait(PATIENCE) == 1
            shown.wait_for("report it with this line")
            assert shown.modes() & termios.ECHO
            assert before & termios.ECHO
            raw = shown.raw
        finally:
            shown.end()
    assert "hunter2" not in raw
    assert "Traceback" not in raw
    # What was on the screen before it is there again.
    last = raw.rpartition("\x1b[?1049l")[2]
    lines = [line for line in COLOUR.sub("", last).splitlines() if "ssmtunneld" in line]
    (line,) = [line for line in lines if "defect" in line]
    assert re.search(r"ssmtunneld: defect: ValueError at \S+", line)
