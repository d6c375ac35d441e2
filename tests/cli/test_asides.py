"""Words on standard error that change nothing."""

import errno
import io
import os

import pytest

from ssmtunneld.cli.asides import Aside, tell
from ssmtunneld.observe import logs


class Gone(io.StringIO):
    """A standard error that takes nothing any more."""

    def __init__(self, number):
        super().__init__()
        self._number = number

    def write(self, _):
        raise OSError(self._number, os.strerror(self._number))


def test_a_line_goes_to_standard_error(capsys):
    tell("words")
    Aside().write("more")
    Aside().flush()
    assert capsys.readouterr() == ("", "words\nmore")


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_where_nobody_can_take_it_nothing_happens(number, monkeypatch):
    monkeypatch.setattr("sys.stderr", Gone(number))
    tell("words")
    Aside().write("more")


def test_where_there_is_a_log_it_comes_behind_its_lines(monkeypatch, capsys):
    taken = []
    monkeypatch.setattr(logs, "say", lambda line: taken.append(line) or True)
    tell("words")
    assert (taken, capsys.readouterr().err) == (["words"], "")
