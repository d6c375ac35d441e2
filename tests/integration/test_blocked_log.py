"""A daemon whose log nobody takes: it serves, answers, reloads and ends."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ssmtunneld.testing import EmulatorThread
from tests.integration.world import PATIENCE, configuration, destination, echoes, tunnel
from tests.serve.test_status_page import ask
from tests.support.ports import free_port
from tests.support.turns import look_again

STOP_OUTPUT = b"\x13"
"""Ctrl-S."""
RESUME_OUTPUT = b"\x11"


@contextlib.contextmanager
def _full_pipe():
    """Yield the end of a pipe that takes nothing, as nobody reads the other one."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    try:
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def _stopped_terminal():
    controller, terminal = pty.openpty()
    os.write(controller, STOP_OUTPUT)
    try:
        yield terminal
    finally:
        os.close(controller)
        os.close(terminal)


@contextlib.contextmanager
def _full_disk():
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reader_that_has_gone():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@asynccontextmanager
async def _daemon(path, text, stderr, environ, *options):
    path.write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ssmtunneld", "run", "--config", str(path), *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=stderr,
        env={**os.environ, **environ},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _until(condition):
    """Return once ``condition`` holds; what cannot be reached yet does not count."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, IndexError):
                if await condition():
                    return
            await look_again()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
@pytest.mark.parametrize(
    "log", [_full_pipe, _stopped_terminal, _full_disk, _reader_that_has_gone]
)
async def test_a_log_that_nobody_takes_is_in_nobodys_way(tmp_path, log):
    local, web = free_port(), free_port()
    with EmulatorThread() as service, log() as stderr:
        async with destination() as port:
            text = configuration(
                service.endpoint_url,
                tunnel("echo", listen=local, port=port),
                http_listen=f"127.0.0.1:{web}",
            )
            path = tmp_path / "config.toml"
            options = ("--log-level", "debug")
            async with _daemon(
                path, text, stderr, service.environment, *options
            ) as process:
                await _until(lambda: echoes(local, b"hello"))

                async def lives():
                    status, _, _ = await ask(f"127.0.0.1:{web}", "/livez")
                    return status == 200

                await _until(lives)
                other = free_port()
                path.write_text(text + tunnel("another", listen=other, port=port))
                process.send_signal(signal.SIGHUP)
                await _until(lambda: echoes(other, b"hello"))
                assert await echoes(local, b"hello" * 1000)
                process.terminate()
                async with asyncio.timeout(PATIENCE):
                    assert await process.wait() == 0


async def test_a_terminal_that_goes_on_shows_what_was_said_meanwhile(tmp_path):
    local = free_port()
    controller, terminal = pty.openpty()
    os.write(controller, STOP_OUTPUT)
    with EmulatorThread() as service:
        async with destination() as port:
            text = configuration(
                service.endpoint_url, tunnel("echo", listen=local, port=port)
            )
            options = ("--log-format", "json")
            async with _daemon(
                tmp_path / "config.toml", text, terminal, service.environment, *options
            ) as process:
                os.close(terminal)
                await _until(lambda: echoes(local, b"hello"))
                os.write(controller, RESUME_OUTPUT)
                process.terminate()
                shown = await asyncio.to_thread(_read_all, controller)
                assert await process.wait() == 0
    os.close(controller)
    lines = [json.loads(line) for line in shown.splitlines() if b"{" in line]
    events = [line["event"] for line in lines]
    assert events[0] == "daemon.started"
    assert events[-1] == "daemon.stopped"
    assert "session.ready" in events
    assert "log.resumed" not in events
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def _read_all(descriptor):
    data = b""
    with contextlib.suppress(OSError):  # how Linux tells the end of a terminal
        while more := os.read(descriptor, 65536):
            data += more
    return data


@pytest.mark.parametrize("log", [_full_pipe, _stopped_terminal])
async def test_a_failed_start_ends_although_nobody_reads_why(tmp_path, log):
    with log() as stderr:
        text = configuration("http://127.0.0.1:9", tunnel("echo", port=1))
        text = text.replace("127.0.0.1:0", "192.0.2.1:0") + 'allow = ["10.0.0.0/8"]\n'
        async with (
            _daemon(tmp_path / "config.toml", text, stderr, {}) as process,
            asyncio.timeout(PATIENCE),
        ):
            assert await process.wait() == 1


async def test_a_failed_start_says_why_behind_its_log(tmp_path):
    text = configuration("http://127.0.0.1:9", tunnel("echo", port=1))
    text = text.replace("127.0.0.1:0", "192.0.2.1:0") + 'allow = ["10.0.0.0/8"]\n'
    stderr = asyncio.subprocess.PIPE
    async with _daemon(tmp_path / "config.toml", text, stderr, {}) as process:
        _, said = await process.communicate()
    assert process.returncode == 1
    *_, stopped, last = said.decode().splitlines()
    assert "daemon.stopped" in stopped
    assert last == "ssmtunneld: no tunnel can listen on its addresses"


@pytest.mark.parametrize("closed", [0, 1, 2])
async def test_a_daemon_may_be_started_without_a_standard_file(tmp_path, closed):
    local = free_port()
    with EmulatorThread() as service:
        async with destination() as port:
            path = tmp_path / "config.toml"
            path.write_text(
                configuration(
                    service.endpoint_url, tunnel("echo", listen=local, port=port)
                )
            )
            command = f"exec {sys.executable} -m ssmtunneld run -c {path} {closed}<&-"
            process = await asyncio.create_subprocess_shell(
                command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, **service.environment},
            )
            try:
                await _until(lambda: echoes(local, b"hello"))
                if sys.platform == "linux":
                    link = Path(f"/proc/{process.pid}/fd/{closed}")
                    shown = await asyncio.to_thread(link.readlink)
                    assert str(shown) == os.devnull
                process.terminate()
                async with asyncio.timeout(PATIENCE):
                    assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()


async def test_forked_children_write_lines_of_their_own(tmp_path):
    code = (
        "import os\n"
        "from ssmtunneld.base.log import get_log\n"
        "from ssmtunneld.observe import logs\n"
        "logs.configure('info', 'json')\n"
        "get_log().info('parent.spoken')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    get_log().info('child.spoken')\n"
        "    logs.flush(30)\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", code),
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
    )
    _, said = await process.communicate()
    events = sorted(json.loads(line)["event"] for line in said.splitlines())
    assert events == ["child.spoken", "parent.spoken"]
