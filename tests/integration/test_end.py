"""The end of a process is certain, whatever holds it up.

What holds it up here would do so for minutes: that it ends at all while a test waits
shows that it did not wait for that.
"""

import asyncio
import os
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import await_line, await_port, lines_of, running
from tests.integration.world import (
    PATIENCE,
    ask,
    configuration,
    connection,
    destination,
    tunnel,
)
from tests.support.turns import PAUSE

JSON = ("--log-format", "json")


@pytest.fixture
def service():
    """An emulator on a loop of its own."""
    with EmulatorThread() as emulator:
        yield emulator


async def in_thread(function, *arguments, **facts):
    return await asyncio.to_thread(function, *arguments, **facts)


@asynccontextmanager
async def trickling_api():
    """An API that answers a byte at a time; yield its URL and what tells of a call."""
    asked = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        gone = asyncio.Event()
        timers = []

        def trickle():
            if writer.is_closing():
                gone.set()
            else:
                writer.write(b" ")
                timers.append(loop.call_later(0.2, trickle))

        loop = asyncio.get_running_loop()
        trickle()
        try:
            await gone.wait()
        finally:
            timers[-1].cancel()
            writer.transport.abort()

    async with destination(serve) as port:
        yield f"http://127.0.0.1:{port}", asked


async def test_a_call_that_trickles_does_not_hold_up_the_end(tmp_path):
    async with trickling_api() as (url, asked):
        path = tmp_path / "config.toml"
        text = configuration(url, tunnel("x", port=1), drain_timeout=1)
        with running(path, text, *JSON) as program:
            async with asyncio.timeout(PATIENCE):
                await asked.wait()
            program.process.send_signal(signal.SIGTERM)
            await in_thread(program.process.wait, PATIENCE)
            (aborted,) = lines_of(program, "daemon.aborted")
            assert aborted["threads"], program.log()


async def test_a_second_signal_ends_it_whatever_is_left(service, tmp_path):
    """A connection that goes on, and a call that never ends."""
    async with trickling_api() as (url, asked), destination() as port:
        path = tmp_path / "config.toml"
        text = configuration(
            service.endpoint_url,
            tunnel("good", port=port),
            tunnel("bad", port=1, endpoint_url=url, required=False),
            drain_timeout=300,
        )
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            async with connection(await_port(program, "good")) as line:
                assert await ask(*line, b"hello") == b"hello"
                async with asyncio.timeout(PATIENCE):
                    await asked.wait()
                program.process.send_signal(signal.SIGTERM)
                await in_thread(await_line, program, "daemon.draining")
                assert await ask(*line, b"still here") == b"still here"
                program.process.send_signal(signal.SIGTERM)
                await in_thread(program.process.wait, PATIENCE)
            assert lines_of(program)[-1]["event"] == "daemon.aborted"
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


async def test_a_third_signal_ends_it_at_once(service, tmp_path):
    async with destination() as port:
        path = tmp_path / "config.toml"
        text = configuration(
            service.endpoint_url, tunnel("x", port=port), drain_timeout=300
        )
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            async with connection(await_port(program, "x")) as line:
                assert await ask(*line, b"hello") == b"hello"
                program.process.send_signal(signal.SIGTERM)
                await in_thread(await_line, program, "daemon.draining")
                # It stands still: what comes then is for the handler, not for the loop.
                program.process.send_signal(signal.SIGSTOP)
                program.process.send_signal(signal.SIGTERM)
                program.process.send_signal(signal.SIGINT)
                program.process.send_signal(signal.SIGCONT)
                assert await in_thread(program.process.wait, PATIENCE) in {0, 1}


async def test_a_killed_daemon_does_not_end_its_connections_in_order(service, tmp_path):
    """Half an answer would look like a whole one."""
    async with destination() as port:
        path = tmp_path / "config.toml"
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            async with connection(await_port(program, "x")) as (reader, writer):
                assert await ask(reader, writer, b"half an ans") == b"half an ans"
                program.process.kill()
                with pytest.raises(ConnectionResetError):
                    async with asyncio.timeout(PATIENCE):
                        await reader.read()


async def test_a_file_that_never_ends_does_not_hold_up_the_end(service, tmp_path):
    path = tmp_path / "config.toml"
    text = configuration(service.endpoint_url, tunnel("x", port=1), drain_timeout=1)
    with running(path, text, *JSON, **service.environment) as program:
        await in_thread(await_line, program, "daemon.ready")
        path.unlink()
        os.mkfifo(path)
        program.process.send_signal(signal.SIGHUP)
        # The end comes while a thread waits for somebody who writes.
        program.process.send_signal(signal.SIGTERM)
        assert await in_thread(program.process.wait, PATIENCE) == 0
        events = [line["event"] for line in lines_of(program)]
        assert "daemon.stopped" in events
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


def test_a_file_that_never_ends_does_not_hold_up_the_end_of_a_start(tmp_path):
    path = tmp_path / "config.toml"
    os.mkfifo(path)
    with running(path, None, *JSON) as program:
        # It says nothing before it has read the file; so it is asked until it listens.
        while not _catches(program.pid):
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"it ended with {program.process.wait(PAUSE)}")
        program.process.send_signal(signal.SIGTERM)
        program.process.wait(PATIENCE)


def _catches(pid):
    """Return whether a process has a handler for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
