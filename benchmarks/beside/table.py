"""The report of a comparison, as Markdown."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from benchmarks.beside.contest import Conditions, Contender
from benchmarks.beside.steps import ROWS, Row

EVEN = 0.05
"""Two medians that differ by no more than this part are even."""


def number(value: float) -> str:
    """Return ``value`` with three digits that count, or all before the point."""
    if value <= 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def cell(text: str) -> str:
    """Return ``text`` so that it is one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def render(
    ours: Contender, other: Contender, floor: Sequence[float], conditions: Conditions
) -> str:
    """Return the table of one path, and below it why what failed did.

    Args:
        ours: Of the first column; ratios have it above.
        other: Of the second one.
        floor: First bytes of the bare relay in ms, by run.
        conditions: Those of the table.
    """
    lines = [
        f"`{' '.join(conditions.emulator)}`, medians of {conditions.runs} in turns:",
        "",
        f"| | {cell(ours.name)} | {cell(other.name)} | ratio | {cell(ours.name)} is |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        lines.append(_line(row, ours, other))
        if row.key == "first byte" and floor:
            lines.append(_floor_line(ours, other, median(floor)))
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in (ours, other):
        for row in ROWS:
            if why := one.failures.get(row.key):
                reasons[one.name, why].append(row.title)
    notes = [f"* {n} fails ({'; '.join(t)}): {w}" for (n, w), t in reasons.items()]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _line(row: Row, ours: Contender, other: Contender) -> str:
    values = a, b = ours.figure(row.key), other.figure(row.key)
    shown = [
        "fails" if row.key in one.failures else "-" if value is None else number(value)
        for one, value in zip((ours, other), values, strict=True)
    ]
    ratio = number(a / b) if a is not None and b else "-"
    return f"| {row.title} | {' | '.join(shown)} | {ratio} | {_better(row, a, b)} |"


def _better(row: Row, a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return "-"
    if abs(a - b) <= EVEN * max(a, b):
        return "even"
    return "first" if (a > b) == row.more else "second"


def _floor_line(ours: Contender, other: Contender, floor: float) -> str:
    shown = [
        "-" if value is None else number(value / floor)
        for value in (ours.figure("first byte"), other.figure("first byte"))
    ]
    title = f"the same / a bare relay's over an open websocket ({number(floor)} ms)"
    return f"| {title} | {' | '.join(shown)} | - | - |"
