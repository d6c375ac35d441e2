"""Text of foreign origin, made fit to keep and to show (design D19).

A peer, a service, a proxy, a library's error or a file can contain anything: megabytes,
control characters, terminal escapes, lone surrogates, text that runs backwards. Such
text is cleaned once, where it enters; nothing above that line needs to think of it.
"""

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
