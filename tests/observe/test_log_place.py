"""The destination of the log, known only from the stream itself."""

import os
import sys

import pytest

from ssmtunneld.observe.log_place import LogPlace, log_place

SYSTEM = "0::/system.slice/ssmtunneld.service\n"
USER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/ssmtunneld.service\n"


@pytest.fixture
def stream():
    """A stream that is neither a file nor a terminal, and its name for the journal."""
    reading, writing = os.pipe()
    found = os.fstat(writing)
    yield writing, f"{found.st_dev}:{found.st_ino}"
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (SYSTEM, LogPlace(unit="ssmtunneld.service")),
        (USER, LogPlace(unit="ssmtunneld.service", user=True)),
        (f"1:name=systemd:/x\n{SYSTEM}", LogPlace(unit="ssmtunneld.service")),
        ("0::/user.slice/user-0.slice/session-1.scope\n", LogPlace()),
        ("", LogPlace()),
        (None, LogPlace()),
    ],
)
def test_the_journals_stream_has_a_unit(stream, tmp_path, text, place):
    descriptor, name = stream
    cgroup = tmp_path / "cgroup"
    if text is not None:
        cgroup.write_text(text)
    assert log_place({"JOURNAL_STREAM": name}, descriptor, cgroup) == place


def test_a_variable_that_a_shell_has_inherited_counts_for_nothing(stream, tmp_path):
    descriptor, name = stream
    cgroup = tmp_path / "cgroup"
    cgroup.write_text(SYSTEM)
    file = (tmp_path / "log").open("w")
    with file:
        place = log_place({"JOURNAL_STREAM": name}, file.fileno(), cgroup)
    assert place.unit == ""
    assert log_place({}, descriptor, cgroup) == LogPlace()


@pytest.mark.skipif(
    sys.platform not in {"linux", "darwin"}, reason="no way to ask for a file's path"
)
def test_a_file_has_a_path_while_it_is_there(tmp_path):
    path = tmp_path / "the log"
    with path.open("w") as file:
        assert log_place({}, file.fileno()) == LogPlace(file=str(path))
        path.unlink()
        assert log_place({}, file.fileno()).file == ""


def test_a_stream_that_is_closed_goes_nowhere(tmp_path):
    file = (tmp_path / "log").open("w")
    descriptor = file.fileno()
    file.close()
    assert log_place({}, descriptor) == LogPlace()
