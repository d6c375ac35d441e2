"""Numbers and foreign text, for a terminal."""

import json
from collections.abc import Sequence
from typing import Final

_KIB: Final = 1024
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS: Final = "_.-=*%@#"


def duration(seconds: float) -> str:
    """Return seconds as days, hours, minutes and seconds: the two largest of them."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    shown = [f"{value}{unit}" for value, unit in parts if value]
    return " ".join(shown[:2]) or "0s"


def size(count: float) -> str:
    """Return bytes in the largest unit that is not too large for them."""
    if count < _KIB:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB"):
        count /= _KIB
        if count < _KIB:
            return f"{count:.1f} {unit}"
    return f"{count / _KIB:.1f} GiB"


def milliseconds(seconds: float | None) -> str:
    """Return a round-trip time; ``-`` if there is none."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def counted(count: int, noun: str) -> str:
    """Return ``1 session``, ``2 sessions``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def sparkline(values: Sequence[float], most: float, encoding: str = "utf-8") -> str:
    """Return one character for each of ``values``, as high as its share of ``most``.

    Nothing at all is the lowest character, and something is always higher.
    """
    blocks = _BLOCKS if encoding.lower().startswith("utf") else _ASCII_BLOCKS
    top = len(blocks) - 1
    return "".join(
        blocks[min(top, 1 + int(value / most * (top - 1)))] if value > 0 else blocks[0]
        for value in values
    )


def printable(text: str) -> str:
    """Return ``text`` as one line with escapes for all that a terminal would obey.

    Reasons quote services and agents: they must not move the cursor.
    """
    return visible(" ".join(text.split()))


def visible(text: str) -> str:
    """Return ``text`` with escapes for all that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
