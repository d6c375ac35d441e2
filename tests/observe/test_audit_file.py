"""A file that may be moved away, refuse, or be something else."""

import os

import pytest

from ssmtunneld.observe.audit_file import AuditFile, foresee


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def file(path):
    with AuditFile(path) as made:
        yield made


def mode_of(path):
    return path.stat().st_mode & 0o777


def test_it_is_made_for_its_owner_alone_whatever_the_umask(path, file):
    before = os.umask(0)
    try:
        assert file.write(b"one\n") == 4
    finally:
        os.umask(before)
    assert path.read_bytes() == b"one\n"
    assert mode_of(path) == 0o600
    assert file.writable()


def test_one_that_is_there_goes_on_and_becomes_private(path, file):
    path.write_bytes(b'{"time": "2026"}\n')
    path.chmod(0o644)
    file.write(b"one\n")
    assert path.read_bytes() == b'{"time": "2026"}\none\n'
    assert mode_of(path) == 0o600


@pytest.mark.parametrize(
    "held", [b"[daemon]\n", b'{"precious": 2}\n', b'{\n  "time": "1"\n}\n', b"\n\nx"]
)
def test_somebodys_file_is_not_touched(held, path, file):
    path.write_bytes(held)
    path.chmod(0o644)
    with pytest.raises(OSError, match="it holds something else"):
        file.write(b"one\n")
    assert path.read_bytes() == held
    assert mode_of(path) == 0o644


@pytest.mark.parametrize("torn", [b'{"', b'{"time": ', b'{"time": "2026-11-30T'])
def test_a_file_whose_first_line_is_torn_goes_on(torn, path, file):
    path.write_bytes(torn)
    file.write(b"one\n")
    assert path.read_bytes() == torn + b"\none\n"


def test_what_was_torn_is_gone_with_what_somebody_has_emptied(path, file):
    """As logrotate's copytruncate does, behind a disk that was full."""
    file.write(b'{"time": "20')
    os.truncate(path, 0)
    line = b'{"time": "2026"}\n'
    assert file.write(b"\n" + line) == len(line) + 1
    assert path.read_bytes() == line


@pytest.mark.parametrize("rotate", [lambda p: p.rename(f"{p}.1"), os.unlink])
def test_a_file_that_has_gone_is_followed_by_a_new_one(path, file, rotate):
    file.write(b"one\n")
    rotate(path)
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"
    assert mode_of(path) == 0o600


def test_a_file_that_somebody_else_made_in_its_place_is_used(path, file):
    file.write(b"one\n")
    path.rename(f"{path}.1")
    path.write_bytes(b"")
    path.chmod(0o640)
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_a_file_that_was_emptied_goes_on_at_its_start(path, file):
    file.write(b"one\n")
    os.truncate(path, 0)
    file.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_half_a_line_of_a_daemon_that_was_killed_is_ended(path, file):
    path.write_bytes(b'{"time": "20')
    file.write(b"one\n")
    assert path.read_bytes() == b'{"time": "20\none\n'


def test_what_was_torn_off_stays_in_the_file_before(path, file):
    file.write(b"on")
    path.rename(f"{path}.1")
    # As LogOutput does: a line behind one that was torn begins with its end.
    assert file.write(b"\ntwo\n") == 5
    assert path.read_bytes() == b"two\n"
    assert file.write(b"\nthree\n") == 7
    assert path.read_bytes() == b"two\n\nthree\n"


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda p: p.mkdir(), "Is a directory"),
        (os.mkfifo, "it is not a regular file"),
        (lambda p: p.symlink_to("elsewhere"), "it is a symbolic link"),
        (lambda p: p.parent.rmdir(), "No such file or directory"),
    ],
)
def test_what_is_no_file_is_refused_and_says_why(path, file, prepare, reason):
    prepare(path)
    with pytest.raises(OSError, match=reason):
        file.write(b"one\n")
    assert file.trouble == reason
    file.look()
    assert file.trouble == reason


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda p: p.mkdir(), "it is not a regular file"),
        (os.mkfifo, "it is not a regular file"),
        (lambda p: p.symlink_to("elsewhere"), "it is a symbolic link"),
        (lambda p: p.write_text("{}\n"), ""),
        (lambda _: None, ""),
    ],
)
def test_trouble_is_foreseen_without_a_file_being_made(path, prepare, reason):
    prepare(path)
    before = path.exists()
    assert foresee(path) == reason
    assert path.exists() is before


def test_a_missing_folder_is_foreseen(tmp_path):
    assert foresee(tmp_path / "no" / "audit") == f"there is no folder {tmp_path / 'no'}"


def test_trouble_passes(path, file):
    path.mkdir()
    file.look()
    assert file.trouble
    path.rmdir()
    file.look()
    assert file.trouble == ""
    path.rename(f"{path}.1")
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        file.write(b"one\n")
    path.rmdir()
    file.write(b"two\n")
    assert file.trouble == ""


def test_a_closed_file_takes_nothing(path, file):
    file.write(b"one\n")
    file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.write(b"two\n")
    assert path.read_bytes() == b"one\n"
