"""A change of a user's own file: shown, made in one step, or refused."""

import os
import stat

import pytest

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.file_change import Change, read_own


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
