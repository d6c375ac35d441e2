"""One line from what happened and what to do about it."""

import re
from pathlib import Path

import pytest

import ssmtunneld
from ssmtunneld.base.sentences import with_advice

SOURCES = Path(ssmtunneld.__file__).parent


@pytest.mark.parametrize(
    ("words", "advice", "line"),
    [
        ("it is not connected.", "check it", "it is not connected; check it"),
        ("it is not connected", "check it", "it is not connected; check it"),
        ("it is not connected. ", "check it", "it is not connected; check it"),
        ("it is not connected.", "", "it is not connected."),
    ],
)
def test_a_sentence_goes_on_without_its_full_stop(words, advice, line):
    assert with_advice(words, advice) == line


def test_nobody_joins_them_by_hand():
    by_hand = re.compile(r"\}[;:]? \{[^{}\n]*advice|\"[;:] \{[^{}\n]*advice")
    found = [
        f"{path.relative_to(SOURCES)}: {match[0]}"
        for path in SOURCES.rglob("*.py")
        if path.name != "sentences.py"
        for match in by_hand.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []
