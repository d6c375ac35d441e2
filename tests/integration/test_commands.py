"""The commands as processes of their own, at a daemon process, in real terminals."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import await_line, await_port, launch, running
from tests.integration.terminal import Terminal
from tests.integration.world import (
    PATIENCE,
    configuration,
    connection,
    destination,
    echoes,
    tunnel,
)
from tests.interop.programs import environment

OFFLINE = "i-0aaaaaaaaaaaaaaaa"
STATUS = ("-m", "ssmtunneld", "status")
JSON = ("--log-format", "json")
LONG_HOST = "orders.cluster-abc.eu-west-1.rds.amazonaws.com"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def service():
    """An emulator on a loop of its own, with a target that nobody answers for."""
    with EmulatorThread() as emulator:
        emulator.add_faults(f"offline={OFFLINE}")
        yield emulator


def environ(service):
    """Return what a command needs to find the daemons of this test."""
    wanted = ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")
    ours = {name: os.environ[name] for name in wanted}
    plain = {n: v for n, v in environment().items() if n not in {"COLUMNS", "NO_COLOR"}}
    return {**plain, **ours, **service.environment}


async def command(service, *arguments, **options):
    """Run a command; return its exit code and both outputs."""
    result = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "ssmtunneld", *map(str, arguments)],
        env=environ(service) | options,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return result.returncode, result.stdout, result.stderr


@contextlib.contextmanager
def daemon(service, path, *tunnels, **settings):
    """Run a daemon that is ready and can be asked."""
    text = configuration(service.endpoint_url, *tunnels, **settings)
    with running(path, text, *JSON, **service.environment) as program:
        await_line(program, "control.bound")
        await_line(program, "daemon.ready")
        yield program
        # Politely: it leaves no sessions for the next one to end.
        program.stop()


def plain_lines(text):
    return [line.rstrip() for line in ESCAPE.sub("", text).splitlines()]


@pytest.mark.parametrize(
    ("columns", "headings"),
    [
        (80, ["NAME", "STATE", "LISTEN", "SESSIONS", "CONNS", "UP", "DOWN"]),
        (
            200,
            [
                *("NAME", "STATE", "LISTEN", "DESTINATION", "VIA"),
                *("SESSIONS", "CONNS", "UP", "DOWN"),
            ],
        ),
    ],
)
@pytest.mark.parametrize("no_color", ["", "1"])
async def test_the_table_fits_the_terminal_with_and_without_colour(
    service, tmp_path, columns, headings, no_color
):
    tunnels = (
        tunnel("orders-db", host=LONG_HOST, port=5432),
        tunnel("dead", target=OFFLINE, port=1, required=False),
    )

    def look():
        with daemon(service, tmp_path / "config.toml", *tunnels) as program:
            await_line(program, "session.ended", tunnel="dead")
            env = environ(service) | {"NO_COLOR": no_color}
            terminal = Terminal(*STATUS, columns=columns, env=env)
            assert terminal.close() == 0
            return terminal.raw

    raw = await asyncio.to_thread(look)
    lines = plain_lines(raw)
    assert lines[1].split() == headings
    assert max(map(len, lines[1:])) <= columns
    rows = [line.split()[:2] for line in lines[2:4]]
    assert rows == [["orders-db", "ready"], ["dead", "waiting"]]
    whole = " ".join(" ".join(lines[4:]).split())
    assert whole.startswith(f"StartSession failed: TargetNotConnected: {OFFLINE}")
    assert "-> check that" in whole
    assert "…" not in raw
    assert ("\x1b[" in raw) is (not no_color)


async def test_the_live_view_outlives_a_restart_and_ends_with_ctrl_c(service, tmp_path):
    path = tmp_path / "config.toml"

    def watch():
        with daemon(service, path, tunnel("web", port=1)) as program:
            terminal = Terminal(*STATUS, "--watch", columns=100, env=environ(service))
            terminal.wait_for(r"web +\S*ready.*0 B/s")
            assert program.stop() == 0
        terminal.wait_for("no daemon runs")
        with daemon(service, path, tunnel("web", port=1)):
            terminal.wait_for("restarted 1x")
            terminal.type("\x03")
            assert terminal.close() == 0
        return terminal.raw

    raw = await asyncio.to_thread(watch)
    assert "\x1b[?1049h" in raw  # a screen of its own
    assert raw.rstrip().endswith("\x1b[?1049l")  # which is given back
    assert "Traceback" not in raw


async def test_traffic_is_seen_in_the_live_view(service, tmp_path):
    async with destination() as port:
        path = tmp_path / "config.toml"
        with daemon(service, path, tunnel("echo", port=port)) as program:
            local = await asyncio.to_thread(await_port, program, "echo")
            terminal = Terminal(*STATUS, "--watch", columns=120, env=environ(service))
            await asyncio.to_thread(terminal.wait_for, "0 B/s")
            async with connection(local) as (reader, writer):
                seen = asyncio.Event()
                async with asyncio.TaskGroup() as tasks:
                    moving = tasks.create_task(move(reader, writer, seen), name="move")
                    await asyncio.to_thread(terminal.wait_for, r"[1-9][\d.]* [KM]iB/s")
                    seen.set()
                    await moving
            terminal.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(terminal.close) == 0
    assert re.search("[▂▃▄▅▆▇█]", terminal.raw)


async def move(reader, writer, enough):
    """Send to an echo and read from it until that is enough."""
    while not enough.is_set():
        writer.write(bytes(4096))
        await reader.readexactly(4096)


async def test_waiting_ends_when_the_daemon_has_started_and_is_ready(service, tmp_path):
    path = tmp_path / "config.toml"
    text = configuration(service.endpoint_url, tunnel("web", port=1))
    path.write_text(text)  # a file that does not exist is not waited for
    async with asyncio.TaskGroup() as tasks:
        wait = tasks.create_task(
            command(service, "wait", "--ready", "web", "-c", path), name="wait"
        )
        with running(path, text, *JSON, **service.environment):
            # On a slow machine it says on standard error what it waits for.
            assert (await wait)[:2] == (0, "")
            code, _, err = await command(service, "wait", "--timeout", "1ms", "no")
            assert (code, "no tunnel is called no" in err) == (2, True)
            code, out, _ = await command(service, "status", "--json")
            assert (code, json.loads(out)["tunnels"][0]["state"]) == (0, "ready")


async def refused(port):
    """Say whether nobody listens on ``port``."""
    try:
        async with connection(port):
            return False
    except ConnectionRefusedError:
        return True


async def test_a_tunnel_is_paused_resumed_and_drained(service, tmp_path):
    async with destination() as port:
        path = tmp_path / "config.toml"
        with daemon(service, path, tunnel("echo", port=port)) as program:
            local = await asyncio.to_thread(await_port, program, "echo")
            async with connection(local) as (reader, writer):
                writer.write(b"before")
                assert await reader.readexactly(6) == b"before"
                assert await command(service, "pause", "echo") == (
                    0,
                    "echo: paused\n",
                    "",
                )
                assert await refused(local)
                code, _, err = await command(service, "wait", "--timeout", "1ms")
                assert (code, "echo: paused" in err) == (1, True)
                writer.write(b"meanwhile")
                assert await reader.readexactly(9) == b"meanwhile"
            code, out, _ = await command(service, "drain", "echo")
            assert (code, out) == (0, "echo: drained\n")
            resumed = await command(service, "resume", "echo")
            assert resumed == (0, "echo: resumed\n", "")
            found = json.loads((await command(service, "status", "--json"))[1])
            (address,) = found["tunnels"][0]["listen"]
            assert await echoes(int(address.rpartition(":")[2]))


async def test_a_drain_says_what_it_had_to_cut(service, tmp_path):
    async with destination() as port:
        path = tmp_path / "config.toml"
        echo = tunnel("echo", port=port)
        with daemon(service, path, echo, drain_timeout="100ms") as program:
            local = await asyncio.to_thread(await_port, program, "echo")
            async with connection(local) as (reader, writer):
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                code, out, err = await command(service, "drain", "echo")
                assert code == 1
                assert out == "echo: drained; 1 connection had to be reset\n"
                assert err.startswith("echo: draining, 1 connection; Ctrl-C ends")


async def test_a_reload_takes_over_what_has_changed_or_nothing(service, tmp_path):
    path = tmp_path / "config.toml"
    old = [tunnel("kept", port=1), tunnel("gone", port=1)]
    new = [tunnel("kept", port=1), tunnel("new", port=1)]
    with daemon(service, path, *old) as program:
        path.write_text(configuration(service.endpoint_url, *new))
        code, out, err = await command(service, "reload")
        assert (code, err) == (0, "")
        assert out.splitlines() == [
            "added: new",
            "removed: gone",
            "unchanged: 1 tunnel",
        ]
        assert await command(service, "wait", "new") == (0, "", "")
        path.write_text(configuration(service.endpoint_url, *new) + "[tunnels.x]\n")
        code, out, err = await command(service, "reload")
        assert (code, out) == (2, "")
        assert f"ssmtunneld: {path}:" in err
        assert "the daemon keeps the previous one" in err
        names = [
            shown["name"]
            for shown in json.loads((await command(service, "status", "--json"))[1])[
                "tunnels"
            ]
        ]
        assert names == ["kept", "new"]
        code, out, _ = await command(service, "log-level", "debug")
        assert (code, out) == (0, "log level: debug\n")
        assert program.process.poll() is None


async def test_exec_uses_the_daemon_that_runs_and_leaves_it_running(service, tmp_path):
    async with destination() as port:
        path = tmp_path / "config.toml"
        with daemon(service, path, tunnel("echo-1", port=port)) as program:
            local = await asyncio.to_thread(await_port, program, "echo-1")
            script = "echo $SSMTUNNELD_ECHO_1_HOST:$SSMTUNNELD_ECHO_1_PORT; exit 5"
            found = await command(service, "exec", "sh", "-c", script)
            assert found == (5, f"127.0.0.1:{local}\n", "")
            assert program.process.poll() is None
            assert await echoes(local)


_CLIENT = """
import os, socket, sys
address = os.environ["SSMTUNNELD_ECHO_HOST"], int(os.environ["SSMTUNNELD_ECHO_PORT"])
with socket.create_connection(address) as client:
    client.sendall(b"through the tunnel")
    sys.stdout.write(client.recv(100).decode())
sys.exit(3)
"""


async def test_exec_starts_a_daemon_of_its_own_and_leaves_no_session(service, tmp_path):
    async with destination() as port:
        path = tmp_path / "config.toml"
        path.write_text(
            configuration(service.endpoint_url, tunnel("echo", port=port)),
        )
        code, out, err = await command(
            service, "exec", "-c", path, "--", sys.executable, "-c", _CLIENT
        )
        # On a slow machine it says what it waits for.
        said = [line for line in err.splitlines() if "waiting up to" not in line]
        assert (code, out, said) == (3, "through the tunnel", [])
    assert _statuses(service) == {"Terminated"}
    assert (await command(service, "status", "-c", path))[0] == 3


async def test_exec_does_not_wait_for_what_cannot_get_ready(service, tmp_path):
    path = tmp_path / "config.toml"
    wrong = tunnel("wrong", port=1, document="Nobody-Wrote-This")
    path.write_text(configuration(service.endpoint_url, wrong))
    code, out, err = await command(
        service, "exec", "-c", path, "--timeout", "10m", "echo", "never"
    )
    assert (code, out) == (4, "")
    assert err.splitlines()[-1].startswith("ssmtunneld: wrong: giving up: ")
    assert "Nobody-Wrote-This" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_end_of_exec_is_the_end_of_its_daemon(service, tmp_path, number):
    path = tmp_path / "config.toml"
    path.write_text(configuration(service.endpoint_url, tunnel("web", port=1)))

    program = launch(
        *("exec", "-c", path, "sh", "-c", "echo up; exec sleep 600"),
        **service.environment,
    )
    try:
        await asyncio.to_thread(program.wait_for, "up")
        program.process.send_signal(number)
        killed = number == signal.SIGKILL
        expected = -number if killed else 128 + number
        assert await asyncio.to_thread(program.process.wait, PATIENCE) == expected
        async with asyncio.timeout(PATIENCE):
            while _statuses(service) != {"Terminated"}:
                await asyncio.to_thread(_statuses, service)
    finally:
        program.kill()


def _statuses(service):
    return {session["status"] for session in service.sessions()}
