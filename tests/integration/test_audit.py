"""The audit log of a whole daemon: every connection twice, and sums that agree."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.listener.process_table import process_of, user_name
from tests.integration import crowd
from tests.integration.processes import await_line, await_port, launch
from tests.integration.world import (
    TARGET,
    configuration,
    destination,
    echoes,
    emulator,
    port_of,
    running,
    tunnel,
)
from tests.support.turns import until

CROWD = 250
"""Clients at once."""
CROWDS = 40 if os.environ.get("SSMTUNNELD_FULL_SIZE") else 2
"""Crowds, one after the other."""
CONNECTIONS = CROWD * CROWDS
PATIENCE = 300.0


@asynccontextmanager
async def visitors(port, count):
    """Let a process make ``count`` connections; yield it once all are answered."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", crowd.__name__, str(port), str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        counts = {"answered": 0, "failed": 0}
        async with asyncio.timeout(PATIENCE):
            while counts["answered"] + counts["failed"] < count:
                process.stdin.write(b"?\n")
                counts = json.loads(await process.stdout.readline())
        assert counts["failed"] == 0
        yield process
        process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def lines(path):
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


async def test_every_connection_is_there_twice_and_the_sums_are_the_metrics(
    tmp_path, events
):
    path, pids = tmp_path / "audit.jsonl", set()
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url,
            tunnel("x", port=port, max_connections=1000, max_sessions=8),
            tunnel("y", port=1, warm=0, connect_timeout="10ms"),
            audit_log=str(path),
        )
        async with running(text) as daemon:
            for _ in range(CROWDS):
                async with visitors(port_of(daemon, "x"), CROWD) as process:
                    pids.add(process.pid)
                    name = process_of(process.pid).program
                    # Then somebody has looked who they are.
                    await until(
                        lambda: not daemon.snapshot().audit.waiting, patience=PATIENCE
                    )
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await echoes(port_of(daemon, "y"))
            x = daemon.tunnels[0].server
            await until(lambda: not x.statistics().active)
            totals = [tunnel.server.statistics() for tunnel in daemon.tunnels]
            assert daemon.snapshot().audit.lost == 0
    found = lines(path)
    assert [found[0]["event"], found[-1]["event"]] == ["started", "stopped"]
    opened = [line for line in found if line["event"] == "opened"]
    ended = [line for line in found if line["event"] == "ended"]
    assert len(found) == 2 + len(opened) + len(ended)
    assert len(opened) == len(ended) == CONNECTIONS + 1
    ids = {line["connection"] for line in opened}
    assert len(ids) == CONNECTIONS + 1
    assert ids == {line["connection"] for line in ended}
    for key, total in [("sent", "sent"), ("received", "received")]:
        assert sum(line[key] for line in ended) == sum(
            getattr(each, total) for each in totals
        )
    endings = Counter(line["ending"] for line in ended)
    assert endings == Counter(
        {e.value: n for each in totals for e, n in each.endings.items()}
    )
    assert {line["user"] for line in found[1:-1]} == {user_name(os.getuid())}
    begun = [line for line in opened if line["tunnel"] == "x"]
    assert {line["target"] for line in begun} == {TARGET}
    assert {line["destination"] for line in begun} == {f"localhost:{port}"}
    assert None not in {line["session_id"] for line in begun}
    if sys.platform == "linux":
        # They were connected until all were answered: their program was to be seen.
        assert {line["pid"] for line in begun} == pids
        assert {line["program"] for line in begun} == {name}


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
async def test_a_full_disk_stops_nothing_and_a_rotation_needs_no_signal(tmp_path):
    path, config = tmp_path / "audit.jsonl", tmp_path / "c.toml"
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url, tunnel("x", port=port), audit_log="audit.jsonl"
        )
        config.write_text(text)
        options = ("--config", config, "--log-format", "json")
        daemon = await asyncio.to_thread(launch, "run", *options)
        try:
            local = await asyncio.to_thread(await_port, daemon, "x")
            await asyncio.to_thread(await_line, daemon, "daemon.ready")
            pid = daemon.process.pid
            assert await echoes(local)
            await until(lambda: path.exists() and len(lines(path)) == 3)
            # Its files can grow no further: what a full disk is to whoever appends.
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
            for _ in range(5):
                assert await echoes(local)
            failed = await asyncio.to_thread(await_line, daemon, "audit.failed")
            assert failed["path"] == str(path)
            path.rename(tmp_path / "audit.jsonl.1")
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            assert await echoes(local)
            await asyncio.to_thread(await_line, daemon, "audit.resumed")
            daemon.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(daemon.process.wait, PATIENCE) == 0
        finally:
            daemon.kill()
    before, after = lines(tmp_path / "audit.jsonl.1"), lines(path)
    assert [line["event"] for line in before] == ["started", "opened", "ended"]
    missing = sum(line["lines"] for line in after if line["event"] == "lost")
    written = [line for line in after if line["event"] in {"opened", "ended"}]
    assert missing + len(written) == 2 * 6, "every line is there, or counted"
    assert missing > 0
    assert (after[-1]["event"], after[-1]["lines"]) == ("stopped", missing)
    assert path.stat().st_mode & 0o777 == 0o600
