"""The wait for a target that another process starts."""

import asyncio
import json
import socket
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from ssmtunneld.errors import NoSessionReady
from ssmtunneld.ssh import waking
from ssmtunneld.ssh.bastion_keeper import Report, trouble_of
from ssmtunneld.ssh.settings import settings_for
from ssmtunneld.ssh.waking import kept_awake

TARGET = "name:bastion"
NODE = "i-0123456789abcdef0"
AWAKE = Report(awake=True, instance=NODE, reason="", advice="", final=False)


def asleep(reason, *, final=False, instance=NODE):
    """Return a report of a target that is not awake."""
    return Report(
        awake=False, instance=instance, reason=reason, advice="help", final=final
    )


@pytest.fixture
def keeper(monkeypatch, tmp_path):
    """Let a test write what the process reports; yields its end of the socket."""
    ours, theirs = socket.socketpair()

    def spawn(tunnel):
        assert tunnel.target == TARGET
        return ours

    monkeypatch.setattr(waking, "spawn_keeper", spawn)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    with theirs:
        yield theirs


@contextmanager
def told():
    """Yield the lines that a person was told, and what tells them."""
    lines = []
    yield lines, lines.append


def report(keeper, *reports):
    for each in reports:
        keeper.sendall(json.dumps(asdict(each)).encode() + b"\n")


def settings():
    return settings_for(TARGET, 22, {}, None, {})


def nobody_leaves():
    return asyncio.get_running_loop().create_future()


async def test_progress_is_told_and_the_instance_becomes_the_target(keeper):
    words = ["starting", "starting", "waiting for its agent"]
    report(keeper, asleep("looking", instance=None), *map(asleep, words), AWAKE)
    with told() as (lines, tell):
        async with kept_awake(settings(), 60, nobody_leaves(), tell) as tunnel:
            assert tunnel.target == NODE
            assert lines == [
                "starting",
                "waiting for its agent",
                f"bastion {NODE} is ready",
            ]
            keeper.setblocking(False)
            with pytest.raises(BlockingIOError):
                keeper.recv(1)  # it is held as long as the connection lasts
        keeper.settimeout(60)
        assert await asyncio.to_thread(keeper.recv, 1) == b""


async def test_one_that_runs_needs_no_words(keeper):
    report(keeper, asleep("looking", instance=None), AWAKE)
    with told() as (lines, tell):
        async with kept_awake(settings(), 60, nobody_leaves(), tell):
            assert lines == []


async def test_who_comes_next_is_told_what_kept_it_from_being_stopped(keeper):
    trouble_of(settings()).note(NODE, "it is denied", "allow it")
    report(keeper, AWAKE)
    with told() as (lines, tell):
        async with kept_awake(settings(), 60, nobody_leaves(), tell):
            assert lines == [
                f"the last time, bastion {NODE} could not be stopped: it is denied; "
                "allow it"
            ]


async def test_a_refusal_ends_the_wait_with_what_to_do(keeper):
    report(keeper, asleep("it is denied", final=True))
    with pytest.raises(NoSessionReady, match="it is denied") as caught:
        async with kept_awake(settings(), 60, nobody_leaves()):
            pytest.fail("it is not awake")
    assert caught.value.advice == "help"


async def test_time_that_is_up_is_told_with_how_far_it_was(keeper):
    report(keeper, asleep("no agent"))
    with (
        told() as (_, tell),
        pytest.raises(NoSessionReady, match=r"not awake within 0\.2 s: no agent"),
    ):
        async with kept_awake(settings(), 0.2, nobody_leaves(), tell):
            pytest.fail("it is not awake")


async def test_a_process_that_has_ended_is_not_waited_for(keeper):
    keeper.close()
    with pytest.raises(NoSessionReady, match="has ended"):
        async with kept_awake(settings(), 60, nobody_leaves()):
            pytest.fail("it is not awake")


async def test_nobody_is_served_who_has_left(keeper):
    gone = nobody_leaves()
    asyncio.get_running_loop().call_soon(gone.set_result, None)
    async with kept_awake(settings(), 60, gone) as tunnel:
        assert tunnel is None


async def test_a_system_without_processes_is_told(monkeypatch):
    def spawn(_):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(waking, "spawn_keeper", spawn)
    with pytest.raises(NoSessionReady, match="Resource temporarily unavailable"):
        async with kept_awake(settings(), 60, nobody_leaves()):
            pytest.fail("it is not awake")
