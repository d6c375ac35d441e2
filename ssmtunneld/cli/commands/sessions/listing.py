"""Sessions of an account, as a table that fits a terminal, and as a document."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ssmtunneld.cli.commands.sessions.origin import tunnel_in
from ssmtunneld.cli.terminal.table import Column, draw
from ssmtunneld.cli.terminal.text import counted, duration, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Group

    from ssmtunneld.aws.sessions import Entry

DOCUMENT_VERSION: Final = 1

_WIDE: Final = 160
"""Columns from which on a session's id, 40 to 96 characters, has one of its own."""
_SHORT: Final = 28
"""Characters of a target, and of an owner's name, where there is little room: an ECS
task's id has 90 and more. The whole of them is in a wide table and in the document."""
_STYLES: Final = {
    "Connected": "green",
    "Connecting": "yellow",
    "Disconnected": "yellow",
    "Failed": "bold red",
}

_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class IdentitySessions:
    """The sessions that one identity sees.

    Attributes:
        entries: The sessions.
        more: Whether there are more of them.
        region: Where they are.
        owner: Whose; None for everybody's.
    """

    entries: Sequence[Entry]
    more: bool
    region: str
    owner: str | None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session, with what this machine knows of it.

    Attributes:
        entry: What the service says.
        region: Where it is.
        held: The tunnel that a daemon of this machine holds it for; empty if none does;
            None if no daemon answers.
    """

    entry: Entry
    region: str
    held: str | None

    @property
    def tunnel(self) -> str:
        """The tunnel that it was started for; empty if no daemon has started it."""
        return self.held or tunnel_in(self.entry.session.reason)

    def lasted(self, now: float) -> float | None:
        """Return for how many seconds it lives, or has lived, at Unix time ``now``."""
        started = self.entry.session.started_at
        until = self.entry.ended_at or now
        return max(0.0, until - started) if started else None


def lines_of(
    found: Sequence[IdentitySessions], held: Mapping[str, str] | None, limit: int
) -> tuple[list[SessionRow], bool]:
    """Return the newest ``limit`` sessions, each once, and whether there are more.

    Args:
        found: The entries of several identities; they can overlap.
        held: The tunnels by the ids of the sessions that daemons here hold; None if
            none answers.
        limit: How many.
    """
    lines = {
        (some.region, entry.session.session_id): SessionRow(
            entry,
            some.region,
            None if held is None else held.get(entry.session.session_id, ""),
        )
        for some in found
        for entry in some.entries
    }
    ordered = sorted(
        lines.values(), key=lambda line: line.entry.session.started_at, reverse=True
    )
    more = any(some.more for some in found) or len(ordered) > limit
    return ordered[:limit], more


def document(
    lines: Sequence[SessionRow], *, past: bool, truncated: bool, now: float
) -> dict[str, Any]:
    """Return what ``--json`` prints.

    Args:
        lines: The sessions.
        past: Whether they have ended.
        truncated: Whether there are more.
        now: The Unix time in seconds.
    """
    return {
        "version": DOCUMENT_VERSION,
        "history": past,
        "truncated": truncated,
        "sessions": [_object(line, now) for line in lines],
    }


def _object(line: SessionRow, now: float) -> dict[str, Any]:
    session, lasted = line.entry.session, line.lasted(now)
    return {
        "id": session.session_id,
        "state": session.status,
        "target": session.target,
        "document": session.document,
        "owner": session.owner,
        "reason": session.reason,
        "tunnel": line.tunnel or None,
        "held": None if line.held is None else bool(line.held),
        "region": line.region,
        "started": _iso(session.started_at),
        "ended": _iso(line.entry.ended_at),
        "duration": None if lasted is None else round(lasted, 3),
        "max_duration": session.max_duration,
    }


def headline(found: Sequence[IdentitySessions], count: int, *, past: bool) -> str:
    """Return one sentence about what was found."""
    owners = {some.owner for some in found}
    places = sorted({printable(some.region) for some in found})
    if None in owners:
        whose = "everybody"
    elif len(owners) == 1:
        whose = printable(str(*owners))
    else:
        whose = f"{len(owners)} identities"
    what = counted(count, "past session" if past else "active session")
    return f"{what} of {whose} in {', '.join(places)}"


def table(
    lines: Sequence[SessionRow], width: int, *, past: bool, everybody: bool, now: float
) -> Group:
    """Return the sessions as a table, no wider than ``width``.

    Args:
        lines: The sessions.
        width: The terminal's, in columns.
        past: Whether they have ended.
        everybody: Whether they have several owners.
        now: The Unix time in seconds.
    """
    wide = width >= _WIDE
    rows = [_row(line, now, wide=wide) for line in lines]
    with_daemon = any(line.held is not None for line in lines) and not past
    columns = [
        Column("STATE", 0, _cell("state"), style=lambda r: _STYLES.get(r["state"], "")),
        Column("LASTED" if past else "AGE", 0, _cell("age"), right=True),
        Column("TARGET", 0, _cell("target")),
        Column("TUNNEL", 2, _cell("tunnel")),
        Column("OWNER", 1 if everybody else 5, _cell("owner")),
        Column("STARTED", 4, _cell("started")),
        Column("DOCUMENT", 6, _cell("document")),
        Column("REASON", 7, _cell("text")),
    ]
    if with_daemon:
        columns.insert(4, Column("HELD", 3, _cell("held")))
    if wide:
        columns.insert(0, Column("ID", 0, _cell("id")))
    return draw(rows, columns, width)


def _cell(key: str) -> Callable[[_Row], Sequence[str]]:
    return lambda row: [row[key]]


def _row(line: SessionRow, now: float, *, wide: bool) -> _Row:
    session = line.entry.session
    age = line.lasted(now)
    owner, target = printable(session.owner), printable(session.target)
    row = {
        "id": printable(session.session_id),
        "state": printable(session.status),
        "age": "-" if age is None else duration(age),
        "target": target if wide else _shortened(target),
        "tunnel": printable(line.tunnel) or "-",
        "held": "yes" if line.held else "",
        "owner": owner if wide else _shortened(owner.partition("/")[2] or owner),
        "started": _brief(session.started_at),
        "document": printable(session.document),
        "text": printable(session.reason),
    }
    # What ``draw`` puts below a row.
    return {**row, "reason": "" if wide else _below(line, row), "advice": ""}


def _below(line: SessionRow, row: _Row) -> str:
    """Return the id, and a reason that says more than the tunnel's name."""
    says_more = row["text"] and not line.tunnel
    return f"{row['id']}{': ' + row['text'] if says_more else ''}"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


def _brief(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%MZ}" if moment else "-"


def _iso(moment: float) -> str | None:
    if not moment:
        return None
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"
