"""The log of a whole daemon, read by command."""

import asyncio
import os
import sys

import pytest

from tests.integration.test_connections import command
from tests.integration.world import PATIENCE, configuration, emulator, tunnel
from tests.support.turns import until


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the file")
async def test_a_log_that_is_a_file_is_read_there(tmp_path):
    config, log = tmp_path / "c.toml", tmp_path / "log"
    async with emulator() as service:
        config.write_text(
            configuration(
                service.endpoint_url, tunnel("x", port=1), tunnel("y", port=1)
            )
        )
        with log.open("wb") as file:
            daemon = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ssmtunneld", "run", "--config", str(config)),
                stderr=file,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        try:
            await until(lambda: "daemon.ready" in log.read_text(), patience=PATIENCE)
            # A line of an operator's, which nothing else adds to.
            code, _ = await command("pause", "x", "-c", str(config))
            assert code == 0
            code, out = await command("logs", "x", "-n", "2", "-c", str(config))
            assert code == 0
            assert "tunnel.paused" in out
            assert "tunnel=x" in out
            assert "tunnel=y" not in out
            assert set(out.splitlines()) <= set(log.read_text().splitlines())
        finally:
            daemon.terminate()
            await daemon.wait()
        assert (await command("logs", "-c", str(config)))[0] == 3
