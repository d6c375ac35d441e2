"""The real command under what systemd gives a service: notify, watchdog, sockets."""

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager

import pytest

from tests.integration.world import configuration, destination, emulator, tunnel

PATIENCE = 30.0

# Between fork and exec, as systemd does it: descriptors from 3 on, and the new pid.
_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "ssmtunneld", *sys.argv[2:]])
"""

# A signal that never comes back to the event loop, as a defect in a callback would not;
# other threads go on.
BLOCK = signal.SIGUSR1
BLOCKABLE = f"""
import signal, sys, threading
signal.signal({BLOCK:d}, lambda *_: threading.Event().wait())
from ssmtunneld.__main__ import main
sys.argv[0] = "ssmtunneld"
main()
"""


class Manager:
    """The receiving end of the notify socket."""

    def __init__(self, path):
        self.path = str(path)
        self.message = {}
        """The last one that was looked at."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    async def wait_for(self, prefix):
        """Return the first line with ``prefix`` that comes."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while True:
                message = (await loop.sock_recv(self._socket, 65536)).decode()
                self.message = dict(x.split("=", 1) for x in message.splitlines())
                for line in message.splitlines():
                    if line.startswith(prefix):
                        return line

    async def silence(self, prefix, seconds):
        """Return when no line with ``prefix`` has come for so many seconds."""
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        while (rest := heard_at + seconds - loop.time()) > 0:
            try:
                async with asyncio.timeout(rest):
                    message = await loop.sock_recv(self._socket, 65536)
            except TimeoutError:
                continue
            if prefix in message.decode().splitlines():
                heard_at = loop.time()

    def close(self):
        """Release the socket."""
        self._socket.close()


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@asynccontextmanager
async def service(text, tmp_path, *, listening=None, blockable=False, **environ):
    """Run ``ssmtunneld run`` as a service; yield the process."""
    path = tmp_path / "service.toml"
    path.write_text(text)
    arguments = ["run", "--config", str(path)]
    if blockable:
        command = [sys.executable, "-c", BLOCKABLE, *arguments]
    elif listening is None:
        command = [sys.executable, "-m", "ssmtunneld", *arguments]
    else:
        number = str(listening.fileno())
        command = [sys.executable, "-c", _ACTIVATE, number, *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environ},
        pass_fds=() if listening is None else (listening.fileno(),),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_service_is_ready_lives_and_says_when_it_stops(tmp_path, manager):
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=port))
        environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"}
        async with service(text, tmp_path, **environ) as process:
            assert await manager.wait_for("READY=") == "READY=1"
            assert manager.message["STATUS"] == "1 tunnel, 1 usable"
            for _ in range(3):
                await manager.wait_for("WATCHDOG=1")
            process.terminate()
            assert await manager.wait_for("STOPPING=") == "STOPPING=1"
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0


async def test_a_blocked_loop_silences_the_watchdog_and_the_process_is_restarted(
    tmp_path, manager
):
    """Do by hand what systemd does with WatchdogSec= and Restart=on-failure."""
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=port))
        environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "2000000"}
        async with service(text, tmp_path, blockable=True, **environ) as process:
            await manager.wait_for("READY=1")
            await manager.wait_for("WATCHDOG=1")
            process.send_signal(BLOCK)
            # Every sign of life makes the deadline two seconds later.
            await manager.silence("WATCHDOG=1", 2.0)
            assert process.returncode is None
            process.send_signal(signal.SIGABRT)
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == -signal.SIGABRT
        assert [s.over for s in aws.sessions] == [False]
        async with service(text, tmp_path, **environ) as process:
            await manager.wait_for("READY=1")
            await manager.wait_for("WATCHDOG=1")
            process.terminate()
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0
        # Also the one that the first process could not end.
        assert all(s.over for s in aws.sessions)


async def test_a_reload_is_told_from_its_begin_to_its_end(tmp_path, manager):
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=port))
        environ = {"NOTIFY_SOCKET": manager.path}
        async with service(text, tmp_path, **environ) as process:
            await manager.wait_for("READY=1")
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            (tmp_path / "service.toml").write_text(text + "nonsense")
            process.send_signal(signal.SIGHUP)
            await manager.wait_for("RELOADING=1")
            assert int(manager.message["MONOTONIC_USEC"]) >= before
            await manager.wait_for("READY=1")
            status = manager.message["STATUS"]
            assert (
                "1 tunnel, 1 usable; the changed configuration was rejected" in status
            )
            assert "is not TOML" in status
            (tmp_path / "service.toml").write_text(text)
            process.send_signal(signal.SIGHUP)
            await manager.wait_for("RELOADING=1")
            await manager.wait_for("READY=1")
            assert manager.message["STATUS"] == "1 tunnel, 1 usable"


async def test_a_drain_asks_for_the_time_that_it_takes(tmp_path, manager):
    async with destination() as port, emulator() as aws:
        text = configuration(
            aws.endpoint_url, tunnel("echo", port=port, listen=f"unix:{tmp_path}/echo")
        )
        environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}
        async with service(text, tmp_path, **environ) as process:
            await manager.wait_for("READY=1")
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "echo"))
            writer.write(b"x")
            await reader.readexactly(1)
            process.terminate()
            await manager.wait_for("STOPPING=1")
            for _ in range(3):
                await manager.wait_for("EXTEND_TIMEOUT_USEC=20000000")
                await manager.wait_for("WATCHDOG=1")
            writer.transport.abort()
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0


async def test_what_a_tunnel_waits_for_stands_in_the_status(tmp_path, manager):
    async with emulator(faults=("offline=i-0123456789abcdef0",)) as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=1))
        environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}
        async with service(text, tmp_path, **environ):
            line = await manager.wait_for("STATUS=1 tunnel, 0 usable; echo: Start")
    assert "check that i-0123456789abcdef0 is right" in line


async def test_a_restart_with_an_inherited_socket_refuses_nobody(tmp_path, manager):
    listening = socket.create_server(("127.0.0.1", 0))
    local = listening.getsockname()[1]
    async with destination() as port, emulator() as aws:
        # Its own address is another one: the inherited socket is used instead.
        text = configuration(aws.endpoint_url, tunnel("echo", port=port))
        environ = {
            "NOTIFY_SOCKET": manager.path,
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "echo",
        }
        connected = []
        async with asyncio.TaskGroup() as tasks:
            knocking = tasks.create_task(_knock(local, connected), name="knock")
            for _ in range(2):
                async with service(
                    text, tmp_path, listening=listening, **environ
                ) as process:
                    await manager.wait_for("READY=1")
                    assert await _echo(local) == b"hello"
                    process.terminate()
                    async with asyncio.timeout(PATIENCE):
                        assert await process.wait() == 0
            # Nobody accepts any more: its last attempts wait in the backlog.
            knocking.cancel()
        listening.close()
    assert len(connected) > 10


async def _knock(port, connected):
    """Connect again and again until cancelled; a refusal is an error."""
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        connected.append(port)
        writer.transport.abort()
        await asyncio.sleep(0)


async def _echo(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"hello")
        async with asyncio.timeout(PATIENCE):
            return await reader.readexactly(5)
    finally:
        writer.transport.abort()
