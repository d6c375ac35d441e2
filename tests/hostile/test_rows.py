"""More faults of a whole daemon, of which a good tunnel must notice nothing.

Files that break while the daemon runs (fault A3), a log that nobody reads (A5), and a
status page in a flood (A15).
"""

import asyncio
import os
import signal
from types import SimpleNamespace

import pytest

from tests.hostile.scene import MOST_MEMORY, Witness, beside, peak_memory
from tests.integration import test_blocked_log
from tests.integration.processes import await_line
from tests.integration.world import (
    configuration,
    connection,
    destination,
    echoes,
    emulator,
    tunnel,
)
from tests.support.ports import free_port

ANSWERS = 100
"""Answers on the good tunnel while something goes on."""
PAGES = ("/", "/status.json", "/metrics", "/readyz?verbose", "/nowhere")
ASKERS = 8
ASKED = 400
"""Answers of the status page in a flood."""

BROKEN = {
    "a key of 5,000 parts": "a" + ".a" * 5000 + " = 1\n",
    "deep arrays": "a = " + "[" * 100_000,
    "deep tables": "a = " + "{b = " * 50_000,
    "100,000 unknown keys": "".join(f"k{n} = 1\n" for n in range(100_000)),
    "more than a file may have": "# " + "x" * 2_000_000,
    "a number of 9,000 digits": "a = " + "9" * 9000,
    "controls": '[tunnels."\\u001b[2J"]\nlisten = "\\u202e"\n',
    "nothing": "",
}


@pytest.mark.timeout(300)
async def test_a_broken_file_is_refused_and_nobody_notices(tmp_path):
    async with beside(tmp_path) as found:
        path = tmp_path / "config.toml"
        good = path.read_text()
        for number, text in enumerate(BROKEN.values(), 1):
            path.write_text(text)
            found.program.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(
                await_line, found.program, "reload.refused", count=number
            )
        for number, make in enumerate((path.mkdir, lambda: os.mkfifo(path)), 1):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
            make()
            found.program.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(
                await_line, found.program, "reload.refused", count=number + len(BROKEN)
            )
        path.unlink()
        path.write_text(good)
        found.program.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(await_line, found.program, "reload.applied")
        await found.witness.answers(ANSWERS)
        found.check(await found.status())


@pytest.mark.timeout(300)
async def test_a_flood_of_the_status_page_is_nobodys_business(tmp_path):
    """With 200 tunnels, by whoever may log in here."""
    answers = 0

    async def flood(port, page):
        nonlocal answers
        request = f"GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        while answers < ASKED:
            try:
                async with connection(port) as (reader, writer):
                    writer.write(request.encode())
                    answers += bool(await reader.read())
            except OSError:
                pass  # beyond the limit the oldest connection goes

    async with destination() as port:
        tables = [tunnel(f"idle{n}", port=port, warm=0) for n in range(200)]
        async with beside(tmp_path, *tables, http_listen="127.0.0.1:0") as found:
            bound = await_line(found.program, "http.bound")["address"]
            web = int(bound.rpartition(":")[2])
            async with asyncio.TaskGroup() as tasks:
                for number in range(ASKERS):
                    page = PAGES[number % len(PAGES)]
                    tasks.create_task(flood(web, page))
            await found.witness.answers(ANSWERS)
            found.check()


@pytest.mark.parametrize(
    "log",
    [
        test_blocked_log._full_pipe,
        test_blocked_log._stopped_terminal,
        test_blocked_log._full_disk,
        test_blocked_log._reader_that_has_gone,
    ],
)
async def test_a_log_that_nobody_takes_slows_nobody_down(tmp_path, log):
    local = free_port()
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("good", listen=local, port=port))
        with log() as stderr:
            options = ("--log-level", "debug", "--log-format", "json")
            async with test_blocked_log._daemon(
                tmp_path / "config.toml", text, stderr, {}, *options
            ) as process:
                await test_blocked_log._until(lambda: echoes(local))
                witness = Witness(local)
                async with asyncio.TaskGroup() as tasks:
                    watching = tasks.create_task(witness.watch())
                    await witness.answers(10 * ANSWERS)
                    watching.cancel()
                peak = peak_memory(process.pid)
                assert peak < MOST_MEMORY
                process.terminate()
                assert await process.wait() == 0
    shown = SimpleNamespace(slowest=max(witness.times), peak=peak >> 20)
    print(shown)  # noqa: T201 - for whoever asks: pytest -rP
