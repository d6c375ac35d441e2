"""The process that starts a target for one connection: in it, and as its own."""

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.instance_lock import state_directory
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.sessions import bastion, bastion_plan
from ssmtunneld.ssh import bastion_keeper
from ssmtunneld.ssh.bastion_keeper import Report, keep, spawn_keeper, trouble_of
from ssmtunneld.ssh.settings import settings_for
from ssmtunneld.ssh.stop_duty import StopDuty, duty_name
from ssmtunneld.testing import EmulatorThread
from tests.integration.test_operator import until
from tests.support.keepers import wait_for_keepers

TARGET = "i-0123456789abcdef0"


@pytest.fixture
def emulator(monkeypatch, tmp_path):
    settings = EmulatorSettings(
        pace=Pace.NONE, stopped=frozenset({TARGET}), boot_time=0.2
    )
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    with EmulatorThread(settings) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator
        wait_for_keepers(tmp_path)


@pytest.fixture
def impatience(monkeypatch):
    """Look as often as a test wants: its own patience is not the point."""
    for name, seconds in {"POLL": 0.05, "PAUSE": 0.1, "LOOK": 0.2}.items():
        monkeypatch.setattr(bastion_plan, name, seconds)
    # The emulator's answers are never old.
    monkeypatch.setattr(bastion, "STALENESS", 0.0)


def tunnel(tmp_path, stop_after="300ms"):
    """Return the settings of a connection to the target."""
    text = f'[tunnels.x]\ntarget = "{TARGET}"\nport = 22\nlisten = 2222\n'
    text += "start_target = true\n"
    text += f'stop_target_after = "{stop_after}"\n' if stop_after else ""
    file = tmp_path / "c.toml"
    file.write_text(text)
    return settings_for(TARGET, 22, {}, file, {})


async def reports(reader):
    """Return the reports up to the one that says that it is awake, or never will be."""
    found = []
    while not found or not (found[-1].awake or found[-1].final):
        line = await reader.readline()
        assert line.endswith(b"\n"), found
        found.append(Report(**json.loads(line)))
    return found


def duty_path(settings):
    """Return the file of the duty to stop the target of ``settings``."""
    return state_directory() / "duties" / duty_name(settings, os.environ)


@asynccontextmanager
async def kept(settings, name="me", duty_type=StopDuty):
    """Keep the target of ``settings`` here; yield reader, writer and task."""
    context = DaemonContext(start_rate=1.0, start_burst=1, instance=name, named=False)
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    far = await asyncio.open_connection(sock=theirs)
    async with asyncio.TaskGroup() as tasks:
        kept_one = context.bastions.get(settings)
        duty = duty_type(duty_path(settings), asyncio.get_running_loop().time)
        task = tasks.create_task(keep(kept_one, duty, trouble_of(settings), *far))
        try:
            yield reader, writer, task
            writer.close()
        finally:
            await asyncio.wait({task}, timeout=60)
            task.cancel()
            far[1].close()
    await context.controls.close()


def state(emulator):
    """Return what the emulator knows of the target."""
    return emulator.instance(TARGET)


async def test_it_is_started_for_a_connection_and_stopped_some_time_after_it(
    emulator, impatience, tmp_path
):
    async with kept(tunnel(tmp_path)) as (reader, writer, task):
        found = await reports(reader)
        assert found[-1] == Report(
            awake=True, instance=TARGET, reason="", advice="", final=False
        )
        assert any("waiting for its agent" in report.reason for report in found)
        assert state(emulator)["starts"] == 1
        (mark,) = state(emulator)["tags"].values()
        assert "claim=" in mark
        writer.close()
        await task
    found = state(emulator)
    assert (found["state"], found["stops"], found["tags"]) == ("stopped", 1, {})


async def test_without_a_time_it_is_never_stopped_and_nobody_stays(
    emulator, impatience, tmp_path
):
    async with kept(tunnel(tmp_path, None)) as (reader, writer, task):
        await reports(reader)
        writer.close()
        await task
    assert state(emulator)["tags"] == {}
    assert state(emulator)["stops"] == 0


async def test_two_connections_start_it_once_and_the_last_one_stops_it(
    emulator, impatience, tmp_path
):
    settings = tunnel(tmp_path)
    async with kept(settings, "one") as one, kept(settings, "two") as two:
        await asyncio.gather(*(reports(each[0]) for each in (one, two)))
        assert state(emulator)["starts"] == 1
        one[1].close()
        await one[2]
        assert state(emulator)["stops"] == 0
        two[1].close()
        await two[2]
    assert state(emulator)["stops"] == 1


async def test_of_those_that_connections_have_left_one_stays(
    emulator, impatience, tmp_path
):
    settings = tunnel(tmp_path, "1h")
    async with kept(settings, "one") as one, kept(settings, "two") as two:
        await asyncio.gather(*(reports(each[0]) for each in (one, two)))
        one[1].close()
        await until(duty_path(settings).exists)
        two[1].close()
        await two[2]
        assert not one[2].done()
        tags = state(emulator)["tags"].values()
        assert sum("until=" in tag for tag in tags) == 1
        assert state(emulator)["stops"] == 0
        one[2].cancel()
    # Who ends has given it up.
    assert not duty_path(settings).exists()


async def test_what_keeps_it_from_being_stopped_is_kept_for_the_next_person(
    emulator, impatience, tmp_path
):
    settings = tunnel(tmp_path)
    async with kept(settings) as (reader, writer, task):
        await reports(reader)
        emulator.deny("ec2:StopInstances")
        writer.close()
        await until(lambda: trouble_of(settings).text)
        assert "ec2:StopInstances" in trouble_of(settings).text
        assert state(emulator)["stops"] == 0
        emulator.allow_again()
        await task
    assert state(emulator)["stops"] == 1
    assert trouble_of(settings).text == ""


async def test_an_end_that_comes_before_the_stop_is_kept_for_the_next_person(
    emulator, impatience, tmp_path
):
    settings = tunnel(tmp_path, "1h")
    emulator.deny("ec2:StopInstances")
    async with kept(settings) as (reader, _, task):
        await reports(reader)
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert "aws ec2 stop-instances" in trouble_of(settings).text
    assert state(emulator)["stops"] == 0


async def test_one_that_is_killed_is_succeeded(emulator, impatience, tmp_path):
    settings = tunnel(tmp_path)
    dead = StopDuty(duty_path(settings), lambda: 0.0)
    assert not dead.leave_to_holder()
    left = []

    class Survivor(StopDuty):
        @override
        def leave_to_holder(self):
            left.append(super().leave_to_holder())
            if left == [True]:
                # It was told of the use, and does not live to stop it.
                os.close(dead._handle)
            return left[-1]

    async with kept(settings, duty_type=Survivor) as (reader, writer, task):
        await reports(reader)
        writer.close()
        await task
    assert left == [True, False]
    assert state(emulator)["stops"] == 1
    assert state(emulator)["tags"] == {}


async def test_a_signal_stops_it_at_once(emulator, impatience, tmp_path):
    async with kept(tunnel(tmp_path, "1h")) as (reader, _, task):
        await reports(reader)
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert state(emulator)["stops"] == 1


async def test_a_refusal_is_final_and_says_what_to_allow(
    emulator, impatience, tmp_path
):
    emulator.deny("ec2:StartInstances")
    async with kept(tunnel(tmp_path, None)) as (reader, _, _task):
        report = (await reports(reader))[-1]
        assert report.final
        assert "ec2:StartInstances" in report.advice


async def test_the_next_process_has_the_name_of_the_one_before(tmp_path):
    folder = tmp_path / "keepers"
    with bastion_keeper._slot(folder) as first, bastion_keeper._slot(folder) as second:
        assert len({first, second}) == 2
    with bastion_keeper._slot(folder) as again:
        assert again == first
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_without_a_place_for_it_there_is_no_name(tmp_path):
    (tmp_path / "file").touch()
    with bastion_keeper._slot(tmp_path / "file") as name:
        assert name is None


def test_a_full_disk_costs_it_only_the_name_that_is_known_again(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", refuse)
        with (
            bastion_keeper._slot(tmp_path) as one,
            bastion_keeper._slot(tmp_path) as two,
        ):
            assert len({one, two, None}) == 3
    with bastion_keeper._slot(tmp_path) as name:
        pass
    with bastion_keeper._slot(tmp_path) as again:
        assert again == name


@pytest.mark.parametrize("content", [b"", b"0" * 31, bytes(32), b"\xff" * 32])
def test_what_is_no_name_is_written_anew(tmp_path, content):
    (tmp_path / "0").write_bytes(content)
    with bastion_keeper._slot(tmp_path) as name:
        assert (tmp_path / "0").read_bytes()[:32] == name.encode() != content


async def test_who_is_killed_leaves_nothing_running(emulator, tmp_path):
    settings = tmp_path / "settings"
    settings.write_text(tunnel(tmp_path).model_dump_json())
    starter = (
        "import pathlib, sys, time\n"
        "from ssmtunneld.config import TunnelSettings\n"
        "from ssmtunneld.ssh.bastion_keeper import spawn_keeper\n"
        "text = pathlib.Path(sys.argv[1]).read_text()\n"
        "sock = spawn_keeper(TunnelSettings.model_validate_json(text))\n"
        "sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", starter, str(settings)]
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=subprocess.PIPE, cwd=Path.cwd()
    )
    try:
        await until(lambda: state(emulator)["starts"] == 1)
    finally:
        process.kill()
        await process.wait()
    await until(lambda: state(emulator)["state"] == "stopped")
    await until(lambda: state(emulator)["tags"] == {})
    assert state(emulator)["stops"] == 1


async def test_no_module_of_the_working_directory_comes_before_ours(
    emulator, monkeypatch, tmp_path
):
    hostile = tmp_path / "checkout"
    hostile.mkdir()
    for name in ("json", "ssmtunneld"):
        text = f"open({str(tmp_path / 'ran')!r}, 'w').close()"
        (hostile / f"{name}.py").write_text(text)
    monkeypatch.chdir(hostile)
    sock = await asyncio.to_thread(spawn_keeper, tunnel(tmp_path, None))
    reader, writer = await asyncio.open_connection(sock=sock)
    assert (await reports(reader))[-1].awake
    writer.close()
    assert not (tmp_path / "ran").exists()


async def test_without_a_time_it_ends_although_aws_cannot_be_reached(
    emulator, impatience, tmp_path
):
    async with kept(tunnel(tmp_path, None)) as (reader, writer, task):
        await reports(reader)
        emulator.set_faults("describe-error=500")
        writer.close()
        async with asyncio.timeout(30):
            await task
