"""A file that changes, as far as somebody sees who looks now and then."""

import asyncio
import os

import pytest

from ssmtunneld.config.includes import Includes
from ssmtunneld.daemon import config_watch as watch_module
from ssmtunneld.daemon.config_watch import ConfigWatch


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("first")
    return path


def quiet(path):
    return ConfigWatch(path, lambda: None)


def test_a_change_counts_once_it_has_come_to_rest(path):
    watch = quiet(path)
    assert not watch.poll()
    path.write_text("half of it")
    assert not watch.poll()
    path.write_text("all of it, at last")
    assert not watch.poll()
    assert watch.poll()
    assert not watch.poll()


def test_a_file_that_is_replaced_has_changed_even_if_it_looks_the_same(path, tmp_path):
    watch = quiet(path)
    status = path.stat()
    other = tmp_path / "other"
    other.write_text("equal")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert not watch.poll()
    assert watch.poll()


def test_a_link_that_is_turned_over_is_a_change(path, tmp_path):
    link, other = tmp_path / "link", tmp_path / "other"
    link.symlink_to(path)
    watch = quiet(link)
    other.write_text("another")
    link.unlink()
    link.symlink_to(other)
    assert [watch.poll(), watch.poll()] == [False, True]


def test_a_file_that_is_gone_is_no_change(path):
    watch = quiet(path)
    path.unlink()
    assert [watch.poll() for _ in range(3)] == [False] * 3
    path.write_text("back")
    assert [watch.poll(), watch.poll()] == [False, True]


def test_what_somebody_else_is_about_to_read_is_known(path):
    watch = quiet(path)
    path.write_text("changed, and read for another reason")
    watch.note()
    assert [watch.poll() for _ in range(3)] == [False] * 3


async def test_it_looks_while_it_is_enabled(path, monkeypatch):
    monkeypatch.setattr(watch_module, "INTERVAL", 0.001)
    changed = asyncio.Event()
    watch = ConfigWatch(path, changed.set)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(watch.run())
        path.write_text("changed while nobody looked")
        watch.enable(enabled=True)
        await asyncio.wait_for(changed.wait(), 30)
        changed.clear()
        watch.enable(enabled=False)
        watch.enable(enabled=True)
        path.write_text("changed again")
        await asyncio.wait_for(changed.wait(), 30)
        running.cancel()


async def test_it_does_not_look_once_it_is_disabled(path, monkeypatch):
    looks = []
    monkeypatch.setattr(watch_module, "INTERVAL", 0.0)
    watch = quiet(path)
    monkeypatch.setattr(watch, "poll", lambda: looks.append(1))
    watch.enable(enabled=True)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(watch.run())
        await asyncio.sleep(0)
        watch.enable(enabled=False)
        for _ in range(10):
            await asyncio.sleep(0)
        assert looks == []
        running.cancel()


# Included files.


@pytest.fixture
def team(path):
    """A watch of a file that includes conf.d/*.toml, of which there is one."""
    folder = path.parent / "conf.d"
    folder.mkdir()
    (folder / "a.toml").write_text("first")
    includes = Includes(path, ("conf.d/*.toml",))
    return folder, ConfigWatch(path, lambda: None, includes)


def come(folder):
    (folder / "b.toml").write_text("new")


def change(folder):
    (folder / "a.toml").write_text("changed")


def go(folder):
    (folder / "a.toml").unlink()


@pytest.mark.parametrize("happen", [come, change, go])
def test_an_included_file_that_comes_changes_or_goes_is_a_change(team, happen):
    folder, watch = team
    assert [watch.poll() for _ in range(2)] == [False, False]
    happen(folder)
    assert [watch.poll() for _ in range(3)] == [False, True, False]


def test_a_file_beside_them_is_no_change(team):
    folder, watch = team
    (folder / ".a.toml.swp").touch()
    (folder / "note.txt").touch()
    assert [watch.poll() for _ in range(3)] == [False] * 3


def test_a_file_that_is_about_to_be_included_is_known(team, path):
    folder, watch = team
    (folder / "c.txt").touch()
    watch.note(Includes(path, ("conf.d/*.txt",)))
    assert [watch.poll() for _ in range(2)] == [False, False]
    change(folder)  # nobody includes it any more
    assert [watch.poll() for _ in range(2)] == [False, False]
    (folder / "c.txt").write_text("changed")
    assert [watch.poll() for _ in range(2)] == [False, True]
    # Without patterns those of before stay.
    come(folder)
    (folder / "d.txt").touch()
    watch.note()
    (folder / "d.txt").unlink()
    assert [watch.poll() for _ in range(2)] == [False, True]


def test_a_file_that_is_named_and_comes_back_is_a_change(path):
    watch = ConfigWatch(path, lambda: None, Includes(path, ("team.toml",)))
    (path.parent / "team.toml").touch()
    assert [watch.poll() for _ in range(2)] == [False, True]
