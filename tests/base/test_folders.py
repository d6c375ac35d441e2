"""Folders are made for their owner alone, with all above them."""

import os
import stat

import pytest

from ssmtunneld.base.folders import make_private_folder


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
