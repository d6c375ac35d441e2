"""A change of a user's own file: shown, made in one step, or refused."""

import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.file_change import Change, ReadersLost, read_own, take_after


def test_a_change_shows_what_differs_and_makes_it(tmp_path):
    path = tmp_path / "new" / "file"
    change = Change(path, None, "a\n", 0o600)
    assert change.needed
    assert change.diff() == f"--- /dev/null\n+++ {path}\n@@ -0,0 +1 @@\n+a\n"
    change.apply()
    assert path.read_text() == "a\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_what_is_as_it_should_be_needs_no_change(tmp_path):
    change = Change(tmp_path / "file", "a", "a", 0o600)
    assert not change.needed
    assert change.diff() == ""


def test_what_cannot_be_written_is_told_and_nothing_is_left(tmp_path):
    path = tmp_path / "file"
    (path / "inside").mkdir(parents=True)
    with pytest.raises(CommandError, match=f"cannot write {path}"):
        Change(path, None, "a\n", 0o600).apply()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_read_with_its_line_ends_and_none_is_no_error(tmp_path):
    path = tmp_path / "file"
    assert read_own(path, "") is None
    path.write_bytes(b"a\r\nb")
    assert read_own(path, "") == "a\r\nb"


def test_what_is_no_text_or_no_file_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\xff")
    with pytest.raises(CommandError, match="is not UTF-8 text") as caught:
        read_own(path, "do it yourself")
    assert caught.value.advice == "do it yourself"
    with pytest.raises(CommandError, match="is not a regular file"):
        read_own(tmp_path, "")


def test_a_file_of_another_user_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(CommandError, match="belongs to another user"):
        read_own(path, "")


class Ownership:
    """What the system lets this user do with owners and groups, and what was done."""

    def __init__(self, monkeypatch, *, is_root=False, groups=()):
        self.done = []
        self._is_root, self._groups = is_root, groups
        monkeypatch.setattr(os, "fchown", self._chown)
        monkeypatch.setattr(os, "fchmod", self._chmod)

    def _chown(self, _, uid, gid):
        if not self._is_root and (uid != -1 or gid not in self._groups):
            raise PermissionError(1, "Operation not permitted")
        self.done.append((uid, gid))

    def _chmod(self, _, mode):
        self.done.append(oct(mode))


def of_a_stranger(monkeypatch, path):
    """Return ``path``, a file that user 12345 and group 54321 seem to have."""
    path.write_text("old")
    real = Path.stat

    def stat_of(self, **options):
        if self != path:
            return real(self, **options)
        mode = stat.S_IFREG | 0o640
        return os.stat_result((mode, 0, 0, 1, 12345, 54321, 0, 0, 0, 0))

    monkeypatch.setattr(Path, "stat", stat_of)
    return path


def test_a_file_keeps_its_owner_and_group_before_it_gets_its_mode(
    tmp_path, monkeypatch
):
    path = of_a_stranger(monkeypatch, tmp_path / "file")
    system = Ownership(monkeypatch, is_root=True)
    Change(path, "old", "a\n", 0o640).apply()
    assert path.read_text() == "a\n"
    assert system.done == [(12345, 54321), "0o640"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_changes_a_file_of_another_user(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 12345, 54321)
    Change(path, "", "a\n", 0o640).apply()
    found = path.stat()
    assert (found.st_uid, found.st_gid) == (12345, 54321)
    assert stat.S_IMODE(found.st_mode) == 0o640


@pytest.fixture
def new():
    """A descriptor of what is to take a file's place."""
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def test_a_file_of_another_user_keeps_its_group_where_that_is_enough(
    tmp_path, monkeypatch, new
):
    system = Ownership(monkeypatch, groups={54321})
    old = of_a_stranger(monkeypatch, tmp_path / "file")
    take_after(old, new, 0o644)
    take_after(old, new, 0o604)
    member = pwd.struct_passwd(("you", "", 12345, 9, "", "", ""))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: member)
    monkeypatch.setattr(os, "getgrouplist", lambda *_: [9, 54321])
    take_after(old, new)
    assert system.done == [
        (-1, 54321),
        "0o644",
        (-1, 54321),
        "0o604",
        (-1, 54321),
        "0o640",
    ]


def test_a_file_that_its_owner_could_not_read_any_more_is_not_replaced(
    tmp_path, monkeypatch
):
    path = of_a_stranger(monkeypatch, tmp_path / "file")
    Ownership(monkeypatch, groups={54321})
    with pytest.raises(CommandError, match="its owner could not read it") as caught:
        Change(path, "old", "new", 0o640).apply()
    assert "sudo" in caught.value.advice
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_group_that_cannot_be_kept_is_refused_where_it_matters(
    tmp_path, monkeypatch, new
):
    system = Ownership(monkeypatch)
    old = of_a_stranger(monkeypatch, tmp_path / "file")
    with pytest.raises(ReadersLost, match="its group could not read it"):
        take_after(old, new)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    take_after(old, new, 0o644)
    take_after(old, new, 0o600)
    assert system.done == ["0o644", "0o600"]


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="Linux has them")
def test_a_file_keeps_its_attributes(tmp_path):
    path = tmp_path / "file"
    path.touch()
    try:
        os.setxattr(path, "user.note", b"mine")
    except OSError:
        pytest.skip("the file system has none")
    Change(path, "", "a\n", 0o600).apply()
    assert os.getxattr(path, "user.note") == b"mine"
