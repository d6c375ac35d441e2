"""Lines for a person who looks on."""

import io
import re

import pytest

from ssmtunneld.base.log import get_log
from ssmtunneld.observe import logs
from ssmtunneld.observe.log_sentences import HINTS

TIME = r"\d\d:\d\d:\d\d "


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stream():
    stream = io.StringIO()
    logs.configure("debug", "short", stream=stream, environ={})
    return stream


def lines(stream):
    """Return the lines without their times."""
    found = stream.getvalue().splitlines()
    assert all(re.match(TIME, line) for line in found)
    return [re.sub(TIME, "", line, count=1) for line in found]


@pytest.mark.parametrize(
    ("event", "facts", "line"),
    [
        ("listener.bound", {"address": "127.0.0.1:1"}, "db: listens on 127.0.0.1:1"),
        (
            "connection.refused",
            {"destination": "x:1", "reason": "no answer", "advice": "look"},
            "db: a connection to x:1 was refused: no answer; look",
        ),
        ("session.ready", {"session": 2, "agent": "3"}, "db: session 2 is ready"),
        ("target.resolved", {"targets": ["i-1", "i-2"]}, "db: the target is i-1, i-2"),
        ("target.resolved", {"targets": []}, "db: the target is none"),
        ("tunnel.paused", {}, "db: tunnel paused"),
        ("session.ended", {"reason": "it is over."}, "db: session ended: it is over"),
        (
            "session.ended",
            {"reason": "it is over.", "ready": True, "retry_in": 0.4},
            "db: session ended: it is over",
        ),
        (
            "session.ended",
            {"reason": "denied.", "ready": False, "retry_in": 13.6, "advice": "ask"},
            "db: could not start a session: denied (next attempt in 14 s); ask",
        ),
        ("a.b", {"reason": "no", "advice": "wait", "x": 1}, "db: a b: no; wait"),
        ("a.b_c", {"x": 1, "session_id": "dev-1"}, "db: a b c x=1"),
        ("listener.bound", {}, "db: listener bound"),
        ("daemon.draining", {"connections": 0, "budget": 30.0}, "db: ending"),
        (
            "daemon.draining",
            {"connections": 2, "budget": 30.0},
            "db: ending: 2 connections have 30.0 s to finish",
        ),
    ],
)
def test_an_event_is_a_short_sentence(stream, event, facts, line):
    get_log(tunnel="db").info(event, **facts)
    assert lines(stream) == [line]


def test_what_is_no_tunnels_has_no_name_before_it(stream):
    get_log().info("daemon.ready")
    assert lines(stream) == ["ready"]


@pytest.mark.parametrize("event", ["control.bound", "session.started"])
def test_what_is_no_news_is_left_out_unless_it_is_bad(stream, event):
    get_log().info(event, path="/x")
    assert lines(stream) == []
    get_log().warning(event, reason="no")
    assert len(lines(stream)) == 1


def test_a_hint_is_given_once_for_each_tunnel(stream):
    for name in ("a", "b", "a"):
        get_log(tunnel=name).info("x.y", reason="no", advice="log in")
    assert lines(stream) == ["a: x y: no; log in", "b: x y: no; log in", "a: x y: no"]


def test_not_all_hints_are_remembered_for_ever(stream):
    for number in range(HINTS + 1):
        get_log().info("x.y", advice=f"do {number}")
    get_log().info("x.y", advice="do 0")
    assert lines(stream)[-1] == "x y; do 0"


def test_no_value_can_end_a_line_or_move_the_cursor(stream):
    get_log(tunnel="a\nb").info("x.y", reason="one\r\ntwo\x1b[2J", odd="{time}")
    (line,) = lines(stream)
    assert line.isprintable()


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [(Screen(), {}, True), (Screen(), {"NO_COLOR": "1"}, False)],
)
def test_what_is_wrong_has_a_colour_where_there_are_colours(stream, environ, coloured):
    logs.configure("debug", "short", stream=stream, environ=environ)
    get_log().warning("x.y")
    assert ("\x1b[33mx y\x1b[0m" in stream.getvalue()) is coloured
    assert stream.getvalue().isprintable() is False, "it ends with a line end"
