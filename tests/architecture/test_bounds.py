"""The table of bounds in docs/security.md has the values that the code has.

A row is ``| what is bounded | value | `module:CONSTANT` |``: whoever adds a bound adds
a row, and the test finds it. A constant that is named like a bound, in a room that
meets what others send, has one.
"""

import importlib
import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
PACKAGE = Path(__file__).parents[2] / "ssmtunneld"
HEADING = "## What is bounded by what"

_NAME = re.compile(r"`(?P<module>ssmtunneld(?:\.\w+)*):(?P<constant>\w+)`")
_VALUE = re.compile(r"(?P<number>[0-9][0-9,]*(?:\.[0-9]+)?)(?: (?P<unit>\S+))?.*")
_UNITS = {"KiB": 2**10, "MiB": 2**20, "ms": 0.001, "min": 60}
"""Factors; every other unit stands for itself: seconds, bytes, characters, lines."""


def rows(text):
    """Return ``(what, value, source)`` of each row of the table in ``text``."""
    _, _, section = text.partition(f"{HEADING}\n")
    section, _, _ = section.partition("\n## ")
    cells = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return [tuple(row) for row in cells[2:]]


def value_of(text):
    """Return what a cell such as ``8 KiB`` or ``1,024 characters`` means."""
    match = _VALUE.fullmatch(text)
    assert match is not None, f"{text!r} begins with no number"
    return float(match["number"].replace(",", "")) * _UNITS.get(match["unit"], 1)


def constant_of(text):
    """Return the value of the constant that a cell names."""
    match = _NAME.fullmatch(text)
    assert match is not None, f"{text!r} is no `module:CONSTANT`"
    return getattr(importlib.import_module(match["module"]), match["constant"])


_BOUND = re.compile(
    r"^(?P<name>(?:MAX|LARGEST|LONGEST|MOST)_\w+|(?:\w+_)?LIMIT)(?:: Final)? = ",
    re.MULTILINE,
)
_ROOMS = (
    *("aws/api", "aws/identity", "base", "config/load.py", "config/tables.py"),
    "config/includes.py",
    *("listener", "observe", "protocol", "serve", "transport"),
)
# Named like a bound, and none of what others send.
EXEMPT = {
    "base.rate_limited_log:MOST_SOURCES": "how many lines there may be, not of whom",
    "base.redaction:CACHED_TEXT_LIMIT": "what is worth remembering",
    "listener.sockets:LONGEST_PATH": "the kernel's",
    "protocol.message:MAX_PAYLOAD": "what we send",
    "protocol.outbound:MAX_MESSAGE": "what we send",
    "protocol.outbound:MAX_MESSAGES": "what we send",
    "protocol.timing:MAX_TIMEOUT": "when we send again",
    "protocol.window:MAX_TOTAL": "what we send",
    "protocol.window:MAX_WINDOW": "what we send",
    "protocol.window:MOST_DOUBLINGS": "how often we measure",
    "protocol.window:MOST_UNREST": "what we make of a measurement",
    "transport.mux_port:MOST_UNCOUNTED": "how exact our own books are",
    "transport.read_scheduler:MAX_DELAY": "how long we wait",
    "transport.read_scheduler:MAX_MESSAGES": "how a turn is divided",
}


def bounds_of_the_source():
    """Return the constants that are named like bounds, as ``module:CONSTANT``."""
    found = set()
    for room in _ROOMS:
        path = PACKAGE / room
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
            for match in _BOUND.finditer(file.read_text(encoding="utf-8")):
                found.add(f"{module}:{match['name']}")
    return found


ROWS = rows(DOCUMENT.read_text(encoding="utf-8"))


def test_there_is_a_table_and_no_bound_stands_in_it_twice():
    sources = [source for _, _, source in ROWS]
    assert len(sources) > 60
    assert len(set(sources)) == len(sources)


@pytest.mark.parametrize(("what", "value", "source"), ROWS, ids=[r[2] for r in ROWS])
def test_a_bound_is_what_the_document_says(what, value, source):
    assert what
    assert value_of(value) == pytest.approx(constant_of(source))


@pytest.mark.parametrize(
    ("text", "value"),
    [("8 KiB", 8192), ("1,024 lines", 1024), ("1.5 s", 1.5), ("0.5 min each", 30)],
)
def test_values_are_read_as_a_person_reads_them(text, value):
    assert value_of(text) == value


def test_every_bound_of_the_source_is_in_the_table():
    told = {source.strip("`").removeprefix("ssmtunneld.") for _, _, source in ROWS}
    found = bounds_of_the_source()
    assert len(found) > 30
    assert found - told - EXEMPT.keys() == set()
    assert EXEMPT.keys() - (found - told) == set()
