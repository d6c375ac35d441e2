"""Machines without IPv6, as most containers are, and Pythons without uvloop."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.integration import world

ROOT = Path(__file__).parents[2]
NAMESPACE = ("unshare", "--map-root-user", "--net")


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


async def run(*command):
    """Return the exit code of a command, and all that it has written."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=os.environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(4 * world.PATIENCE):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


async def test_tunnels_work_without_ipv6_and_without_uvloop(tmp_path):
    if shutil.which("unshare") is None:
        pytest.skip("not installed: unshare (util-linux, Linux only)")
    code, words = await run(*NAMESPACE, "true")
    if code != 0:
        pytest.skip(f"no network namespace for us here: {words.strip()}")
    child = (sys.executable, "-m", "tests.integration.without_ipv6", str(tmp_path))
    code, words = await run(*NAMESPACE, *child)
    assert code == 0, words
