"""The daemon under a real systemd user instance, where the machine can have one."""

import asyncio
import os
import signal
import sys
import time

import pytest

from tests.integration.test_systemd import BLOCK, BLOCKABLE
from tests.integration.user_manager import PATIENCE, missing, user_manager
from tests.integration.world import (
    configuration,
    connection,
    destination,
    echoes,
    emulator,
    tunnel,
)

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

# What counts of systemd/ssmtunneld-user.service, in a hurry.
SERVICE = """
[Service]
Type=notify
Environment={environ}
ExecStart={command} run --config {config} --log-format json
ExecReload=/bin/kill -HUP $MAINPID
WatchdogSec={watchdog}
Restart=on-failure
RestartSec=100ms
RestartPreventExitStatus=2
LimitCORE=0
StandardError=append:{log}
{more}
"""
SOCKET = """
[Socket]
ListenStream={path}
FileDescriptorName=echo
SocketMode=0600
Service=tunnels.service
"""


@pytest.fixture
def manager():
    with user_manager() as found:
        if found is None:
            pytest.skip("no systemd user instance comes up here")
        yield found


@pytest.fixture
def write(manager, tmp_path):
    """Write the service's unit."""

    def write(
        config, *, watchdog="30", command=(sys.executable, "-m", "ssmtunneld"), more=""
    ):
        names = ("AWS_", "HOME", "XDG_STATE_HOME", "NO_PROXY")
        environ = " ".join(
            f'"{k}={v}"' for k, v in os.environ.items() if k.startswith(names)
        )
        text = SERVICE.format(
            environ=environ,
            command=" ".join(command),
            config=config,
            watchdog=watchdog,
            log=tmp_path / "log",
            more=more,
        )
        manager.write("tunnels.service", text)

    return write


async def in_thread(function, *arguments, **facts):
    return await asyncio.to_thread(function, *arguments, **facts)


async def until(fact):
    """Return the first true result of ``fact()``, which takes its time."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await in_thread(fact)):
            pass
        return found


async def test_systemd_restarts_a_daemon_whose_loop_is_blocked(
    manager, write, tmp_path
):
    program = tmp_path / "program.py"
    program.write_text(BLOCKABLE)
    path, config = tmp_path / "echo", tmp_path / "config.toml"
    async with destination() as port, emulator() as aws:
        config.write_text(
            configuration(
                aws.endpoint_url, tunnel("echo", port=port, listen=f"unix:{path}")
            )
        )
        write(config, watchdog="2", command=(sys.executable, str(program)))
        # Returns when the service is ready.
        await in_thread(manager.call, "start", "tunnels.service")
        assert await echoes(path)
        first = await in_thread(manager.show, "tunnels.service", "MainPID")
        os.kill(int(first), BLOCK)

        def restarted():
            return int(manager.show("tunnels.service", "NRestarts")) == 1

        def active():
            return manager.show("tunnels.service", "ActiveState") == "active"

        await until(restarted)
        await until(active)
        assert await in_thread(manager.show, "tunnels.service", "MainPID") != first
        assert await echoes(path)
        await in_thread(manager.call, "stop", "tunnels.service")
        assert await in_thread(manager.show, "tunnels.service", "Result") == "success"
        # Also the one that the blocked process could not end.
        assert all(s.over for s in aws.sessions)


async def test_restarts_and_reloads_under_a_connect_loop_refuse_nobody(
    manager, write, tmp_path
):
    path, config = tmp_path / "echo", tmp_path / "config.toml"
    async with destination() as port, emulator() as aws:
        text = configuration(
            aws.endpoint_url,
            tunnel("echo", port=port, listen=f"unix:{tmp_path}/unused"),
        )
        config.write_text(text)
        write(config)
        manager.write("tunnels.socket", SOCKET.format(path=path))
        await in_thread(manager.call, "start", "tunnels.socket")
        answers = []
        async with asyncio.TaskGroup() as tasks:
            # The first connection starts the service.
            asking = tasks.create_task(_ask_again_and_again(path, answers), name="ask")
            await until(lambda: len(answers) > 5)
            for verb in ("restart", "reload", "restart"):
                before = len(answers)
                await in_thread(manager.call, verb, "tunnels.service")
                await until(lambda before=before: len(answers) > before + 5)
            asking.cancel()
        assert all(answers)
        config.write_text(text + "nonsense")
        await in_thread(manager.call, "reload", "tunnels.service")

        def refused():
            status = manager.show("tunnels.service", "StatusText")
            return "the changed configuration was rejected" in status

        await until(refused)
        assert await echoes(path)
        await in_thread(manager.call, "stop", "tunnels.socket", "tunnels.service")
    assert all(s.over for s in aws.sessions)


async def _ask_again_and_again(path, answers):
    """Connect and ask until cancelled; a refusal or a lost connection is an error."""
    while True:
        answers.append(await echoes(path))


async def test_a_stop_lets_a_transfer_finish_beyond_the_units_own_timeout(
    manager, write, tmp_path
):
    path, config = tmp_path / "echo", tmp_path / "config.toml"
    async with destination() as port, emulator() as aws:
        config.write_text(
            configuration(
                aws.endpoint_url,
                tunnel("echo", port=port, listen=f"unix:{path}"),
                drain_timeout="120s",
            )
        )
        write(config, more="TimeoutStopSec=5")
        await in_thread(manager.call, "start", "tunnels.service")
        pid = int(await in_thread(manager.show, "tunnels.service", "MainPID"))
        async with connection(path) as (reader, writer):
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            await in_thread(manager.call, "stop", "--no-block", "tunnels.service")
            await until(lambda: not path.exists())

            def overdue():
                since = manager.show("tunnels.service", "StateChangeTimestampMonotonic")
                now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                return now / 1e3 > int(since) + 6e6

            await until(overdue)
            writer.write(b"still there")
            assert await reader.readexactly(11) == b"still there"
            os.kill(pid, signal.SIGCONT)  # it is still that process

        def over():
            return manager.show("tunnels.service", "ActiveState") == "inactive"

        await until(over)
        assert await in_thread(manager.show, "tunnels.service", "Result") == "success"
    assert all(s.over for s in aws.sessions)
