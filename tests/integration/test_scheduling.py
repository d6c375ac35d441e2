"""Scheduling: waiting clients come first, and a stuck session harms no other."""

import asyncio
import contextlib
import json
import socket
import urllib.request

import pytest

from ssmtunneld.daemon.instance_lock import control_socket, instance_name
from tests.integration.processes import await_line, await_port, launch, lines_of
from tests.integration.processes import running as daemon_of
from tests.integration.test_status import ask as ask_control
from tests.integration.world import (
    ask,
    connection,
    destination,
    echo,
    echoes,
    table,
    tunnel,
)
from tests.support.turns import look_again

TUNNELS = 300
LAST = 20
LINGER = 1.0
SERVED = 10.0
"""Seconds for one of many connections: 0.1 on a machine that has nothing else to do. It
was 15 before the session was started that it waited for."""
WORD = b"is anybody there?"


@contextlib.contextmanager
def emulator():
    """Run an emulator as a process of its own."""
    program = launch("emulator", "--listen", "127.0.0.1:0", "--pace", "none")
    try:
        yield program.wait_for(r"emulator listening on (http://\S+)")[1]
    finally:
        program.kill()


@contextlib.contextmanager
def daemon(path, endpoint, *tunnels, **defaults):
    """Run a daemon with the default start rate."""
    text = "\n".join([table("defaults", endpoint_url=endpoint, **defaults), *tunnels])
    with daemon_of(path, text, "--log-format", "json") as program:
        yield program


async def served(port):
    """Say whether a connection gets its echo in time."""
    async with asyncio.timeout(SERVED):
        return await echoes(port, WORD)


async def send_for(seconds, client):
    """Send to a destination that reads nothing, more than there is room for."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, b"B" + bytes(64 << 20))


async def connections_of(path):
    code, body = await asyncio.to_thread(
        ask_control, control_socket(instance_name(path))
    )
    assert code == 200
    return json.loads(body)["tunnels"][0]["connections"]


def send_faults(endpoint, method, *specs):
    """Change the faults of an emulator that is another process."""
    body = json.dumps({"specs": specs}).encode() if specs else None
    url = f"{endpoint}/_emulator/faults"
    request = urllib.request.Request(url, body, method=method)
    urllib.request.urlopen(request, timeout=10).close()


async def test_a_client_of_the_last_of_300_tunnels_waits_for_its_own_session(tmp_path):
    names = [f"t{number}" for number in range(1, TUNNELS + 1)]
    async with destination() as port:
        tunnels = [tunnel(name, port=port) for name in names]
        with (
            emulator() as endpoint,
            daemon(tmp_path / "config.toml", endpoint, *tunnels) as program,
        ):
            ports = [await_port(program, name) for name in names[-LAST:]]
            assert all(await asyncio.gather(*map(served, ports)))
            # The others are still on their way: they were not what the clients had.
            ready = {line["tunnel"] for line in lines_of(program, "session.ready")}
            assert len(ready) < TUNNELS


class SomeBlock:
    """A destination that reads nothing from some, and is an echo to the others."""

    def __init__(self):
        self.released = asyncio.Event()

    async def __call__(self, reader, writer):
        first = await reader.read(1)
        if first == b"B":
            await self.released.wait()
            writer.transport.abort()
        else:
            writer.write(first)
            await echo(reader, writer)


@pytest.mark.parametrize("seconds", [0.3, 1, 2, 4, 7])
async def test_a_stream_that_its_destination_blocks_holds_up_nobody(tmp_path, seconds):
    path, serve = tmp_path / "config.toml", SomeBlock()
    async with destination(serve) as port:
        tables = [tunnel("db", port=port)]
        with (
            emulator() as endpoint,
            daemon(path, endpoint, *tables, linger=f"{LINGER:g}s") as program,
        ):
            await_line(program, "daemon.ready")
            await_line(program, "control.bound")
            local = await_port(program, "db")
            with socket.create_connection(("127.0.0.1", local)) as client:
                client.setblocking(False)
                await send_for(seconds, client)
                assert all(await asyncio.gather(*(served(local) for _ in range(12))))
                assert await connections_of(path) >= 1
            async with asyncio.timeout(LINGER + 5 + SERVED):
                while await connections_of(path):
                    await look_again()
        serve.released.set()


async def test_connections_of_a_frozen_agent_are_reset_and_new_ones_served(tmp_path):
    path = tmp_path / "config.toml"
    async with destination() as port:
        tables = [tunnel("db", port=port)]
        with (
            emulator() as endpoint,
            daemon(path, endpoint, *tables) as program,
        ):
            await_line(program, "daemon.ready")
            local = await_port(program, "db")
            async with connection(local) as (reader, writer):
                assert await ask(reader, writer, WORD) == WORD
                await asyncio.to_thread(send_faults, endpoint, "POST", "agent-freeze")
                async with asyncio.timeout(90):
                    with pytest.raises(ConnectionResetError):
                        await reader.read()
            line = await_line(program, "session.ended", session=1)
            assert "AWS says that it is not connected" in line["reason"]
            await asyncio.to_thread(send_faults, endpoint, "DELETE")
            async with asyncio.timeout(60):
                assert await echoes(local)
