"""One reload after the other, whoever asks for it."""

import asyncio
import threading

import pytest

from ssmtunneld.config.reload import Changes
from ssmtunneld.daemon import config_watch, reload
from ssmtunneld.daemon.reload import Reloader
from ssmtunneld.daemon.service_notifier import ServiceNotifier
from ssmtunneld.errors import ConfigError, SsmtunneldError
from ssmtunneld.serve.systemd import ServiceManager
from tests.integration import world
from tests.integration.world import configuration, tunnel

GOOD = configuration("http://127.0.0.1:9", tunnel("x", port=1))
PATIENCE = 30.0


class Scene:
    """A reloader, and what it has taken over."""

    def __init__(self, path, **parts):
        self.path = path
        self.taken = []
        self.at_work = 0
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.stop = asyncio.Event()
        notifier = ServiceNotifier(
            ServiceManager.none(), describe=lambda: "", alive=lambda: True
        )
        self.reloader = Reloader(
            path, self.apply, notifier=notifier, stop=self.stop, **parts
        )

    async def apply(self, config):
        assert not self.at_work, "two at a time"
        self.at_work += 1
        self.begun.set()
        self.taken.append(config)
        await self.go_on.wait()
        self.at_work -= 1
        return Changes(unchanged=len(self.taken))


@pytest.fixture
async def events():
    async with world.logging() as caught:
        yield caught


@pytest.fixture
def scene(events, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    return Scene(path)


async def test_two_that_ask_get_an_answer_each_and_one_after_the_other(scene):
    scene.go_on.clear()
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(scene.reloader.reload()) for _ in range(2)]
        await asyncio.wait_for(scene.begun.wait(), PATIENCE)
        scene.go_on.set()
    assert [task.result().unchanged for task in asking] == [1, 2]


async def test_a_file_that_cannot_be_used_says_why_until_it_can(scene, events):
    scene.path.write_text(GOOD + "nonsense\n" + "more = [")
    with pytest.raises(ConfigError):
        await scene.reloader.reload()
    assert "is not TOML" in scene.reloader.refusal
    assert scene.taken == []
    scene.path.write_text(GOOD)
    await scene.reloader.reload()
    assert scene.reloader.refusal == ""
    (applied,) = events.find("reload.applied")
    assert applied["unchanged"] == 1


async def test_a_file_that_is_nested_too_deeply_is_refused_like_any_other(
    scene, events
):
    scene.path.write_text("a." * 5_000 + "a = 1")
    with pytest.raises(ConfigError):
        await scene.reloader.reload()
    assert scene.reloader.refusal
    assert scene.taken == []
    assert len(events.find("reload.refused")) == 1


async def test_a_defect_of_reading_is_a_refusal(scene, events, monkeypatch):
    """Whatever it is: the daemon keeps the previous one."""

    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(reload, "load_config", broken)
    with pytest.raises(
        ConfigError, match=r"defect: ZeroDivisionError at daemon/reload\.py"
    ):
        await scene.reloader.reload()
    assert len(events.find("reload.refused")) == 1
    (defect,) = events.find("defect")
    assert defect["compartment"] == "reload"


async def test_a_defect_of_taking_over_is_an_answer(scene, events):
    async def broken(_):
        raise ZeroDivisionError

    scene.reloader._apply = broken
    with pytest.raises(SsmtunneldError, match="defect: ZeroDivisionError"):
        await scene.reloader.reload()
    assert len(events.find("defect")) == 1


async def test_a_file_that_never_ends_is_refused_after_a_while(
    scene, events, monkeypatch
):
    released = threading.Event()
    monkeypatch.setattr(reload, "READING_TIME", 0.01)
    monkeypatch.setattr(reload, "load_config", lambda *_, **__: released.wait(PATIENCE))
    try:
        with pytest.raises(ConfigError, match="could not be read within"):
            await scene.reloader.reload()
    finally:
        released.set()


async def test_a_file_that_hangs_holds_one_thread_however_often_it_is_tried(
    scene, monkeypatch
):
    released, reading = threading.Event(), []
    original = reload.load_config

    def hang(*arguments, **options):
        reading.append(threading.current_thread())
        assert released.wait(PATIENCE)
        return original(*arguments, **options)

    monkeypatch.setattr(reload, "READING_TIME", 0.01)
    monkeypatch.setattr(reload, "load_config", hang)
    try:
        for _ in range(5):
            with pytest.raises(ConfigError, match="could not be read within"):
                await scene.reloader.reload()
        assert len(reading) == 1
    finally:
        released.set()
    monkeypatch.setattr(reload, "READING_TIME", PATIENCE)
    assert (await scene.reloader.reload()).unchanged == 1
    assert len(reading) == 2, "what was read long ago is not used"


async def test_requests_are_answered_in_the_log(scene, events):
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(scene.reloader.run())
        scene.reloader.request()
        await events.wait_for("reload.applied")
        scene.path.unlink()
        scene.reloader.request()
        await events.wait_for("reload.refused")
        scene.path.write_text(GOOD)
        scene.reloader.request()
        await events.wait_for("reload.applied", count=2)
        running.cancel()


async def test_a_watched_file_is_a_request(scene, events, monkeypatch):
    monkeypatch.setattr(config_watch, "INTERVAL", 0.01)
    scene.reloader.watch_file(enabled=True)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(scene.reloader.run())
        scene.path.write_text(GOOD + "# changed")
        await events.wait_for("reload.applied")
        running.cancel()


async def test_the_end_of_the_daemon_ends_a_reload(scene, events):
    scene.go_on.clear()
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(_expect_ending(scene.reloader))
        await asyncio.wait_for(scene.begun.wait(), PATIENCE)
        scene.stop.set()
    assert asking.result()
    assert events.find("reload.applied") == []


async def _expect_ending(reloader):
    with pytest.raises(SsmtunneldError, match="the daemon is ending") as caught:
        await reloader.reload()
    return caught.value.advice


@pytest.fixture
def team(events, tmp_path):
    """A reloader of a file that includes conf.d/*.toml, and a watch of all of it."""
    (tmp_path / "conf.d").mkdir()
    path = tmp_path / "config.toml"
    path.write_text('include = "conf.d/*.toml"\n' + GOOD)
    return Scene(path, include=["conf.d/*.toml"])


def names(scene):
    return [tunnel.name for tunnel in scene.taken[-1].tunnels]


async def test_files_that_come_change_and_go_are_read_again(team, events, monkeypatch):
    monkeypatch.setattr(config_watch, "INTERVAL", 0.01)
    team.reloader.watch_file(enabled=True)
    new = team.path.parent / "conf.d" / "new.toml"
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(team.reloader.run())
        new.write_text(tunnel("y", port=1))
        await events.wait_for("reload.applied")
        assert names(team) == ["x", "y"]
        new.write_text(tunnel("z", port=1))
        await events.wait_for("reload.applied", count=2)
        assert names(team) == ["x", "z"]
        new.unlink()
        await events.wait_for("reload.applied", count=3)
        assert names(team) == ["x"]
        running.cancel()


async def test_a_file_that_a_refused_file_includes_is_watched(
    scene, events, monkeypatch
):
    """The main file is right, so that correcting the other one is enough."""
    monkeypatch.setattr(config_watch, "INTERVAL", 0.01)
    scene.reloader.watch_file(enabled=True)
    other = scene.path.parent / "other.toml"
    other.write_text("nonsense")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(scene.reloader.run())
        scene.path.write_text('include = "other.toml"\n' + GOOD)
        refused = await events.wait_for("reload.refused")
        assert f"{other}:1:" in refused["reason"]
        other.write_text(tunnel("y", port=1))
        await events.wait_for("reload.applied")
        assert names(scene) == ["x", "y"]
        running.cancel()


async def test_only_the_tunnels_of_the_groups_count(events, tmp_path):
    path = tmp_path / "config.toml"
    scene = Scene(path, groups=["a"])
    path.write_text(GOOD + tunnel("y", port=1, groups=["a", "b"]))
    await scene.reloader.reload()
    assert names(scene) == ["y"]
    path.write_text(GOOD + tunnel("y", port=1, groups=["b"]))
    with pytest.raises(ConfigError) as caught:
        await scene.reloader.reload()
    assert caught.value.problems == [
        f"{path}: no tunnel is in group a; the groups are: b"
    ]
    assert scene.reloader.refusal == caught.value.problems[0]
