"""Ten thousand connections for a tunnel that takes a hundred, and its neighbour."""

import asyncio
import contextlib
import json
import resource
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from ssmtunneld.daemon.instance_lock import control_socket, instance_name
from ssmtunneld.listener.sockets import BACKLOG
from tests.integration.processes import (
    await_line,
    await_port,
    launch,
    lines_of,
    running,
)
from tests.integration.test_status import ask
from tests.integration.world import (
    configuration,
    destination,
    echoes,
    tunnel,
)
from tests.support.turns import look_again

CLIENTS = 10_000
AT_ONCE = 100
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
MEMORY = 24 << 20
"""Bytes that the daemon may grow by: for 100 connections, none for those that wait."""
PATIENCE = 120.0


def queue_length():
    """Return how many connections wait in the kernel: the backlog, if it allows it."""
    return min(BACKLOG, int(SOMAXCONN.read_text()))


@contextlib.asynccontextmanager
async def crowd(port):
    """Send clients to ``port``, in as many processes as their files need."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = CLIENTS if hard < 0 else min(CLIENTS, hard - 200)
    sizes = [min(each, CLIENTS - n) for n in range(0, CLIENTS, each)]
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.crowd", str(port), str(size)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for size in sizes
    ]
    try:
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def counts(processes, word=b"?"):
    """Say ``word`` to all of a crowd and return how far it has come."""
    total = Counter()
    for process in processes:
        process.stdin.write(word + b"\n")
        total.update(json.loads(await process.stdout.readline()))
    return total


async def tunnel_status(path, name):
    """Return what the daemon says of one tunnel."""
    code, body = await asyncio.to_thread(ask, control_socket(instance_name(path)))
    assert code == 200
    return next(m for m in json.loads(body)["tunnels"] if m["name"] == name)


async def until(fact):
    """Return the first true result of ``await fact()``."""
    async with asyncio.timeout(PATIENCE):
        while not (result := await fact()):
            await look_again()
        return result


@contextlib.contextmanager
def emulator():
    """Run an emulator as a process of its own: it has as much to do as the daemon."""
    program = launch("emulator", "--listen", "127.0.0.1:0", "--pace", "none")
    try:
        yield program.wait_for(r"emulator listening on (http://\S+)")[1]
    finally:
        program.kill()


class House:
    """A daemon with a busy and a calm tunnel."""

    def __init__(self, program, path):
        self.program = program
        self.busy, self.calm = (await_port(program, name) for name in ("busy", "calm"))
        self._path = path
        self._process = psutil.Process(program.pid)
        self._before = 0

    async def begin(self):
        """Have everything used once, and look at the memory."""
        assert await echoes(self.busy)
        assert await echoes(self.calm)
        self._before = self._process.memory_info().rss

    async def assert_calm(self):
        """Fail if the neighbour is not served, or the daemon grows."""
        assert await echoes(self.calm)
        assert self._process.memory_info().rss < self._before + MEMORY

    async def status(self):
        return await tunnel_status(self._path, "busy")

    async def is_full(self):
        status = await self.status()
        full = status["connections"] == AT_ONCE
        return full and status["queued"] >= queue_length() and status

    async def is_empty(self):
        status = await self.status()
        return not status["connections"] and status


@contextlib.contextmanager
def house(path, endpoint, port):
    text = configuration(
        endpoint,
        tunnel("busy", port=port, max_connections=AT_ONCE),
        tunnel("calm", port=port),
    )
    with running(path, text, "--log-format", "json") as program:
        await_line(program, "daemon.ready")
        await_line(program, "control.bound")
        yield House(program, path)
        assert program.stop() == 0


@pytest.mark.skipif(not SOMAXCONN.exists(), reason="only Linux tells the queue")
async def test_ten_thousand_wait_for_a_hundred_places_and_nobody_else_notices(tmp_path):
    async with destination() as port, contextlib.AsyncExitStack() as stack:
        endpoint = stack.enter_context(emulator())
        daemon = stack.enter_context(house(tmp_path / "config.toml", endpoint, port))
        await daemon.begin()
        processes = await stack.enter_async_context(crowd(daemon.busy))
        status = await until(daemon.is_full)
        # What waits is in the kernel, and the numbers say so.
        assert status["max_connections"] == AT_ONCE
        assert status["saturated"] >= 1
        assert (status["waiting"], status["refused"], status["rejected"]) == (0, 0, 0)
        assert status["accepted"] == AT_ONCE + 1
        for _ in range(100):
            await daemon.assert_calm()

        async def answered(number):
            await daemon.assert_calm()
            found = await counts(processes)
            assert found["failed"] == 0
            assert found["answered"] <= number
            return found["answered"] == number

        await until(lambda: answered(AT_ONCE))
        # Everybody has a turn in the end, and still nobody else notices.
        await counts(processes, b"go")
        await until(lambda: answered(CLIENTS))
        status = await until(daemon.is_empty)
        assert (status["accepted"], status["queued"]) == (CLIENTS + 1, 0)
        lines = lines_of(daemon.program, "connections.saturated", tunnel="busy")
        assert lines[0]["limit"] == AT_ONCE
        assert len(lines) <= PATIENCE / 10
