"""The real command under what systemd gives a service: notify, watchdog, sockets."""

import asyncio
import configparser
import os
import plistlib
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.world import configuration, destination, emulator, tunnel

UNITS = Path(__file__).parents[2] / "systemd"
PATIENCE = 30.0

# Between fork and exec, as systemd does it: descriptors from 3 on, and the new pid.
_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "ssmtunneld", *sys.argv[2:]])
"""


class Manager:
    """The receiving end of the notify socket."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    async def wait_for(self, prefix):
        """Return the first line with ``prefix`` that comes."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while True:
                message = (await loop.sock_recv(self._socket, 65536)).decode()
                for line in message.splitlines():
                    if line.startswith(prefix):
                        return line

    def close(self):
        """Release the socket."""
        self._socket.close()


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@asynccontextmanager
async def service(text, tmp_path, *, listening=None, **environ):
    """Run ``ssmtunneld run`` as a service; yield the process."""
    path = tmp_path / "service.toml"
    path.write_text(text)
    arguments = ["run", "--config", str(path)]
    if listening is None:
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
            assert await manager.wait_for("STATUS=") == "STATUS=1 tunnels, 1 ready"
            for _ in range(3):
                await manager.wait_for("WATCHDOG=1")
            process.terminate()
            assert await manager.wait_for("STOPPING=") == "STOPPING=1"
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0


async def test_the_watchdog_is_silent_while_the_loop_is_blocked(tmp_path, manager):
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=port))
        environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "100000"}
        async with service(text, tmp_path, **environ) as process:
            await manager.wait_for("WATCHDOG=1")
            # A stopped process is what a blocked loop looks like from outside.
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(TimeoutError):
                await _watch_for(manager, 0.5)
            process.send_signal(signal.SIGCONT)
            await manager.wait_for("WATCHDOG=1")


async def test_what_a_tunnel_waits_for_stands_in_the_status(tmp_path, manager):
    async with emulator(faults=("offline=i-0123456789abcdef0",)) as aws:
        text = configuration(aws.endpoint_url, tunnel("echo", port=1))
        environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}
        async with service(text, tmp_path, **environ):
            line = await manager.wait_for("STATUS=1 tunnels, 0 ready; echo: Start")
    assert "check that i-0123456789abcdef0 runs" in line


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


async def _watch_for(manager, seconds):
    async with asyncio.timeout(seconds):
        while True:
            await manager.wait_for("WATCHDOG=1")


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


@pytest.mark.parametrize(
    "name", ["ssmtunneld.service", "ssmtunneld-user.service", "ssmtunneld.socket"]
)
def test_every_unit_can_be_parsed_and_starts_our_command(name):
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNITS / name)
    if name.endswith(".socket"):
        assert unit["Socket"]["Service"] == "ssmtunneld.service"
        return
    assert unit["Service"]["Type"] == "notify"
    command = unit["Service"]["ExecStart"].split()
    assert [Path(command[0]).name, command[1]] == ["ssmtunneld", "run"]
    assert unit["Service"]["RestartPreventExitStatus"] == "2"


def test_the_launchd_agent_runs_in_the_foreground_and_comes_back_after_a_crash():
    agent = plistlib.loads((UNITS / "io.github.ssmtunneld.plist").read_bytes())
    assert agent["ProgramArguments"][1:] == ["run"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
