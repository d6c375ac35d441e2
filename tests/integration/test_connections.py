"""Lists of a whole daemon's connections, and the end of one by command."""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.daemon.instance_lock import control_socket
from ssmtunneld.errors import UnknownConnection, UnknownTunnel
from ssmtunneld.listener.process_table import process_of, user_name
from tests.integration.test_dynamic import connected
from tests.integration.world import (
    TARGET,
    ask,
    configuration,
    connection,
    destination,
    emulator,
    port_of,
    running,
    tunnel,
)
from tests.support.turns import until

INSTANCE = "0" * 12

PROGRAM = """\
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    sock.sendall(b"12345")
    while sock.recv(1024):
        print("echo", flush=True)
"""


@asynccontextmanager
async def program(port):
    """Run a client in a process of its own, connected and answered."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(port)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert await process.stdout.readline() == b"echo\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def command(*arguments):
    """Run the command line against the daemon of this process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ssmtunneld", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")
async def test_a_program_is_seen_and_ended_by_command(events):
    control_socket(INSTANCE).parent.mkdir(parents=True)
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url, tunnel("x", port=port), tunnel("y", port=port)
        )
        async with (
            running(text, instance=INSTANCE) as daemon,
            program(port_of(daemon, "x")) as client,
            connection(port_of(daemon, "y")) as line,
        ):
            assert await ask(*line, b"hello") == b"hello"
            code, out = await command("connections", "x", "--json")
            assert code == 0
            (found,) = json.loads(out)["connections"]
            sessions = daemon.snapshot().tunnels[0].sessions
            (session,) = [each for each in sessions if each.streams]
            assert found["pid"] == client.pid
            assert found["program"] == process_of(client.pid).program
            assert (found["user"], found["uid"]) == (
                user_name(os.getuid()),
                os.getuid(),
            )
            assert (found["sent"], found["received"]) == (5, 5)
            assert (found["session"], found["session_id"]) == (
                session.number,
                session.session_id,
            )
            assert found["target"] == TARGET
            assert found["destination"] == f"localhost:{port}"
            code, out = await command("connections")
            assert code == 0
            assert out.startswith("2 open connections\n")
            code, out = await command("kill", found["id"])
            assert (code, out) == (0, f"{found['id']}: ended a connection of x\n")
            assert await client.wait() != 0, "it has seen a reset"
            assert await ask(*line, b"alive") == b"alive"
            killed = await events.wait_for("connection.killed", tunnel="x")
            assert killed["id"] == found["id"]
            ended = await events.wait_for("connection.ended", tunnel="x")
            assert ended["ending"] == "killed"
            assert (await command("kill", found["id"]))[0] == 2


async def test_what_clients_have_named_is_the_destination():
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url,
            tunnel("web", mode="socks5", destinations=["localhost:*"]),
        )
        async with running(text) as daemon:
            local = port_of(daemon, "web")
            async with connected(local, "localhost", port), connection(local):
                await until(lambda: len(daemon.tunnels[0].server.connections()) == 2)
                document = await daemon.connections("web")
    named, silent = document["connections"]
    assert (named["destination"], named["session"]) == (f"localhost:{port}", 1)
    assert (silent["destination"], silent["session"]) == ("", None)


async def test_names_that_are_none_are_refused():
    nowhere = configuration("http://127.0.0.1:9", tunnel("x", port=1, warm=0))
    async with running(nowhere) as daemon:
        with pytest.raises(UnknownTunnel):
            await daemon.connections("y")
        with pytest.raises(UnknownConnection):
            await daemon.kill("y")


async def test_connections_of_a_removed_tunnel_are_still_seen(tmp_path):
    path = tmp_path / "config.toml"
    async with destination() as port, emulator() as service:
        tables = [tunnel("x", port=port), tunnel("y", port=port, warm=0)]
        path.write_text(configuration(service.endpoint_url, *tables))
        async with (
            running(path.read_text(), source=path) as daemon,
            connection(port_of(daemon, "x")) as line,
        ):
            assert await ask(*line, b"hello") == b"hello"
            path.write_text(configuration(service.endpoint_url, tables[1]))
            await daemon.reload()
            (left,) = (await daemon.connections())["connections"]
            assert left["tunnel"] == "x"
            assert await daemon.kill(left["id"]) == {"tunnel": "x"}
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await ask(*line, b"gone")
