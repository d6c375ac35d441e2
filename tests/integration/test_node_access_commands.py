"""Access on request with real processes: ``request``, ``open`` and ``proxy``."""

import asyncio
import contextlib
import json
import os
import sys

from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.testing import EmulatorThread
from tests.integration.processes import await_line, await_port, launch, running
from tests.integration.terminal import Terminal
from tests.integration.world import (
    PATIENCE,
    TARGET,
    configuration,
    destination,
    echoes,
    tunnel,
)

JSON = ("--log-format", "json")
ASKING = {
    "Statement": {
        "Effect": "Allow",
        "Action": ["ssm:StartAccessRequest", "ssm:GetAccessToken"],
        "Resource": "*",
    }
}
PROGRAM = ("-m", "ssmtunneld")


@contextlib.contextmanager
def service(**settings):
    """Run an emulator at which nobody starts a session without a request."""
    settings = EmulatorSettings(pace=Pace.NONE, policies={"": ASKING}, **settings)
    with EmulatorThread(settings) as emulator:
        yield emulator


async def in_thread(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


async def requested(emulator, program):
    """Return the first request, once ``program`` has made it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            over = program.process.poll() is not None
            if found := await in_thread(emulator.access_requests):
                return found[0]
            assert not over, program.log()


def ended(program):
    """Return exit code and output of a program, at its end."""
    try:
        return program.process.wait(PATIENCE), program.log()
    finally:
        program.kill()


def text(emulator, port):
    table = tunnel("x", port=port, access="request", required=False)
    return configuration(emulator.endpoint_url, table)


async def test_a_person_asks_waits_and_is_served_and_so_is_the_next_daemon(tmp_path):
    path = tmp_path / "config.toml"
    environ = {"STATE_DIRECTORY": str(tmp_path / "state")}
    with service(approval="manual") as emulator:
        async with destination() as port:
            with running(path, text(emulator, port), *JSON, **environ) as daemon:
                await in_thread(await_line, daemon, "control.bound")
                local = await_port(daemon, "x")
                reason = ("--reason", "a broken index")
                asking = launch(
                    *("request", "x", *reason, "--wait", "--config", path), **environ
                )
                request = await requested(emulator, asking)
                assert request["reason"] == "a broken index"
                assert request["target"] == TARGET
                emulator.approve(request["id"])
                code, said = await in_thread(ended, asking)
                assert code == 0, said
                assert f"x: access request {request['id']} for {TARGET}" in said
                assert "x: ready, with keys until" in said
                assert await echoes(local)
                told = launch("status", "--json", "--config", path, **environ)
                _, document = await in_thread(ended, told)
                (shown,) = json.loads(document)["tunnels"]
                assert shown["access"]["request_id"] == request["id"]
                log = daemon.log()
            # The keys are nowhere but in memory.
            kept = "".join(
                file.read_text()
                for file in (tmp_path / "state").iterdir()
                if file.suffix == ".json"
            )
            assert request["id"] in kept
            for secret in ("ASIA", "emulated-session-token"):
                assert secret not in kept
                assert secret not in log
                assert secret not in document
            with running(path, None, *JSON, **environ) as daemon:
                await in_thread(await_line, daemon, "access.granted")
                assert await echoes(await_port(daemon, "x"))
            assert len(emulator.access_requests()) == 1


async def test_a_rejection_is_told_to_whoever_waits(tmp_path):
    path = tmp_path / "config.toml"
    environ = {"STATE_DIRECTORY": str(tmp_path / "state")}
    with service(approval="reject") as emulator:
        with running(path, text(emulator, 1), *JSON, **environ) as daemon:
            await in_thread(await_line, daemon, "control.bound")
            asking = launch(
                *("request", "x", "--reason", "why", "--wait", "--config", path),
                **environ,
            )
            code, said = await in_thread(ended, asking)
        assert code == 4
        assert "was rejected" in said
        assert "ssmtunneld request x --reason TEXT" in said


def surroundings(emulator, tmp_path):
    return {**os.environ, **emulator.environment, "HOME": str(tmp_path)}


async def test_open_asks_on_the_terminal_and_one_request_is_for_all(tmp_path):
    with service(approval="auto") as emulator:
        async with destination() as port, destination() as other:
            show = "import os; print('at', os.environ['SSMTUNNELD_PORT'])"
            terminal = Terminal(
                *(*PROGRAM, "open", TARGET, port, other, "--request"),
                *("--", sys.executable, "-c", show),
                columns=120,
                env=surroundings(emulator, tmp_path),
            )
            try:
                await in_thread(terminal.wait_for, f"Reason for access to {TARGET}: ")
                terminal.type("a broken index\r")
                await in_thread(terminal.wait_for, r"at \d+")
            finally:
                code = await in_thread(terminal.close)
            assert code == 0
            (request,) = emulator.access_requests()
            assert request["reason"] == "a broken index"


async def test_open_needs_a_reason_without_a_terminal(tmp_path):
    code, said = await in_thread(ended, launch("open", TARGET, "22", "--request"))
    assert code == 2
    assert "--request needs --reason" in said
    code, said = await in_thread(ended, launch("open", TARGET, "22", "--reason", "x"))
    assert code == 2
    assert "no effect without --request" in said


async def test_open_ends_when_its_request_is_rejected():
    with service(approval="reject") as emulator:
        asking = launch(
            *("open", TARGET, "22", "--request", "--reason", "why"),
            **emulator.environment,
        )
        code, said = await in_thread(ended, asking)
    assert code == 4
    assert "was rejected" in said


async def test_proxy_asks_on_the_terminal(tmp_path):
    path = tmp_path / "config.toml"
    with service(approval="auto") as emulator:
        async with destination() as port:
            path.write_text(text(emulator, port))
            # Its own input and output are pipes, as ssh's are.
            script = (
                "import subprocess, sys\n"
                "found = subprocess.run(\n"
                f"    [sys.executable, *{PROGRAM!r}, 'proxy', {TARGET!r}, '{port}',\n"
                f"     '--config', {str(path)!r}],\n"
                "    input=b'hello', stdout=subprocess.PIPE,\n"
                ")\n"
                "print('heard', found.stdout.decode(), found.returncode)\n"
            )
            terminal = Terminal(
                *("-c", script),
                columns=120,
                env=surroundings(emulator, tmp_path),
            )
            try:
                await in_thread(terminal.wait_for, "Reason for access")
                terminal.type("a broken index\r")
                await in_thread(terminal.wait_for, "heard hello 0")
            finally:
                await in_thread(terminal.close)
            (request,) = emulator.access_requests()
            assert request["reason"] == "a broken index"


async def test_proxy_without_a_terminal_says_what_is_missing(tmp_path):
    path = tmp_path / "config.toml"
    with service() as emulator:
        path.write_text(text(emulator, 22))
        command = ("proxy", TARGET, "22", "--config", path)
        code, said = await in_thread(ended, launch(*command, **emulator.environment))
        assert code == 255
        assert "nobody has asked for access to the node" in said
        assert "on a terminal" in said
        assert emulator.access_requests() == []
