"""The user's ssh files: one line at the top, and nothing else of theirs touched."""

import os
import stat

import pytest

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.ssh_files import plan_changes

TEXT = "Host i-*\n"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / ".ssh"


def write(folder):
    for change in plan_changes(folder, TEXT):
        change.apply()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_both_files_are_made_for_the_user_alone(folder):
    write(folder)
    assert (folder / "ssmtunneld.conf").read_text() == TEXT
    assert (folder / "config").read_text() == "Include ssmtunneld.conf\n"
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_doing_it_again_changes_nothing(folder):
    write(folder)
    changes = plan_changes(folder, TEXT)
    assert [(change.needed, change.diff()) for change in changes] == [(False, "")] * 2


def test_the_line_comes_first_and_the_rest_stays_as_it_is(folder):
    folder.mkdir()
    config = folder / "config"
    config.write_bytes(b"Host *\r\n    User me\r\n# \xc3\xa9 without an end")
    config.chmod(0o640)
    write(folder)
    assert config.read_bytes() == (
        b"Include ssmtunneld.conf\r\n\r\nHost *\r\n    User me\r\n"
        b"# \xc3\xa9 without an end"
    )
    assert mode(config) == 0o640


@pytest.mark.parametrize(
    "line",
    [
        "Include ssmtunneld.conf",
        "include other.conf  ssmtunneld.conf",
        'Include "ssmtunneld.conf"',
        "Include=~/.ssh/ssmtunneld.conf",
        "  Include {folder}/ssmtunneld.conf",
    ],
)
def test_a_line_that_counts_for_all_hosts_is_enough(folder, line):
    folder.mkdir()
    text = f"# mine\nUser me\n{line}\nHost *\n".format(folder=folder)
    (folder / "config").write_text(text)
    write(folder)
    assert (folder / "config").read_text() == text


@pytest.mark.parametrize("before", ["Host web\n", "MATCH all\n", "# Include x\n"])
def test_a_line_for_some_hosts_is_not(folder, before):
    folder.mkdir()
    text = f"{before}{'' if before[0] == '#' else 'Include ssmtunneld.conf'}\n"
    (folder / "config").write_text(text)
    write(folder)
    written = (folder / "config").read_text()
    assert written == f"Include ssmtunneld.conf\n\n{text}"


def test_what_changes_is_shown(folder):
    first, second = plan_changes(folder, "a\nb")
    assert first.diff().splitlines()[0] == "--- /dev/null"
    assert "+a" in first.diff()
    assert "+Include ssmtunneld.conf\n" in second.diff()


def test_a_link_to_the_users_file_stays_a_link(folder, tmp_path):
    folder.mkdir()
    elsewhere = tmp_path / "dotfiles"
    elsewhere.write_text("Host *\n")
    (folder / "config").symlink_to(elsewhere)
    write(folder)
    assert (folder / "config").is_symlink()
    assert elsewhere.read_text() == "Include ssmtunneld.conf\n\nHost *\n"


def test_a_link_that_leads_nowhere_is_refused(folder, tmp_path):
    folder.mkdir()
    (folder / "config").symlink_to(tmp_path / "nothing")
    with pytest.raises(CommandError, match="leads nowhere"):
        plan_changes(folder, TEXT)


def test_a_link_in_the_place_of_our_file_is_refused(folder, tmp_path):
    folder.mkdir()
    (folder / "ssmtunneld.conf").symlink_to(tmp_path / "victim")
    with pytest.raises(CommandError, match="is a link"):
        plan_changes(folder, TEXT)


def test_what_is_no_file_or_no_text_is_refused(folder):
    (folder / "config").mkdir(parents=True)
    with pytest.raises(CommandError, match="is not a regular file"):
        plan_changes(folder, TEXT)
    (folder / "config").rmdir()
    (folder / "config").write_bytes(b"\xff")
    with pytest.raises(CommandError, match="not UTF-8") as caught:
        plan_changes(folder, TEXT)
    assert "Include ssmtunneld.conf" in caught.value.advice


def test_a_file_of_another_user_is_refused(folder, monkeypatch):
    folder.mkdir()
    (folder / "config").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(CommandError, match="belongs to another user"):
        plan_changes(folder, TEXT)


def test_what_cannot_be_read_or_written_is_named(folder, tmp_path):
    tmp_path.joinpath("file").touch()
    with pytest.raises(CommandError, match="cannot read"):
        plan_changes(tmp_path / "file", TEXT)
    change = plan_changes(folder, TEXT)[0]
    folder.write_text("in the way")
    with pytest.raises(CommandError, match="cannot write"):
        change.apply()


def test_a_failure_leaves_the_file_as_it_was(folder):
    folder.mkdir()
    change = plan_changes(folder, TEXT)[0]
    (folder / "ssmtunneld.conf").mkdir()
    (folder / "ssmtunneld.conf" / "x").touch()
    with pytest.raises(CommandError, match="cannot write"):
        change.apply()
    assert [path.name for path in folder.iterdir()] == ["ssmtunneld.conf"]
