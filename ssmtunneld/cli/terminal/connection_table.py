"""Open connections as a table that fits a terminal, once or live."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from ssmtunneld.cli.terminal.live import watch
from ssmtunneld.cli.terminal.table import Column, draw
from ssmtunneld.cli.terminal.text import counted, duration, printable, size

_Row = dict[str, Any]


def headline(document: dict[str, Any]) -> str:
    """Return one sentence about the document of connections."""
    count = len(document["connections"]) + document["more"]
    more = f", {document['more']} of them not shown" if document["more"] else ""
    return f"{counted(count, 'open connection')}{more}"


def connection_table(found: Sequence[_Row], width: int) -> Group:
    """Return open connections as a table, no wider than ``width``."""
    # What ``draw`` puts below a row.
    rows = [{**each, "reason": "", "advice": ""} for each in found]
    return draw(rows, CONNECTION_COLUMNS, width)


def _session(row: _Row) -> list[str]:
    if row["session"] is None:
        return ["waiting"]
    return [f"{row['session']} on {printable(row['target'] or '-')}"]


def _program(row: _Row) -> list[str]:
    if row["pid"] is None:
        return ["-"]
    return [f"{printable(row['program'] or '')}[{row['pid']}]"]


def _user(row: _Row) -> list[str]:
    return [printable(row["user"]) if row["user"] else "-"]


CONNECTION_COLUMNS: Final = (
    Column("ID", 0, lambda r: [printable(r["id"])]),
    Column("TUNNEL", 1, lambda r: [printable(r["tunnel"])]),
    Column("USER", 2, _user),
    Column("PROGRAM", 1, _program),
    Column("AGE", 3, lambda r: [duration(r["age"])], right=True),
    Column("UP", 5, lambda r: [size(r["sent"])], right=True),
    Column("DOWN", 5, lambda r: [size(r["received"])], right=True),
    Column("UP/S", 4, lambda r: [f"{size(r['sent_rate'])}/s"], right=True),
    Column("DOWN/S", 4, lambda r: [f"{size(r['received_rate'])}/s"], right=True),
    Column("DESTINATION", 6, lambda r: [printable(r["destination"]) or "-"]),
    Column("SESSION", 7, _session),
    Column("FROM", 8, lambda r: [printable(r["peer"])]),
)
"""All that ``connections`` tells of one."""


class ConnectionView:
    """The connections of the last answer, as a view that can be drawn."""

    def __init__(self) -> None:
        self._document: dict[str, Any] | None = None
        self._lost: tuple[float, str] | None = None

    def observe(self, document: dict[str, Any], now: float) -> None:  # noqa: ARG002 - of the interface; ages are in the document
        """Take over a document, told at ``now`` in seconds on any clock."""
        self._document = document
        self._lost = None

    def miss(self, reason: str, now: float) -> None:
        """Take over that there was no document at ``now``."""
        since = now if self._lost is None else self._lost[0]
        self._lost = since, reason

    def draw(self, width: int, height: int, now: float) -> RenderableType:
        """Return the view, no wider than ``width``; what is too high says so."""
        if self._lost is not None:
            since, reason = self._lost
            away = duration(now - since)
            return Text(f"{reason} (for {away}); waiting for it. Ctrl-C ends", "red")
        if self._document is None:
            return Text("")
        found = self._document["connections"]
        # The other lines: the sentence, the headings, and what says that more follow.
        shown = found[: max(height - 3, 1)]
        parts: list[RenderableType] = [
            Text(f"{headline(self._document)}. Ctrl-C ends"),
            connection_table(shown, width),
        ]
        if hidden := len(found) - len(shown):
            parts.append(Text(f"and {hidden} more: name a tunnel, or use --json"))
        return Group(*parts)


def watch_connections(fetch: Callable[[], dict[str, Any]]) -> None:
    """Draw until Ctrl-C or SIGTERM what ``fetch`` returns.

    Raises:
        click.UsageError: Standard output is not a terminal.
    """
    watch(ConnectionView(), fetch)
