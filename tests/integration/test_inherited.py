"""Real inherited descriptors: what lets in too much is not used; others are."""

import asyncio
import json
import os
import socket
import sys
from contextlib import ExitStack

from tests.integration.world import (
    PATIENCE,
    configuration,
    destination,
    echoes,
    emulator,
    tunnel,
)

# Between fork and exec, as systemd does it: descriptors from 3 on, and the new pid.
ACTIVATE = """
import os, sys
count = int(sys.argv[1])
passed = [os.dup(int(n)) for n in sys.argv[2 : 2 + count]]
high = [os.dup2(n, 100 + i) for i, n in enumerate(passed)]
for i, n in enumerate(high):
    os.dup2(n, 3 + i)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "ssmtunneld", *sys.argv[2 + count:]])
"""


async def start(path, text, sockets):
    """Start a daemon that is given ``sockets`` by the names of tunnels."""
    path.write_text(text)
    numbers = [sock.fileno() for sock in sockets.values()]
    arguments = ["run", "--config", str(path), "--log-format", "json"]
    words = [str(len(numbers)), *map(str, numbers), *arguments]
    environ = {
        "LISTEN_FDS": str(len(numbers)),
        "LISTEN_FDNAMES": ":".join(sockets),
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ACTIVATE, *words),
        env={**os.environ, **environ},
        pass_fds=numbers,
        stderr=asyncio.subprocess.PIPE,
    )


async def lines_until(process, event, count):
    """Return the lines up to the ``count``-th one of ``event``."""
    lines = []
    async with asyncio.timeout(PATIENCE):
        while sum(line["event"] == event for line in lines) < count:
            lines.append(json.loads(await process.stderr.readline()))
    return lines


async def test_sockets_are_judged_by_their_own_address_and_mode(tmp_path):
    path = tmp_path / "everybodys"
    with ExitStack() as stack:
        good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        wide = stack.enter_context(
            socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        )
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(path))
        unix.listen()
        path.chmod(0o666)
        port_of_wide = wide.getsockname()[1]
        async with destination() as port, emulator() as aws:
            text = configuration(
                aws.endpoint_url,
                tunnel("wide", port=port),
                tunnel("unix", port=port),
                tunnel("good", port=port),
            )
            sockets = {"wide": wide, "unix": unix, "good": good}
            process = await start(tmp_path / "config.toml", text, sockets)
            try:
                found = await lines_until(process, "listener.bound", 1)
                failed = {
                    line["tunnel"]: (line["reason"], line["advice"])
                    for line in found
                    if line["event"] == "listener.failed"
                }
                assert failed.keys() == {"wide", "unix"}
                reason, advice = failed["wide"]
                assert f"[::]:{port_of_wide}" in reason
                assert f"ListenStream=127.0.0.1:{port_of_wide}" in advice
                reason, advice = failed["unix"]
                assert "its mode is 0666" in reason
                assert advice == "write in its unit: SocketMode=0600"
                assert await echoes(good.getsockname()[1], b"hello")
                # Nobody accepts at the others; their connections wait in the kernel.
                assert await answers(port_of_wide) is False
                # What was put right is used without a restart.
                path.chmod(0o600)
                await lines_until(process, "listener.bound", 1)
                reader, writer = await asyncio.open_unix_connection(str(path))
                writer.write(b"hello")
                async with asyncio.timeout(PATIENCE):
                    assert await reader.readexactly(5) == b"hello"
                writer.transport.abort()
            finally:
                process.kill()
                await process.communicate()


async def answers(port):
    """Return whether ``port`` answers within a second, ample time for a good tunnel."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    try:
        async with asyncio.timeout(1):
            return bool(await reader.read(1))
    except TimeoutError:
        return False
    finally:
        writer.transport.abort()
