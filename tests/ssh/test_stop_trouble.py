"""What the process that stops a target leaves for the person who comes next."""

import os

import pytest

from ssmtunneld.ssh.stop_trouble import TROUBLE_LIMIT, StopTrouble

TARGET = "name:bastion"
NODE = "i-0123456789abcdef0"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "troubles"


def test_it_is_known_until_all_is_well(folder):
    StopTrouble(folder, TARGET).note(NODE, "it is denied.", "allow it")
    text = f"bastion {NODE} could not be stopped: it is denied; allow it"
    assert StopTrouble(folder, TARGET).text == text
    assert StopTrouble(folder, NODE).text == ""
    StopTrouble(folder, TARGET).note(NODE, "the login has ended", "")
    text = f"bastion {NODE} could not be stopped: the login has ended"
    assert StopTrouble(folder, TARGET).text == text
    assert len(list(folder.iterdir())) == 1
    StopTrouble(folder, TARGET).clear()
    StopTrouble(folder, TARGET).clear()
    assert StopTrouble(folder, TARGET).text == ""
    assert not list(folder.iterdir())


def test_only_its_owner_can_read_it(folder):
    StopTrouble(folder, TARGET).note(NODE, "no", "")
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_it_is_one_line_of_bounded_length(folder):
    StopTrouble(folder, TARGET).note(NODE, "no\x1b[2J\nway " * 1000, "help")
    text = StopTrouble(folder, TARGET).text
    assert len(text) <= TROUBLE_LIMIT
    assert text.isprintable()
    (file,) = folder.iterdir()
    file.write_bytes(b"\xff\x1b[2J\n" * 10_000)
    text = StopTrouble(folder, TARGET).text
    assert len(text) <= TROUBLE_LIMIT
    assert text.isprintable()


def test_what_cannot_be_read_or_written_is_none(folder, tmp_path):
    (tmp_path / "file").touch()
    trouble = StopTrouble(tmp_path / "file", TARGET)
    trouble.note(NODE, "no", "")
    assert trouble.text == ""
    trouble.clear()
    StopTrouble(folder, TARGET).note(NODE, "no", "")
    (file,) = folder.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert StopTrouble(folder, TARGET).text == ""
