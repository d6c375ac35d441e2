"""A daemon in a process of its own, with a good tunnel beside hostile ones."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from time import perf_counter

import psutil

from tests.integration.processes import await_port, lines_of, running
from tests.integration.world import (
    ask,
    configuration,
    connection,
    destination,
    echoes,
    emulator,
    tunnel,
)
from tests.support.canary import leaks
from tests.support.hostile import CANARY

LONGEST_LINE = 8 << 10
"""Bytes of any line that is logged."""
MOST_MEMORY = 150 << 20
"""Bytes that the daemon may have used at any time."""


def peak_memory(pid):
    """Return the most memory that a process has used, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return psutil.Process(pid).memory_info().rss


class Witness:
    """Uses the good tunnel without a pause, and notes how long each answer takes."""

    def __init__(self, port):
        self._port = port
        self.times = []
        self.opened = 0
        self._wanted = 0
        self._enough = asyncio.Event()

    async def answers(self, count):
        """Wait for so many more answers."""
        self._wanted = len(self.times) + count
        self._enough.clear()
        await self._enough.wait()

    async def watch(self):
        """Ask on one connection that lasts, and on new ones in between."""
        async with connection(self._port) as lasting:
            for number in range(1_000_000_000):
                await self._ask(lasting, number)
                if number % 20 == 0:
                    async with connection(self._port) as fresh:
                        await self._ask(fresh, number)
                        self.opened += 1

    async def _ask(self, streams, number):
        question = b"%16d" % number
        began = perf_counter()
        assert await ask(*streams, question) == question
        self.times.append(perf_counter() - began)
        if len(self.times) >= self._wanted:
            self._enough.set()


class Scene:
    """A daemon under attack, with all that a test examines afterwards."""

    def __init__(self, program, path, witness):
        self.program = program
        self.witness = witness
        self.peak = 0
        self._path = path

    async def status(self):
        """Return the text of the status document."""
        await asyncio.to_thread(self.program.wait_for, r"control\.bound")
        command = [sys.executable, "-m", "ssmtunneld", "status", "--json"]
        command += ["--config", self._path]
        asked = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asked.communicate()
        return output.decode()

    def figures(self):
        """Return what was measured, in words."""
        times = sorted(self.witness.times)
        return (
            f"{len(times)} echoes, 99 % within {times[len(times) * 99 // 100]:.3f} s, "
            f"all within {times[-1]:.3f} s, peak {self.peak >> 20} MiB"
        )

    async def document(self, wanted):
        """Return the status document as soon as ``wanted`` is true of it."""
        while True:
            found = json.loads(await self.status())
            if wanted(found):
                return found

    def check(self, *texts):
        """The daemon lives, answers, and has said nothing that it should not."""
        log = self.program.log()
        assert self.program.process.poll() is None, log
        assert "Traceback" not in log, log
        assert lines_of(self.program, "defect") == []
        for text in (log, *texts):
            assert leaks(text, CANARY) == []
        for line in "\n".join([log, *texts]).splitlines():
            assert len(line.encode()) <= LONGEST_LINE, line[:1000]
            assert line.isprintable(), line
        for text in texts:
            json.loads(text)
        self.weigh()

    def weigh(self):
        """The daemon has never used more memory than it may."""
        self.peak = peak_memory(self.program.pid)
        print(self.figures())  # noqa: T201 - for whoever asks: pytest -rP
        assert self.peak < MOST_MEMORY, f"{self.peak >> 20} MiB"


def hostile(service, count, **settings):
    """Return the tables of ``count`` tunnels to the targets of a hostile service."""
    settings = {"port": 1, "endpoint_url": service.url, **settings}
    return [
        tunnel(f"bad{number}", target=f"i-{number:017x}", **settings)
        for number in range(count)
    ]


@contextlib.asynccontextmanager
async def beside(tmp_path, *tables, environ=None, **daemon):
    """Run a daemon with a good tunnel, and those of ``tables``.

    Args:
        tmp_path: Where its file goes.
        tables: Of tunnels, in TOML.
        environ: Variables for it.
        daemon: Settings of its table.
    """
    path = tmp_path / "config.toml"
    async with destination() as port, emulator() as aws:
        # It could not end otherwise: nobody ends a hostile session.
        text = configuration(
            aws.endpoint_url,
            tunnel("good", port=port),
            *tables,
            **{"drain_timeout": "1s", **daemon},
        )
        form = ("--log-format", "json")
        with running(path, text, *form, **(environ or {})) as program:
            local = await asyncio.to_thread(await_port, program, "good")
            assert await echoes(local), "the first connection waits for its session"
            witness = Witness(local)
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(witness.watch())
                yield Scene(program, path, witness)
                assert not watching.done()
                watching.cancel()


@contextlib.asynccontextmanager
async def scene(tmp_path, service, count, *, environ=None, **settings):
    """Run a daemon with a good tunnel, and ``count`` hostile ones to ``service``."""
    tables = hostile(service, count, **settings)
    async with beside(tmp_path, *tables, environ=environ) as found:
        yield found
