"""How a daemon process ends, and how two of them share a machine."""

import asyncio
import signal

import pytest

from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import await_line, await_port, lines_of, running
from tests.integration.world import (
    ask,
    configuration,
    connection,
    destination,
    echoes,
    tunnel,
)

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
                    await in_thread(await_line, other, "daemon.ready")
                    assert await echoes(await_port(other, "x"))
                    assert await in_thread(other.stop) == 0
                    assert lines_of(other, "session.orphaned") == []
                assert await ask(*line, b"still there") == b"still there"
            assert await in_thread(program.stop) == 0
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


async def test_a_daemon_ends_what_the_killed_one_before_it_left(service, tmp_path):
    path = tmp_path / "config.toml"
    text = configuration(service.endpoint_url, tunnel("x", port=1), tunnel("y", port=1))
    with running(path, text, *JSON, **service.environment) as program:
        await in_thread(await_line, program, "session.ready", mapping="x")
        await in_thread(await_line, program, "session.ready", mapping="y")
    left = {s["id"] for s in service.sessions() if s["status"] != "Terminated"}
    assert len(left) == 2
    with running(path, text, *JSON, **service.environment) as program:
        await in_thread(await_line, program, "session.orphaned", count=2)
        orphaned = {e["session_id"] for e in lines_of(program, "session.orphaned")}
        assert orphaned == left
        assert await in_thread(program.stop) == 0
    assert {s["status"] for s in service.sessions()} == {"Terminated"}
