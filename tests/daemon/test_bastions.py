"""The instances of a process that are started on demand."""

import asyncio

from ssmtunneld.aws.ssm import ControlRegistry
from ssmtunneld.base import compartment
from ssmtunneld.config import TunnelSettings
from ssmtunneld.daemon.bastions import Bastions
from ssmtunneld.sessions.bastion import END_PATIENCE, Bastion
from tests.support.turns import turns, until

TARGET = "i-0123456789abcdef0"


def settings(**changes):
    given = {"name": "x", "listen": "5432", "target": TARGET, "port": 5432}
    return TunnelSettings.model_validate({**given, "start_target": True, **changes})


def key_of(bastions, **changes):
    return bastions.get(settings(**changes))._key


async def test_a_tunnel_that_does_not_start_its_target_has_none():
    assert Bastions(ControlRegistry(), "me").get(settings(start_target=False)) is None


async def test_tunnels_to_one_target_share_it():
    bastions = Bastions(ControlRegistry(), "me")
    assert bastions.get(settings()) is bastions.get(settings(name="y", port=1))
    assert bastions.get(settings()) is not bastions.get(settings(region="eu-west-1"))
    assert bastions.get(settings()) is not bastions.get(
        settings(stop_target_after="30m")
    )


async def test_the_end_takes_longer_only_where_something_may_have_to_be_stopped():
    bastions = Bastions(ControlRegistry(), "me")
    assert bastions.end_patience == 0
    bastions.get(settings())
    assert bastions.end_patience == 0
    bastions.get(settings(stop_target_after="30m"))
    assert bastions.end_patience == END_PATIENCE


async def test_one_that_breaks_at_the_end_keeps_no_other_from_being_stopped(
    monkeypatch,
):
    bastions = Bastions(ControlRegistry(), "me")
    left = []

    async def leave(bastion):
        if not left:
            left.append("broken")
            raise ZeroDivisionError
        await turns(3)
        left.append(bastion)
        return True

    monkeypatch.setattr(Bastion, "leave", leave)
    found = [bastions.get(settings(region=f"eu-west-{n}")) for n in (1, 2, 3)]
    await bastions.leave()
    assert left == ["broken", *found[1:]]


async def test_one_that_breaks_keeps_no_other_from_being_looked_after(monkeypatch):
    bastions = Bastions(ControlRegistry(), "me")
    attended, cancelled = [], []

    async def attend(bastion):
        attended.append(bastion)
        try:
            if bastion is found[0]:
                raise ZeroDivisionError
            await asyncio.Event().wait()
        finally:
            cancelled.append(bastion)

    monkeypatch.setattr(Bastion, "attend", attend)
    monkeypatch.setattr(compartment, "FIRST_DELAY", 0.0)
    monkeypatch.setattr(compartment, "LAST_DELAY", 0.0)
    found = [bastions.get(settings(region=f"eu-west-{n}")) for n in (1, 2)]
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bastions.run())
        await until(lambda: attended.count(found[0]) > 2)
        assert attended.count(found[1]) == 1
        assert found[1] not in cancelled
        running.cancel()


async def test_its_mark_gets_the_daemon_s_name_once_that_has_one():
    bastions = Bastions(ControlRegistry(), None)
    before = key_of(bastions)
    bastions.take_instance("me")
    mine = Bastions(ControlRegistry(), "me")
    assert key_of(bastions) == key_of(mine) != before
    assert key_of(bastions, target="name:x") == key_of(mine, target="name:x")


async def test_its_mark_is_known_after_a_restart_and_is_nobody_else_s():
    mine = key_of(Bastions(ControlRegistry(), "me"))
    assert mine.startswith("ssmtunneld:")
    assert key_of(Bastions(ControlRegistry(), "me")) == mine
    others = {
        key_of(Bastions(ControlRegistry(), "you")),
        key_of(Bastions(ControlRegistry(), None)),
        key_of(Bastions(ControlRegistry(), None)),
        key_of(Bastions(ControlRegistry(), "me"), stop_target_after="1h"),
        key_of(Bastions(ControlRegistry(), "me"), target="name:bastion"),
    }
    assert len(others) == 5
    assert mine not in others
