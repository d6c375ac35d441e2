"""Text of foreign origin, made fit to keep and to show (design D19).

A peer, a service, a proxy, a library's error or a file can contain anything: megabytes,
control characters, terminal escapes, lone surrogates, text that runs backwards. Such
text is cleaned once, where it enters; nothing above that line needs to think of it.
"""

import html
import re
from typing import Final, NewType

MESSAGE_LIMIT: Final = 300
"""Characters of a foreign message that are kept."""

CleanText = NewType("CleanText", str)
"""One line of printable text of bounded length; only :func:`clean` makes it."""

# ECMA-48: control sequences with their parameters, and strings up to their terminator.
_ESCAPES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?"
)
_RUN_FACTOR: Final = 4

PAGE: Final = "a web page"
"""The beginning of text that stands for a page of HTML."""
_HTML: Final = re.compile(
    r"\s{0,100}(?:<!--.{0,500}?-->\s{0,100})?<(?:!doctype\s{1,9}html|html|head|title)\b",
    re.IGNORECASE | re.DOTALL,
)
_TITLE: Final = re.compile(
    r"<(?P<tag>title|h1)\b[^<>]{0,200}>(?P<words>[^<>]{1,200})</(?P=tag)", re.IGNORECASE
)
_HEAD_LIMIT: Final = 4000
"""Characters of a page in which its title is looked for."""


def without_page(words: str) -> str:
    """Return ``words``, or what a page of HTML is called instead of all of it."""
    if not _HTML.match(words):
        return words
    title = _TITLE.search(words[:_HEAD_LIMIT])
    return (
        PAGE if title is None else f"{PAGE}: {clean(html.unescape(title['words']), 80)}"
    )


def clean(words: str | bytes, limit: int = MESSAGE_LIMIT) -> CleanText:
    """Return ``words`` as one printable line of at most ``limit`` characters.

    Escape sequences go; every other character that does not print (controls, line
    ends, surrogates, marks that change the direction of text) becomes a space; runs of
    spaces become one. What was cut off at the end is marked by an ellipsis. The work is
    bounded by ``limit``, not by the size of ``words``. Idempotent; never raises for any
    text.
    """
    start = words[: limit * _RUN_FACTOR + 1]
    text = start.decode("utf-8", "replace") if isinstance(start, bytes) else start
    text = _ESCAPES.sub(" ", text)
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    if len(text) > limit:
        text = text[: limit - 1].rstrip() + "…"
    elif len(words) > len(start):
        text = text[: limit - 1] + "…"
    return CleanText(text)
