"""The live view of connections; the table itself is in the command's tests."""

import signal

import pytest

from ssmtunneld.cli.terminal.connection_table import (
    ConnectionView,
    watch_connections,
)
from tests.cli.household import connection_document
from tests.cli.terminal.test_live import Screen, drawn


def found(*connections, more=0):
    return {"version": 1, "connections": list(connections), "more": more}


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_it_is_never_wider_than_the_terminal(width):
    view = ConnectionView()
    view.observe(found(connection_document(), connection_document("a-2")), 1.0)
    lines = drawn(view, 1.0, width=width)
    assert max(map(len, lines)) <= width
    assert lines[0] == "2 open connections. Ctrl-C ends"
    assert [line.split()[0] for line in lines[1:]] == ["ID", "7c1e0a-17", "a-2"]
    assert ("FROM" in lines[1]) == (width == 200)


def test_what_is_too_high_says_so():
    view = ConnectionView()
    view.observe(found(*[connection_document(f"a-{n}") for n in range(50)]), 1.0)
    lines = drawn(view, 1.0, height=10)
    assert len(lines) == 10
    assert lines[-1] == "and 43 more: name a tunnel, or use --json"


def test_before_the_first_answer_it_is_empty():
    assert drawn(ConnectionView(), 0.0) == [""]


def test_a_daemon_that_is_lost_is_waited_for():
    view = ConnectionView()
    view.observe(found(connection_document()), 1.0)
    view.miss("no daemon runs", 2.0)
    view.miss("no daemon runs", 7.0)
    assert drawn(view, 7.0) == ["no daemon runs (for 5s); waiting for it. Ctrl-C ends"]
    view.observe(found(), 8.0)
    assert drawn(view, 8.0)[0] == "0 open connections. Ctrl-C ends"


def test_it_is_drawn_on_a_terminal_until_a_signal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    with Screen(b"psql[812]", signal.SIGTERM) as screen:
        monkeypatch.setattr("sys.stdout", screen.file)
        watch_connections(lambda: found(connection_document()))
        monkeypatch.undo()
    assert screen.shown.rstrip().endswith(b"\x1b[?1049l")
