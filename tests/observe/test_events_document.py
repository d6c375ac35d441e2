"""docs/events.md lists every event that the package logs, with its level and facts."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "events.md"
EVERYWHERE = {"tunnel", "session", "session_id", "component", "suppressed"}
"""Facts that the document explains once for all events."""
METHODS = {"debug", "info", "warning", "error"}
_NAME = re.compile(r"[a-z]+\.[a-z_]+")
_ROW = re.compile(r"\| `(?P<event>[a-z]+\.[a-z_]+)`¹? \| (?P<level>[a-z, ]+) \|")

# What is logged by a call whose method or facts are chosen at run time.
COMPUTED = {
    "library.said": ({"warning", "error"}, {"library", "message", "caught"}),
}


@cache
def calls():
    """Return every call in the package's source, with the file it stands in."""
    return [
        (path.relative_to(ROOT).as_posix(), node)
        for path in sorted((ROOT / "ssmtunneld").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


@cache
def logged():
    """Return the levels and the facts of every event in the package's source."""
    levels, facts = defaultdict(set), defaultdict(set)
    for path, call in calls():
        event = _event(call)
        if event is None:
            continue
        if isinstance(call.func, ast.Attribute):
            levels[event].add(call.func.attr)
            # What is spread is how many alike were left out, which the ¹ stands for.
            named = (keyword.arg for keyword in call.keywords)
            facts[event] |= {name for name in named if name is not None}
        else:
            assert event in COMPUTED, f"{path}:{call.lineno}: {event}"
            levels[event] |= COMPUTED[event][0]
            facts[event] |= COMPUTED[event][1]
    return {event: (levels[event], facts[event] - EVERYWHERE) for event in levels}


def _event(call):
    """Return the name of the event that a call logs, or None if it logs none."""
    first = call.args[0] if call.args else None
    if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
        return None
    if not _NAME.fullmatch(first.value):
        return None
    function = call.func
    computed = (
        isinstance(function, ast.Call) and ast.unparse(function.func) == "getattr"
    )
    named = isinstance(function, ast.Attribute) and function.attr in METHODS
    return first.value if computed or named else None


@cache
def documented():
    """Return the same from the tables, and fail where an event stands twice."""
    found = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        row = _ROW.match(line)
        if row is None:
            continue
        _, _, _, facts, meaning, _ = line.split("|")
        assert row["event"] not in found, f"{row['event']} stands there twice"
        assert len(meaning.split()) >= 2, f"{row['event']} has no meaning"
        levels = set(row["level"].replace(" ", "").split(","))
        found[row["event"]] = (levels, set(re.findall(r"`(\w+)`", facts)))
    return found


def test_the_document_and_the_source_list_the_same_events():
    assert sorted(documented()) == sorted(logged())


@pytest.mark.parametrize("event", sorted(logged()))
def test_an_event_has_the_levels_and_the_facts_that_the_document_says(event):
    levels, facts = logged()[event]
    said_levels, said_facts = documented().get(event, (set(), set()))
    assert said_levels == levels
    assert said_facts == facts


def test_facts_that_all_lines_share_are_explained():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"`{fact}`" in text or fact == "component" for fact in EVERYWHERE)


def _is_log(call):
    function = call.func
    if not (isinstance(function, ast.Attribute) and function.attr in METHODS):
        return False
    owner = ast.unparse(function.value).rpartition(".")[2]
    return owner.strip("_") in {"log", "logger", "bursts", "get_log()"}


def test_no_event_is_named_in_a_way_that_the_search_misses():
    strange = {path for path, call in calls() if _is_log(call) and not _event(call)}
    assert strange == {
        "ssmtunneld/base/log.py",
        "ssmtunneld/base/rate_limited_log.py",
        "ssmtunneld/base/compartment.py",  # "defect": told in words
    }
