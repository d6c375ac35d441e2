"""The file in which a daemon keeps the sizes of messages, whole and damaged."""

import asyncio
import json
import os
import stat
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ssmtunneld.daemon.size_file import FILE_LIMIT, SETTLING, SizeFile, size_file
from ssmtunneld.sessions.message_sizes import AgentKind, MessageSizes
from tests.sessions.rig import Journal

NOW = 1_800_000_000.0
KIND = AgentKind("3.3.987.0", "ssmmessages.eu-west-1.amazonaws.com")


def new_sizes():
    return MessageSizes(lambda: NOW)


def learn(sizes, size=8192):
    sizes.begin(KIND, 32768)
    sizes.accept(KIND, size)


@asynccontextmanager
async def keeping(path, sizes, journal=None):
    """Run a file's keeper; cancel it in the end."""
    log = (journal or Journal()).log
    keeper = SizeFile(path, sizes, log)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(keeper.run(), name="sizes")
        await asyncio.sleep(0)
        yield keeper
        task.cancel()


def test_each_instance_has_a_file_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert size_file("0123456789ab") == tmp_path / "0123456789ab.sizes.json"


async def test_what_was_learnt_is_there_for_the_next_daemon(tmp_path):
    path = tmp_path / "state" / "x.sizes.json"
    sizes = new_sizes()
    async with keeping(path, sizes):
        assert not path.exists()
        learn(sizes)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    later = new_sizes()
    async with keeping(path, later):
        assert later.allowed(KIND, 8192) == 8192


async def test_what_was_learnt_before_there_was_a_file_is_kept_and_stays(tmp_path):
    path = tmp_path / "x.sizes.json"
    before, sizes = new_sizes(), new_sizes()
    async with keeping(path, before):
        learn(before, 4096)
    learn(sizes)
    async with keeping(path, sizes):
        assert sizes.allowed(KIND, 8192) == 8192
    later = new_sizes()
    async with keeping(path, later):
        assert later.allowed(KIND, 8192) == 8192


async def test_a_change_is_written_while_the_daemon_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("ssmtunneld.daemon.size_file.SETTLING", 0.0)
    path, sizes = tmp_path / "x.sizes.json", new_sizes()
    written = asyncio.Event()
    async with keeping(path, sizes) as keeper:
        write = keeper._write
        loop = asyncio.get_running_loop()

        def note(entries):
            write(entries)
            loop.call_soon_threadsafe(written.set)

        keeper._write = note
        learn(sizes)
        await written.wait()
        assert json.loads(path.read_text())[0]["accepted"] == 8192
    assert SETTLING > 0


WEEK = 7 * 86400


@pytest.fixture
def written(tmp_path):
    """Return a function that makes a file which was written at a time before now."""

    def make(name, age):
        path = tmp_path / name
        path.write_text(name)
        os.utime(path, (NOW - age, NOW - age))
        return path

    return make


@asynccontextmanager
async def cleared(path):
    """Run a file's keeper until it has looked at the files of others."""
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        keeper = SizeFile(path, new_sizes(), Journal().log)
        clear, done = keeper._clear, asyncio.Event()
        loop = asyncio.get_running_loop()

        def note(oldest):
            clear(oldest)
            loop.call_soon_threadsafe(done.set)

        keeper._clear = note
        task = tasks.create_task(keeper.run(), name="sizes")
        await done.wait()
        yield
        task.cancel()


async def test_files_of_others_that_count_for_nobody_are_removed(tmp_path, written):
    own = written("own.sizes.json", 2 * WEEK)
    written("other.sizes.json", WEEK + 60)
    written(".other.sizes.json.abc", WEEK + 60)  # a write that was killed
    kept = {
        own,
        written("recent.sizes.json", WEEK - 60),
        written(".recent.sizes.json.abc", 0),
        written("other.access.json", 2 * WEEK),
        written("other.lock", 2 * WEEK),
    }
    folder = tmp_path / "folder.sizes.json"
    folder.mkdir()
    os.utime(folder, (NOW - 2 * WEEK, NOW - 2 * WEEK))
    async with cleared(own):
        assert set(tmp_path.iterdir()) == {*kept, folder}
    async with cleared(tmp_path / "none" / "own.sizes.json"):
        pass


@pytest.mark.parametrize("again", [False, True])
async def test_what_a_living_daemon_writes_meanwhile_stays(
    tmp_path, written, monkeypatch, again
):
    other = written("other.sizes.json", 2 * WEEK)
    rename = Path.rename

    def renamed_late(path, target):
        # Its daemon is faster, and writes once more a moment later perhaps.
        written("other.sizes.json", 0)
        found = rename(path, target)
        if again:
            written("other.sizes.json", 0).write_text("the latest")
        return found

    monkeypatch.setattr(Path, "rename", renamed_late)
    async with cleared(tmp_path / "own.sizes.json"):
        assert list(tmp_path.iterdir()) == [other]
        assert other.read_text() == ("the latest" if again else other.name)


async def test_nothing_is_written_where_nothing_was_learnt(tmp_path):
    path = tmp_path / "x.sizes.json"
    async with keeping(path, new_sizes()):
        pass
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"3",
        b"[null, 3, {}, []]",
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * (2 * FILE_LIMIT) + b"[]",
    ],
)
async def test_a_damaged_file_is_as_good_as_none(tmp_path, content):
    path = tmp_path / "x.sizes.json"
    path.write_bytes(content)
    sizes = new_sizes()
    async with keeping(path, sizes):
        assert sizes.export() == []
        learn(sizes)
    assert json.loads(path.read_text())[0]["accepted"] == 8192


@pytest.mark.timeout(20)
async def test_a_named_pipe_in_the_place_of_the_file_holds_nothing_up(tmp_path):
    os.mkfifo(tmp_path / "x.sizes.json")
    sizes = new_sizes()
    async with keeping(tmp_path / "x.sizes.json", sizes):
        assert sizes.export() == []


async def test_a_file_that_cannot_be_written_is_said_once(tmp_path):
    path, journal, sizes = tmp_path / "taken" / "x", Journal(), new_sizes()
    (tmp_path / "taken").write_text("a file where a folder should be")
    async with keeping(path, sizes, journal) as keeper:
        for _ in range(2):
            keeper._write(sizes.export())
    (line,) = journal.lines("size.not_kept")
    assert line["log_level"] == "info"


async def test_a_folder_that_cannot_be_looked_into_is_left_alone(tmp_path):
    path = tmp_path / ("x" * 300) / "x.sizes.json"
    async with keeping(path, new_sizes()) as keeper:
        keeper._clear(NOW)
