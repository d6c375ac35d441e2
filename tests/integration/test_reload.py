"""A daemon process whose configuration changes while it works."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import await_line, await_port, lines_of, running
from tests.integration.traffic import all_go_on, talking
from tests.integration.world import (
    ask,
    configuration,
    connection,
    destination,
    echoes,
    tunnel,
)

JSON = ("--log-format", "json")
BUSY = ("one", "two", "three", "four", "five")


@pytest.fixture
def service():
    """An emulator on a loop of its own."""
    with EmulatorThread() as emulator:
        yield emulator


async def in_thread(function, *arguments, **facts):
    return await asyncio.to_thread(function, *arguments, **facts)


async def sessions_of(service, name):
    """Return the tunnel's sessions, as the service has them."""
    found = await in_thread(service.sessions)
    return [s for s in found if s["reason"].endswith(f"/{name}]")]


async def greeting(text):
    """Return a server that greets and then echoes."""

    async def serve(reader, writer):
        writer.write(text)
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass  # the agent is gone
        finally:
            writer.close()

    return serve


async def test_a_reload_under_load_touches_only_what_has_changed(service, tmp_path):
    path = tmp_path / "config.toml"
    old, new = await greeting(b"old"), await greeting(b"new")
    async with (
        destination() as port,
        destination(old) as first,
        destination(new) as second,
    ):
        busy = [tunnel(name, port=port) for name in BUSY]
        gone, before = tunnel("gone", port=port), tunnel("changing", port=first)
        text = configuration(
            service.endpoint_url, *busy, gone, before, start_burst=100, drain_timeout=60
        )
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            ports = [await_port(program, name) for name in BUSY]
            leaving = await_port(program, "gone")
            changing = await_port(program, "changing")
            async with (
                talking(ports, 20) as talkers,
                connection(leaving) as last,
                connection(changing) as kept,
            ):
                assert len(talkers) == 100
                assert await ask(*last, b"hello") == b"hello"
                assert await kept[0].readexactly(3) == b"old"
                known = {
                    s["id"] for name in BUSY for s in await sessions_of(service, name)
                }

                # A broken file is refused as a whole, and says why.
                path.write_text(text.replace("port =", "prot =", 1) + "\n[tunnels.new]")
                program.process.send_signal(signal.SIGHUP)
                refused = await in_thread(await_line, program, "reload.refused")
                assert refused["level"] == "error"
                assert (
                    "tunnels.one.prot: unknown key (did you mean port?)"
                    in refused["reason"]
                )
                assert "tunnels.new" in refused["reason"]
                await all_go_on(talkers)
                assert await ask(*last, b"still") == b"still"

                # One is added, one is removed, one leads elsewhere.
                listen = f"127.0.0.1:{changing}"
                after = [
                    *busy,
                    tunnel("changing", port=second),
                    tunnel("added", port=port),
                ]
                path.write_text(
                    configuration(
                        service.endpoint_url, *after, start_burst=100, drain_timeout=60
                    )
                )
                program.process.send_signal(signal.SIGHUP)
                applied = await in_thread(await_line, program, "reload.applied")
                assert applied["added"] == ["added"]
                assert applied["removed"] == ["gone"]
                assert applied["changed"] == ["changing"]
                assert applied["unchanged"] == len(BUSY)
                await all_go_on(talkers)

                # What is new works, what is gone is refused, what was open goes on.
                added = await_port(program, "added")
                assert await echoes(added)
                with pytest.raises(ConnectionRefusedError):
                    await echoes(leaving)
                assert await ask(*last, b"draining") == b"draining"
                assert await ask(*kept, b"as before") == b"as before"
                assert listen == f"127.0.0.1:{await_port(program, 'changing')}"
                async with connection(changing) as (reader, _):
                    assert await reader.readexactly(3) == b"new"
                await all_go_on(talkers)
                alive = {
                    s["id"]
                    for name in BUSY
                    for s in await sessions_of(service, name)
                    if s["status"] != "Terminated"
                }
                assert known <= alive
            # With its last connection the removed one ends, and so do the old sessions.
            removed = await in_thread(await_line, program, "tunnel.removed")
            assert (removed["tunnel"], removed["cut"]) == ("gone", 0)
            assert await in_thread(program.stop) == 0
            assert lines_of(program, "session.ended") == []
            assert lines_of(program, "connections.cut") == []
            assert lines_of(program, "session.orphaned") == []
    assert {s["status"] for s in service.sessions()} == {"Terminated"}


async def test_an_address_may_move_to_another_tunnel(service, tmp_path):
    path = tmp_path / "config.toml"
    async with destination() as port:
        text = configuration(
            service.endpoint_url, tunnel("one", port=port), tunnel("two", port=port)
        )
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            one, two = await_port(program, "one"), await_port(program, "two")
            async with connection(one) as first, connection(two) as second:
                assert await ask(*first, b"one") == b"one"
                assert await ask(*second, b"two") == b"two"
                path.write_text(
                    configuration(
                        service.endpoint_url,
                        tunnel("one", port=port, listen=two),
                        tunnel("two", port=port, listen=one),
                    )
                )
                program.process.send_signal(signal.SIGHUP)
                applied = await in_thread(await_line, program, "reload.applied")
                assert applied["changed"] == ["one", "two"]
                await in_thread(
                    await_line,
                    program,
                    "listener.bound",
                    tunnel="one",
                    address=f"127.0.0.1:{two}",
                )
                assert await echoes(one)
                assert await echoes(two)
                assert await ask(*first, b"one still") == b"one still"
                assert await ask(*second, b"two still") == b"two still"
            assert await in_thread(program.stop) == 0
            assert lines_of(program, "listener.failed") == []


async def test_a_watched_file_is_taken_over_without_being_asked(service, tmp_path):
    path, draft = tmp_path / "config.toml", tmp_path / "draft"
    async with destination() as port:
        text = configuration(
            service.endpoint_url, tunnel("one", port=port), watch_config=True
        )
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            # Some editors write in place, others replace the file.
            path.write_text(text + "this is no TOML")
            await in_thread(await_line, program, "reload.refused")
            draft.write_text(text + tunnel("two", port=port))
            draft.replace(path)
            applied = await in_thread(await_line, program, "reload.applied")
            assert applied["added"] == ["two"]
            assert await echoes(await_port(program, "two"))
            assert await in_thread(program.stop) == 0
            assert len(lines_of(program, "reload.refused")) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_in_the_first_moments_is_not_the_end_without_a_word(
    service, tmp_path, number
):
    """It comes as soon as the process has handlers, before it has its configuration."""
    path = tmp_path / "config.toml"
    async with destination() as port:
        text = configuration(service.endpoint_url, tunnel("one", port=port))
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_handler, program.process.pid, number)
            program.process.send_signal(number)
            if number == signal.SIGTERM:
                assert await in_thread(program.process.wait, 60) == 0
                assert lines_of(program)[-1]["event"] == "daemon.stopped"
            else:
                await in_thread(await_line, program, "daemon.ready")
                program.process.kill()


def await_handler(pid, number):
    """Return as soon as a process catches a signal."""
    status = Path(f"/proc/{pid}/status")
    while True:
        (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", status.read_text(), re.MULTILINE)
        if int(caught, 16) & 1 << (number - 1):
            return
        os.sched_yield()


async def test_a_file_that_would_break_a_parser_is_refused_like_any_other(
    service, tmp_path
):
    path, pipe = tmp_path / "config.toml", tmp_path / "pipe"
    async with destination() as port:
        text = configuration(service.endpoint_url, tunnel("one", port=port))
        with running(path, text, *JSON, **service.environment) as program:
            await in_thread(await_line, program, "daemon.ready")
            local = await_port(program, "one")
            os.mkfifo(pipe)
            for count, break_it in enumerate(
                [
                    lambda: path.write_text(text + ".".join(["a"] * 5000) + " = 1"),
                    lambda: path.write_text(text + "a = " + "[" * 5000 + "]" * 5000),
                    lambda: os.truncate(path, 100 * 2**20),
                    lambda: pipe.replace(path),
                ],
                start=1,
            ):
                break_it()
                program.process.send_signal(signal.SIGHUP)
                await in_thread(await_line, program, "reload.refused", count=count)
                assert await echoes(local)
            assert await in_thread(program.stop) == 0
