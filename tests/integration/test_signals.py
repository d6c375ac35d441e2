"""The end of a daemon process, and two daemons on one machine."""

import asyncio
import os
import pty
import re
import signal
import sys

import pytest

from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import await_line, await_port, lines_of, running
from tests.integration.terminal import OWN_TERMINAL, Terminal
from tests.integration.traffic import all_go_on, talking
from tests.integration.world import (
    ask,
    configuration,
    connection,
    destination,
    echo,
    echoes,
    tunnel,
)
from tests.support.turns import look_again

JSON = ("--log-format", "json")


@pytest.fixture
def service():
    """An emulator on a loop of its own."""
    with EmulatorThread() as emulator:
        yield emulator


async def in_thread(function, *arguments, **facts):
    return await asyncio.to_thread(function, *arguments, **facts)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_a_transfer_finish_and_ends_with_0(
    service, tmp_path, number
):
    async with destination() as port:
        text = configuration(
            service.endpoint_url, tunnel("x", port=port), drain_timeout=60
        )
        path = tmp_path / "config.toml"
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            async with connection(await_port(program, "x")) as line:
                assert await ask(*line, b"a transfer") == b"a transfer"
                program.process.send_signal(number)
                await in_thread(await_line, program, "daemon.draining")
                data = b"goes on" * 99_999
                assert await ask(*line, data) == data
            assert await in_thread(program.process.wait, 30) == 0
            assert lines_of(program)[-1]["event"] == "daemon.stopped"
            assert lines_of(program, "connections.cut") == []
            assert len(lines_of(program)) == len(program.log().splitlines())
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


async def test_a_terminal_that_is_closed_ends_what_was_started_from_it(
    service, tmp_path
):
    """SIGHUP means a reload, but not when its terminal has gone."""
    controller, terminal = pty.openpty()
    path = tmp_path / "config.toml"
    path.write_text(configuration(service.endpoint_url, tunnel("x", port=1)))
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ssmtunneld",
            *("run", "--config", str(path), *JSON),
            env={**os.environ, **service.environment},
            stdin=terminal,
            stderr=log,
            start_new_session=True,
        )
    os.close(terminal)
    try:
        ready = '"daemon.ready"'
        await await_text(tmp_path / "log", ready)
        process.send_signal(signal.SIGHUP)
        await await_text(tmp_path / "log", '"reload.applied"')
        os.close(controller)
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


async def await_text(path, text):
    """Return when ``text`` is in the file at ``path``."""
    async with asyncio.timeout(60):
        while text not in await in_thread(path.read_text):
            await look_again()


async def test_a_transfer_outlives_the_terminal_that_the_log_went_to(service, tmp_path):
    controller, terminal = pty.openpty()
    path = tmp_path / "config.toml"
    async with destination() as port:
        path.write_text(
            configuration(
                service.endpoint_url, tunnel("x", port=port), drain_timeout=60
            )
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", OWN_TERMINAL),
            *("-m", "ssmtunneld", "run", "--config", str(path), *JSON),
            env={**os.environ, **service.environment},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        try:
            seen = await in_thread(read_until, controller, b'"daemon.ready"')
            local = int(re.search(r'"127\.0\.0\.1:(\d+)"', seen)[1])
            async with connection(local) as line:
                assert await ask(*line, b"a transfer") == b"a transfer"
                # The kernel says SIGHUP to whom it belonged to, and EIO to every line.
                os.close(controller)
                await until_refused(local)
                data = b"goes on" * 99_999
                assert await ask(*line, data) == data
            async with asyncio.timeout(60):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


def read_until(descriptor, words):
    """Return what a terminal shows, as soon as ``words`` are in it."""
    seen = b""
    while words not in seen:
        seen += os.read(descriptor, 65536)
    return seen.decode()


async def until_refused(port):
    """Return when nobody listens on ``port`` any more."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with connection(port):
                    pass
            except ConnectionResetError:
                pass  # it was in the backlog
            except ConnectionRefusedError:
                return


async def test_a_second_signal_ends_the_daemon_at_once(service, tmp_path):
    async with destination() as port:
        text = configuration(
            service.endpoint_url,
            tunnel("x", port=port),
            drain_timeout=300,
        )
        path = tmp_path / "config.toml"
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            async with connection(await_port(program, "x")) as (reader, writer):
                assert await ask(reader, writer, b"hello") == b"hello"
                program.process.send_signal(signal.SIGTERM)
                await in_thread(await_line, program, "daemon.draining")
                program.process.send_signal(signal.SIGTERM)
                assert await in_thread(program.process.wait, 30) == 0
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            assert lines_of(program)[-1]["event"] == "daemon.stopped"
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


async def test_ctrl_c_in_a_terminal_says_what_it_waits_for_and_what_it_cut(
    service, tmp_path
):
    async with destination() as port:
        path = tmp_path / "config.toml"
        path.write_text(
            configuration(
                service.endpoint_url, tunnel("x", port=port), drain_timeout=300
            )
        )
        env = {**os.environ, **service.environment, "NO_COLOR": "1"}
        command = ("-m", "ssmtunneld", "run", "--verbose", "--config", path)
        terminal = Terminal(*command, columns=120, env=env)
        try:
            await in_thread(terminal.wait_for, "daemon.ready")
            local = int(re.search(r"address=127\.0\.0\.1:(\d+)", terminal.raw)[1])
            async with connection(local) as one, connection(local) as other:
                for line in (one, other):
                    assert await ask(*line, b"hello") == b"hello"
                terminal.type("\x03")
                await in_thread(
                    terminal.wait_for,
                    r"daemon\.draining .*second signal \(Ctrl-C\).* connections=2",
                )
                terminal.type("\x03")
                await in_thread(terminal.wait_for, r"connections\.cut +count=2")
        finally:
            code = await in_thread(terminal.close)
        assert code == 0


async def test_a_second_daemon_with_the_same_file_leaves_the_first_ones_sessions_alone(
    service, tmp_path
):
    path = tmp_path / "config.toml"
    environ = service.environment
    async with destination() as port:
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        with running(path, text, *JSON, **environ) as program:
            await in_thread(await_line, program, "daemon.ready")
            assert lines_of(program, "daemon.not_alone") == []
            async with connection(await_port(program, "x")) as line:
                assert await ask(*line, b"hello") == b"hello"
                with running(path, text, *JSON, **environ) as other:
                    alone = await in_thread(await_line, other, "daemon.not_alone")
                    assert alone["level"] == "warning"
                    assert alone["config"] == str(path)
                    assert alone["pid"] == program.pid
                    await in_thread(await_line, other, "control.failed")
                    await in_thread(await_line, other, "daemon.ready")
                    assert await echoes(await_port(other, "x"))
                    assert await in_thread(other.stop) == 0
                    assert lines_of(other, "session.orphaned") == []
                assert await ask(*line, b"still there") == b"still there"
            assert await in_thread(program.stop) == 0
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


async def test_a_second_daemon_takes_the_place_of_the_first_one_after_its_end(
    service, tmp_path
):
    path = tmp_path / "config.toml"
    text = configuration(service.endpoint_url, tunnel("x", port=1))
    with running(path, text, *JSON, **service.environment) as program:
        await in_thread(await_line, program, "daemon.ready")
        with running(path, text, *JSON, **service.environment) as other:
            await in_thread(await_line, other, "daemon.ready")
            assert lines_of(other, "control.bound") == []
            assert await in_thread(program.stop) == 0
            await in_thread(await_line, other, "instance.claimed")
            await in_thread(await_line, other, "control.bound")
            assert await in_thread(other.stop) == 0
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


async def test_a_daemon_ends_what_the_killed_one_before_it_left(service, tmp_path):
    path = tmp_path / "config.toml"
    text = configuration(service.endpoint_url, tunnel("x", port=1), tunnel("y", port=1))
    with running(path, text, *JSON, **service.environment) as program:
        await in_thread(await_line, program, "session.ready", tunnel="x")
        await in_thread(await_line, program, "session.ready", tunnel="y")
    left = {s["id"] for s in service.sessions() if s["status"] != "Terminated"}
    assert len(left) == 2
    with running(path, text, *JSON, **service.environment) as program:
        await in_thread(await_line, program, "session.orphaned", count=2)
        orphaned = {e["session_id"] for e in lines_of(program, "session.orphaned")}
        assert orphaned == left
        assert await in_thread(program.stop) == 0
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


async def test_a_destination_is_not_kept_by_a_daemon_that_was_killed(service, tmp_path):
    """Of these tests, not of the daemon: the agent keeps what nobody has ended."""
    path = tmp_path / "config.toml"
    cut = asyncio.Event()

    async def serve(reader, writer):
        await echo(reader, writer)
        cut.set()

    async with asyncio.timeout(120):
        async with destination(serve) as port:
            text = configuration(service.endpoint_url, tunnel("x", port=port))
            with running(path, text, *JSON, **service.environment) as program:
                await in_thread(await_line, program, "daemon.ready")
                async with connection(await_port(program, "x")) as line:
                    assert await ask(*line, b"hello") == b"hello"
                    await in_thread(program.kill)
            assert not cut.is_set()
        await cut.wait()


async def test_fifty_busy_connections_finish_within_the_drain_budget(service, tmp_path):
    async with destination() as port:
        tunnels = [tunnel(name, port=port) for name in "abcde"]
        text = configuration(
            service.endpoint_url, *tunnels, drain_timeout=120, start_burst=100
        )
        path = tmp_path / "config.toml"
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            ports = [await_port(program, name) for name in "abcde"]
            async with talking(ports, 10) as talkers:
                program.process.send_signal(signal.SIGTERM)
                await in_thread(await_line, program, "daemon.draining")
                for local in ports:
                    with pytest.raises(ConnectionRefusedError):
                        await echoes(local)
                # None of them notices before it has finished of its own will.
                await all_go_on(talkers)
                assert program.process.poll() is None
            assert await in_thread(program.process.wait, 60) == 0
            assert lines_of(program, "connections.cut") == []
            assert lines_of(program)[-1]["event"] == "daemon.stopped"
    sessions = service.sessions()
    assert len(sessions) >= 5
    assert {s["status"] for s in sessions} == {"Terminated"}


async def test_fifty_busy_connections_are_reset_at_the_end_of_the_budget(
    service, tmp_path
):
    async with destination() as port:
        tunnels = [tunnel(name, port=port) for name in "abcde"]
        text = configuration(
            service.endpoint_url, *tunnels, drain_timeout=1, start_burst=100
        )
        path = tmp_path / "config.toml"
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            ports = [await_port(program, name) for name in "abcde"]
            async with talking(ports, 10, until_reset=True) as talkers:
                program.process.send_signal(signal.SIGTERM)
                cut = await in_thread(await_line, program, "connections.cut")
                assert cut["count"] == 50
                async with asyncio.timeout(60):
                    for talker in talkers:
                        await talker.reset.wait()
            assert await in_thread(program.process.wait, 60) == 0
            assert lines_of(program)[-1]["event"] == "daemon.stopped"
    sessions = service.sessions()
    assert len(sessions) >= 5
    assert {s["status"] for s in sessions} == {"Terminated"}
