"""The last lines of the log, bounded whatever is logged."""

from datetime import UTC, datetime

import pytest

from ssmtunneld.observe.recent_events import FACTS, LENGTH, TEXT, RecentEvents

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, UTC)


@pytest.fixture
def recent():
    return RecentEvents(
        visible=lambda text: text.replace("\x1b", "?"), now=lambda: NOON
    )


def say(recent, event="session.ready", level="info", **facts):
    line = {"event": event, "level": level, **facts}
    assert recent(None, level, line) is line
    return line


def test_a_line_is_kept_with_its_time_tunnel_and_facts(recent):
    say(recent, tunnel="db", session=3, agent="3.3")
    (found,) = recent.since()
    assert (found.number, found.time) == (1, "2026-01-02T12:00:00.123Z")
    assert (found.level, found.event) == ("info", "session.ready")
    assert (found.tunnel, found.facts) == ("db", {"session": "3", "agent": "3.3"})


def test_the_line_itself_goes_on_unchanged(recent):
    line = say(recent, tunnel="db", session=3)
    assert line == {
        "event": "session.ready",
        "level": "info",
        "tunnel": "db",
        "session": 3,
    }


def test_what_only_a_developer_wants_to_know_is_not_kept(recent):
    say(recent, level="debug")
    assert recent.since() == []


def test_only_the_last_lines_are_kept_and_numbers_go_on(recent):
    for _ in range(LENGTH + 5):
        say(recent)
    numbers = [event.number for event in recent.since()]
    assert numbers == list(range(6, LENGTH + 6))
    assert [e.number for e in recent.since(LENGTH + 3)] == [LENGTH + 4, LENGTH + 5]
    recent.clear()
    assert recent.since() == []
    say(recent)
    assert recent.since()[0].number == LENGTH + 6


def test_a_long_or_strange_line_is_cut_and_made_visible(recent):
    facts = {f"fact{number:02}": "x" for number in range(30)}
    say(recent, **{"a": "\x1b[2K", "b": "y" * 10_000, **facts})
    (found,) = recent.since()
    assert len(found.facts) == FACTS
    assert found.facts["a"] == "?[2K"
    assert len(found.facts["b"]) == TEXT
    assert found.tunnel is None


def test_the_real_clock_is_in_utc():
    recent = RecentEvents(visible=str)
    say(recent)
    found = datetime.fromisoformat(recent.since()[0].time)
    assert found.utcoffset().total_seconds() == 0
