"""Folders and files are made for their owner alone, with all folders above them."""

import os
import stat
from pathlib import Path

import pytest

from ssmtunneld.base.folders import (
    make_private_folder,
    read_now,
    read_private_file,
    replace_private_file,
)


@pytest.fixture
def _open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_open_umask")
def test_a_folder_and_those_above_it_are_private(tmp_path):
    path = tmp_path / "a" / "b" / "c"
    make_private_folder(path)
    make_private_folder(path)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, *path.parents[:2])]
    assert modes == [0o700, 0o700, 0o700]


def test_what_is_there_stays_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    make_private_folder(tmp_path / "a")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError):
        make_private_folder(tmp_path / "a")
    with pytest.raises(OSError, match="a"):
        make_private_folder(tmp_path / "a" / "b")


@pytest.mark.usefixtures("_open_umask")
def test_a_file_is_private_and_replaced_in_one_step(tmp_path):
    path = tmp_path / "a" / "file"
    replace_private_file(path, b"first")
    with path.open("rb") as before:
        replace_private_file(path, b"second")
        assert before.read() == b"first"
    assert path.read_bytes() == b"second"
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent)]
    assert modes == [0o600, 0o700]
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_file_that_cannot_be_replaced_stays_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "folder"
    (path / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        replace_private_file(path, b"content")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_no_more_of_a_file_is_read_than_wanted(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_private_file(tmp_path / "a", 9) == b"12345"
    assert read_private_file(tmp_path / "a", 3) == b"123"


def descriptors():
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.timeout(20)
def test_what_is_no_file_is_an_error_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before = descriptors()
    for name in ("pipe", "", "absent"):
        with pytest.raises(OSError, match=r"regular|No such"):
            read_private_file(tmp_path / name, 9)
    assert descriptors() == before


def test_a_file_that_calls_itself_regular_is_not_waited_for_either():
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "wb", 0) as end, os.fdopen(reading, "rb") as file:
        with pytest.raises(OSError, match="unavailable"):
            read_now(file, 9)
        end.write(b"12345")
        end.close()
        assert read_now(file) == b"12345"
