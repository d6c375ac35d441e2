"""Everything arrives through a network that loses, repeats, swaps and cuts.

The daemon is the real one, in a process of its own.
"""

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.base.aio import close_server
from ssmtunneld.emulator.settings import Pace
from tests.integration.processes import await_line, await_port, lines_of, running
from tests.integration.world import configuration, emulator, statuses, tunnel

CONNECTIONS = 8
# All of them together, or each of them: that takes minutes instead of half of one.
FULL_SIZE = bool(os.environ.get("SSMTUNNELD_FULL_SIZE"))
EACH = 50_000_000 if FULL_SIZE else 50_000_000 // CONNECTIONS
PIECE = 65536
FAULTS = ("drop=0.02,duplicate=0.02,reorder=0.05", "cut-every=3s", "seed=7")


def pieces(seed):
    """Yield ``EACH`` bytes that no other seed yields, in pieces."""
    left, counter = EACH, 0
    while left:
        block = hashlib.sha256(f"{seed} {counter}".encode()).digest()
        piece = (block * (PIECE // len(block)))[:left]
        counter += 1
        left -= len(piece)
        yield piece


def digest(seed):
    """Return the hash of what ``pieces`` yields."""
    found = hashlib.sha256()
    for piece in pieces(seed):
        found.update(piece)
    return found.digest()


async def send_all(writer, seed):
    for piece in pieces(seed):
        writer.write(piece)
        await writer.drain()


async def hash_of(reader):
    """Read ``EACH`` bytes and return their hash."""
    found, left = hashlib.sha256(), EACH
    while left:
        piece = await reader.read(min(left, PIECE))
        assert piece, f"ended with {left} bytes missing"
        found.update(piece)
        left -= len(piece)
    return found.digest()


@asynccontextmanager
async def exchange():
    """Serve: read a seed, send its bytes and read as many, then tell their hash."""

    async def serve(reader, writer):
        seed = (await reader.readexactly(8)).decode()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send_all(writer, f"down {seed}"))
            arrived = tasks.create_task(hash_of(reader))
        writer.write(arrived.result())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await close_server(server)
        await server.wait_closed()


async def converse(port, number):
    """Move ``EACH`` bytes both ways at once; say whether all of it was right."""
    seed = f"{number:08}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(seed.encode())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send_all(writer, f"up {seed}"))
        arrived = tasks.create_task(hash_of(reader))
    told = await reader.readexactly(32)
    end = await reader.read()
    writer.close()
    return (arrived.result(), told, end) == (
        digest(f"down {seed}"),
        digest(f"up {seed}"),
        b"",
    )


@pytest.mark.timeout(1800)
async def test_fifty_megabytes_each_way_survive_losses_repeats_swaps_and_cuts(tmp_path):
    # Paced as the real agent is: what an unpaced one has in flight when the websocket
    # is cut, its ten resends a second (protocol 4.5) would take minutes to bring again.
    service = emulator(pace=Pace.REAL, faults=FAULTS)
    async with exchange() as port, service as aws:
        settings = {"warm": CONNECTIONS, "max_sessions": CONNECTIONS}
        text = configuration(
            aws.endpoint_url,
            tunnel("data", port=port, streams_per_session=1, **settings),
        )
        path, form = tmp_path / "config.toml", ("--log-format", "json")
        with running(path, text, *form) as program:
            local = await asyncio.to_thread(await_port, program, "data")
            # Each connection then has a session of its own, or nearly each.
            await asyncio.to_thread(
                await_line, program, "session.ready", count=CONNECTIONS
            )
            async with asyncio.TaskGroup() as tasks:
                running_ones = [
                    tasks.create_task(converse(local, n)) for n in range(CONNECTIONS)
                ]
            lanes = [s[way] for s in aws.state()["sessions"] for way in ("up", "down")]
            assert await asyncio.to_thread(program.stop) == 0
        assert set(statuses(aws)) == {"Terminated"}
    assert all(one.result() for one in running_ones)
    assert len(lines_of(program, "link.lost")) >= CONNECTIONS
    assert not lines_of(program, "session.ended")
    assert not lines_of(program, "connection.refused")
    assert not lines_of(program, "connections.cut")
    _check_faults(lanes)


def _check_faults(lanes):
    """The network was as bad as it was meant to be, in both directions."""
    used = [lane for lane in lanes if lane["messages"] > 1000]
    # Two connections share a session where another one's websocket was cut just then.
    assert len(used) > CONNECTIONS
    for lane in used:
        assert lane["lost"] > 0.01 * lane["messages"]
        assert lane["duplicated"] > 0.01 * lane["messages"]
        assert lane["reordered"] > 0.03 * lane["messages"]
