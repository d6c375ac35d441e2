"""Citations of docs/protocol.md and docs/design.md: what they name exists.

The short forms are "(protocol 4.5)", "(protocol 8, trap 3)", "(protocol Appendix D)",
"(design D9)" and "(design section 6)".
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).resolve()
FOLDERS = ("ssmtunneld", "tests", "benchmarks", "docs")
SUFFIXES = {".py", ".md", ".js", ".html", ".toml", ".in", ".yaml"}

# A version of the control socket's own protocol, not a section.
_CONTROL = re.compile(r"control protocol \d|: protocol 0 knows")

_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)*|Appendix [A-Z])"
_NEXT = r"(?:,| and| to| or)"
_GAP = r"(?:\s|#|\*)+"  # a citation may go on in the next line of a comment
_PROTOCOL = re.compile(
    rf"\bprotocol{_GAP}({_NUMBER}(?:{_NEXT}{_GAP}{_NUMBER})*)"
    rf"(?:,{_GAP}(trap|item){_GAP}([0-9]+))?(?![-\w]|\.[0-9])"
)
_DESIGN = re.compile(
    rf"\bdesign{_GAP}((?:D[0-9]+|section{_GAP}[0-9]+)(?:{_NEXT}{_GAP}D[0-9]+)*)"
)
# What other spellings of a citation look like: they would escape the check.
_STRAY = re.compile(
    r"P§|§[0-9]|\b(?:protocol|design)\.md(?:,|:)? *(?:§|section|D?[0-9])"
    r"|\bprotocol (?:section|§)|\bdesign(?:,|:)? (?:§|[0-9])|\bdesign d[0-9]"
)


def _sections(document):
    """Return what can be cited of a document: numbers and appendices of headings."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    return set(
        re.findall(r"^#{2,3} (Appendix [A-Z]|[0-9]+(?:\.[0-9]+)*)", text, re.MULTILINE)
    )


ROWS = {"trap": "8", "item": "9"}
"""The sections of docs/protocol.md whose rows are cited, by what a row is called."""


def _rows(kind):
    """Return the numbers of the traps, or of the items that are not determined."""
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    body = re.split(rf"^## {ROWS[kind]}\. ", text, flags=re.MULTILINE)[1]
    body = re.split(r"^## ", body, flags=re.MULTILINE)[0]
    return set(re.findall(r"^(?:\| )?([0-9]+)(?: \||\. )", body, re.MULTILINE))


def _decisions():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\*\*(D[0-9]+) ", text, re.MULTILINE))


def _cited(text):
    """Yield (offset, document, what) for each citation in ``text``."""
    hidden = [m.span() for m in _CONTROL.finditer(text)]
    for match in _PROTOCOL.finditer(text):
        if any(start <= match.start() < end for start, end in hidden):
            continue
        for number in re.findall(_NUMBER, match[1]):
            yield match.start(), "protocol", number
        if match[2]:
            yield match.start(), match[2], match[3]
    for match in _DESIGN.finditer(text):
        for label in re.findall(r"D[0-9]+", match[1]):
            yield match.start(), "decision", label
        for number in re.findall(r"section\D+([0-9]+)", match[1]):
            yield match.start(), "design", number


def _exists(document, what):
    if document == "protocol":
        return what in _sections("protocol.md")
    if document == "design":
        return what in _sections("design.md")
    if document == "decision":
        return what in _decisions()
    return what in _rows(document)


def _files():
    return [
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in SUFFIXES and path != HERE
    ]


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("as is (protocol 4.5).", [("protocol", "4.5")]),
        (
            "(protocol 2.2, 3.4 and 5).",
            [("protocol", "2.2"), ("protocol", "3.4"), ("protocol", "5")],
        ),
        ("protocol 8, trap\n    # 3)", [("protocol", "8"), ("trap", "3")]),
        ("protocol\n    # 9, item 11", [("protocol", "9"), ("item", "11")]),
        ("protocol Appendix D", [("protocol", "Appendix D")]),
        ("(design D1,\n    # D4)", [("decision", "D1"), ("decision", "D4")]),
        ("(design section 6)", [("design", "6")]),
        ("older (control protocol 0)", []),
        ("bounded by the protocol: 262 bytes", []),
    ],
)
def test_citations_are_recognised(text, cited):
    assert [(document, what) for _, document, what in _cited(text)] == cited


def test_what_can_be_cited_is_found():
    assert {"0", "1.1", "4.7", "9", "Appendix A", "Appendix E"} <= _sections(
        "protocol.md"
    )
    assert _sections("design.md") == {str(number) for number in range(1, 8)}
    assert _decisions() == {f"D{number}" for number in range(1, 24)}
    assert {"1", "30"} <= _rows("trap")
    assert {"1", "17"} <= _rows("item")
    assert not _exists("protocol", "4.8")
    assert not _exists("trap", "31")


def test_every_citation_names_a_section_that_exists():
    found = [
        (path, text, *citation)
        for path in _files()
        for text in [path.read_text(encoding="utf-8")]
        for citation in _cited(text)
    ]
    assert len(found) > 150
    assert [
        f"{path.relative_to(ROOT)}:{text[:offset].count(chr(10)) + 1}: {kind} {what}"
        for path, text, offset, kind, what in found
        if not _exists(kind, what)
    ] == []


def test_citations_have_one_form():
    assert [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in _files()
        for match in _STRAY.finditer(path.read_text(encoding="utf-8"))
    ] == []


def test_the_documents_cite_their_own_sections():
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    inner = re.findall(r"\bsections? ([0-9]+(?:\.[0-9]+)*)", text)
    assert len(inner) > 10
    assert [number for number in inner if number not in _sections("protocol.md")] == []
