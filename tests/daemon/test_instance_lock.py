"""One name for each configuration, and one daemon at a time that may use it."""

import asyncio
import os
import pwd
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from ssmtunneld.daemon.instance_lock import (
    claim_instance,
    control_sockets,
    holders,
    instance_name,
    state_directory,
    state_trouble,
)
from tests.support.turns import turns


def test_a_name_belongs_to_one_file_however_it_is_spelled(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    (tmp_path / "link.toml").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    names = {instance_name(p) for p in (path, path.relative_to(tmp_path))}
    assert names == {instance_name(tmp_path / "link.toml")}
    (name,) = names
    assert name != instance_name(tmp_path / "other.toml")
    assert (len(name), int(name, 16) >= 0) == (12, True)


def test_a_file_whose_path_is_not_utf_8_has_a_daemon_as_well(tmp_path):
    one, two = (tmp_path / os.fsdecode(name) for name in (b"\xff", b"\xfe"))
    assert instance_name(one) != instance_name(two)


def test_only_one_holds_an_instance_at_a_time(tmp_path):
    path, locks = tmp_path / "config.toml", tmp_path / "a" / "b"
    with claim_instance(path, locks) as first:
        assert first.name == instance_name(path)
        with claim_instance(path, locks) as second:
            assert second.name is None
        with claim_instance(tmp_path / "other.toml", locks) as other:
            assert other.name not in {None, first.name}
    with claim_instance(path, locks) as again:
        assert again.name == instance_name(path)
        (lock,) = locks.iterdir()
        assert lock.stat().st_mode & 0o777 == 0o600
    assert not list(locks.iterdir())
    assert locks.stat().st_mode & 0o777 == 0o700


def test_a_lock_that_was_removed_meanwhile_locks_nothing(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    lock = tmp_path / f"{instance_name(path)}.lock"
    stale = os.open(lock, os.O_RDWR | os.O_CREAT)
    lock.unlink()
    real_open, opened = os.open, []

    def open_stale_first(*args, **kwargs):
        opened.append(args)
        return stale if len(opened) == 1 else real_open(*args, **kwargs)

    monkeypatch.setattr("ssmtunneld.daemon.instance_lock.os.open", open_stale_first)
    with claim_instance(path, tmp_path) as claim:
        assert claim.name == instance_name(path)
        assert lock.exists()
    assert len(opened) == 2


def test_the_lock_is_given_back_when_the_daemon_fails(tmp_path):
    path = tmp_path / "config.toml"
    with pytest.raises(RuntimeError), claim_instance(path, tmp_path):
        raise RuntimeError
    with claim_instance(path, tmp_path) as claim:
        assert claim.name is not None


def test_where_no_lock_can_be_written_there_is_no_name(tmp_path):
    obstacle = tmp_path / "file"
    obstacle.touch()
    with claim_instance(tmp_path / "config.toml", obstacle / "locks") as claim:
        assert claim.name is None


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"STATE_DIRECTORY": "{tmp}/service"}, "service"),
        ({"XDG_STATE_HOME": "{tmp}/user"}, "user/ssmtunneld"),
    ],
)
def test_locks_are_where_the_service_manager_or_the_user_keeps_state(
    tmp_path, monkeypatch, environ, folder
):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    for key, value in environ.items():
        monkeypatch.setenv(key, value.format(tmp=tmp_path))
    with claim_instance(tmp_path / "config.toml") as claim:
        assert (tmp_path / folder / f"{claim.name}.lock").exists()


def test_a_lock_that_somebody_removes_is_taken_again(tmp_path):
    path, folder = tmp_path / "config.toml", tmp_path / "state"
    with claim_instance(path, folder) as claim:
        lock = folder / f"{claim.name}.lock"
        assert claim.renew()
        shutil.rmtree(folder)
        assert claim.renew()
        assert lock.read_text() == f"{os.getpid()}\n"
        with claim_instance(path, folder) as second:
            assert second.name is None
            assert not second.renew()
        lock.unlink()
        with claim_instance(path, folder) as third:
            assert third.name is not None
            assert not claim.renew()
        assert claim.renew()
    assert not lock.exists()


def test_no_child_process_inherits_the_lock(tmp_path):
    path = tmp_path / "config.toml"
    before = descriptors()
    with claim_instance(path, tmp_path):
        (lock,) = descriptors() - before
        assert not os.get_inheritable(lock)
    assert descriptors() == before


def descriptors():
    """Return the open files of this process."""
    return {fd for fd in range(256) if _is_open(fd)}


def _is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_machines_of_the_same_name_are_told_apart(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    read, names = Path.read_text, set()
    for text in ("one\n", "two\n", None):

        def told(self, text=text):
            if self != Path("/etc/machine-id"):
                return read(self)
            if text is None:
                raise FileNotFoundError
            return text

        monkeypatch.setattr(Path, "read_text", told)
        names.add(instance_name(path))
    assert len(names) == 3


def test_whoever_does_not_get_it_learns_who_has_it(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert holders(path) == []
    with claim_instance(path):
        with claim_instance(path) as second:
            assert second.holder == os.getpid()
            assert second.reason == (
                f"another daemon (pid {os.getpid()}) runs this file"
            )
        assert holders(path) == holders(None) == [os.getpid()]
        assert holders(tmp_path / "other.toml") == []
    assert holders(path) == []


def test_a_lock_without_a_process_in_it_is_held_all_the_same(tmp_path):
    path = tmp_path / "config.toml"
    with claim_instance(path, tmp_path) as first:
        (tmp_path / f"{first.name}.lock").write_text("")
        with claim_instance(path, tmp_path) as second:
            assert second.holder is None
            assert second.reason == "another daemon runs this file"


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_lock_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    os.mkfifo(tmp_path / f"{instance_name(path)}.lock")
    assert holders(path) == holders(None) == []


async def test_the_second_one_takes_its_place_once_the_first_has_ended(tmp_path):
    path = tmp_path / "config.toml"
    with ExitStack() as first:
        first.enter_context(claim_instance(path, tmp_path))
        with claim_instance(path, tmp_path) as second:
            assert second.name is None
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(second.wait(interval=0.001))
                await turns(5)
                assert not waiting.done()
                first.close()
            assert second.name == waiting.result() == instance_name(path)
            assert second.reason == ""
            with claim_instance(path, tmp_path) as third:
                assert third.holder == os.getpid()


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "not" / "there"))
    assert state_trouble() == ""
    obstacle = tmp_path / "file"
    obstacle.touch()
    monkeypatch.setenv("STATE_DIRECTORY", str(obstacle / "locks"))
    assert state_trouble() == f"{obstacle} is not writable"
    with claim_instance(tmp_path / "config.toml") as claim:
        assert claim.reason.startswith("its lock cannot be written: ")


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000])
def test_a_folder_that_cannot_be_looked_at_is_no_defect(tmp_path, monkeypatch, name):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / name))
    assert state_trouble() == ""  # as far as it can be seen
    assert control_sockets(None) == holders(None) == []
    with claim_instance(tmp_path / "config.toml") as claim:
        assert claim.reason.startswith("its lock cannot be written: ")


def test_the_first_of_several_folders_of_a_unit_is_taken(monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert state_directory() == Path("/var/lib/one")


def test_a_user_whom_nobody_knows_has_a_folder_all_the_same(monkeypatch):
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert state_directory() == Path("/.local/state/ssmtunneld")


def test_a_folder_that_depends_on_where_a_program_was_started_is_none(monkeypatch):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert state_directory().is_absolute()
