"""Tunnels as a table that fits a terminal: what has no room is left out, not cut.

rich is imported here, and this module only by those who draw.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ssmtunneld.cli.daemon_client import is_disabled
from ssmtunneld.cli.terminal.text import counted, duration, printable, size
from ssmtunneld.cli.terminal.tunnel_line import describe_refusal, is_usable

UNLIMITED: Final = 100_000
"""Columns where nobody looks: a pipe or a file gets whole lines."""
LOGIN_NOTICE: Final = 900.0
"""Seconds before its end that a login is mentioned; as long as the log does."""
_USUAL_WIDTH: Final = 80
_WIDTH: Final = re.compile(r"[0-9]{1,5}")
GAP: Final = 2
"""Spaces between columns."""

_STYLES: Final = {
    "ready": "green",
    "idle": "cyan",
    "unhealthy": "bold red",
    "failed": "bold red",
    "unbound": "bold red",
    "needs_login": "bold magenta",
    "needs_access": "bold magenta",
    "awaiting_approval": "bold magenta",
    "access_rejected": "bold red",
    "access_revoked": "bold red",
    "access_expired": "bold magenta",
    "asleep": "cyan",
    "waking": "yellow",
    "waiting": "bold magenta",
    "paused": "blue",
    "disabled": "dim",
}
_OTHER_STYLE: Final = "yellow"
_NARROWEST: Final = 8
"""Columns that a folded cell keeps at least."""

_Tunnel = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        heading: What stands above it.
        rank: Columns with the highest rank are left out first where there is no room,
            and those of the same rank together.
        lines: What a row shows, line by line.
        right: Whether it is flush right.
        style: Its style in a row.
    """

    heading: str
    rank: int
    lines: Callable[[_Tunnel], Sequence[str]]
    right: bool = False
    style: Callable[[_Tunnel], str] = lambda _: ""


def open_console() -> Console:
    """Return standard output's console: without any escapes where colour is unwanted.

    That is where ``NO_COLOR`` is set, and where nobody looks.
    """
    is_terminal = sys.stdout.isatty()
    plain = bool(os.environ.get("NO_COLOR")) or not is_terminal
    return Console(
        color_system=None if plain else "auto",
        force_terminal=is_terminal,
        width=_columns() or (None if is_terminal else UNLIMITED),
        highlight=False,
        markup=False,
        emoji=False,
    )


def _columns() -> int | None:
    """Return the width that ``COLUMNS`` asks for, if that is one.

    Whoever does not know the width says 0, and rich would draw nothing.
    """
    asked = os.environ.get("COLUMNS", "")
    return int(asked) or None if _WIDTH.fullmatch(asked) else None


def drawn_status(tunnels: Sequence[_Tunnel]) -> str:
    """Return the table as standard error's terminal shows it, without writing to it.

    Whoever has stopped that terminal (Ctrl-S) must not stop the caller.
    """
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    drawn = StringIO()
    console = Console(
        file=drawn,
        width=columns or _USUAL_WIDTH,
        force_terminal=True,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(status_table(tunnels, console.width))
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines())


def state_style(tunnel: _Tunnel) -> str:
    """Return the style of a tunnel's state."""
    return _STYLES.get(tunnel["state"], _OTHER_STYLE)


def headline(document: _Tunnel) -> str:
    """Return one sentence about a daemon."""
    every = document["tunnels"]
    tunnels = [tunnel for tunnel in every if not is_disabled(tunnel)]
    # As the status page counts: an idle tunnel serves whoever connects.
    usable = sum(is_usable(m) for m in tunnels)
    off = len(every) - len(tunnels)
    rest = f", {off} disabled" if off else ""
    rest += ", draining" if document.get("draining") else ""
    groups = document.get("groups", ())  # older daemons have none
    which = f" (group{'s' * (len(groups) > 1)} {', '.join(groups)})" if groups else ""
    return (
        f"ssmtunneld {document['program']}, pid {document['pid']}, "
        f"running for {duration(document['uptime'])}, "
        f"{printable(document['config'])}{which}: "
        f"{usable} of {counted(len(tunnels), 'tunnel')} usable{rest}"
    )


def login_notices(
    document: _Tunnel, tunnels: Sequence[_Tunnel], now: float
) -> list[str]:
    """Return a line for each login of these tunnels that ends soon.

    Args:
        document: The whole one.
        tunnels: Those that are shown.
        now: Unix seconds.
    """
    # Those that need a login already have their own lines.
    names = {m["name"] for m in tunnels if m["state"] != "needs_login"}
    lines = []
    for identity in document.get("identities", ()):  # older daemons have none
        ends_at = identity["login_ends_at"]
        if ends_at is None or not names.intersection(identity["tunnels"]):
            continue
        if now < ends_at < now + LOGIN_NOTICE:
            minutes = max(1, round((ends_at - now) / 60))
            advice = printable(identity["advice"])
            who = printable(identity["name"])
            lines.append(f"login of {who} ends in {minutes} min -> {advice}")
    return lines


def defect_notices(document: _Tunnel, tunnels: Sequence[_Tunnel]) -> list[str]:
    """Return a line for each part in which something broke that nobody foresaw.

    Args:
        document: The whole one: the daemon's own services are told too.
        tunnels: Those that are shown.
    """
    wholes = [("the daemon", document), *((m["name"], m) for m in tunnels)]
    return [
        _defect_notice(name, defect)
        for name, whole in wholes
        for defect in whole.get("defects", ())  # older daemons have none
    ]


def config_notices(document: _Tunnel) -> list[str]:
    """Return a line if the changed file was rejected and is not in use."""
    error = document.get("config_error")  # older daemons do not tell
    if not error:
        return []
    return [
        f"the changed configuration was rejected, the previous one is in use: "
        f"{printable(error)} -> ssmtunneld check"
    ]


def audit_notices(document: _Tunnel) -> list[str]:
    """Return a line if the audit log cannot be written, or has lost something."""
    audit = document.get("audit")  # null without one; older daemons do not tell
    if audit is None or not (audit["reason"] or audit["lost"]):
        return []
    file, reason = printable(audit["file"]), printable(audit["reason"])
    now = f"cannot be written: {reason}" if reason else "can be written again"
    return [f"audit log {file} {now}; {counted(audit['lost'], 'line')} lost"]


def _defect_notice(name: str, defect: dict[str, Any]) -> str:
    again = defect["restart_in"]
    restart = "" if again is None else f", started again in {duration(again + 1)}"
    return (
        f"{defect['compartment']} of {name} broke {counted(defect['count'], 'time')}, "
        f"{duration(defect['age'])} ago{restart}: {printable(defect['last'])} -> "
        "please report it with the log's line"
    )


def status_table(tunnels: Sequence[_Tunnel], width: int) -> Group:
    """Return the table of ``status``, no wider than ``width``."""
    return draw(tunnels, TUNNEL_COLUMNS, width)


def draw(tunnels: Sequence[_Tunnel], columns: Sequence[Column], width: int) -> Group:
    """Return a table with a row for each tunnel and, below it, what troubles it.

    A rank whose columns do not fit is left out, and the next one can still fit. What
    has rank 0 always stays; its widest column folds if even that is too wide.
    """
    widths = fit(_widths(tunnels, columns), columns, width)
    shown = [(c, widths[c.heading]) for c in columns if c.heading in widths]
    parts: list[RenderableType] = [_headings(shown)]
    for tunnel in tunnels:
        parts.append(_row(tunnel, shown))
        parts.extend(_troubles(tunnel, indent=min(shown[0][1] + GAP, width // 4)))
    return Group(*parts)


def _widths(tunnels: Iterable[_Tunnel], columns: Iterable[Column]) -> dict[str, int]:
    widths = {column.heading: cell_len(column.heading) for column in columns}
    for tunnel in tunnels:
        for column in columns:
            lengths = (cell_len(line) for line in column.lines(tunnel))
            widths[column.heading] = max(widths[column.heading], *lengths, 0)
    return widths


def fit(
    widths: dict[str, int], columns: Sequence[Column], width: int
) -> dict[str, int]:
    """Return the widths of the columns that stay in a table no wider than ``width``.

    Args:
        widths: What each column would like to have, by its heading.
        columns: All of them.
        width: The table's, in cells.
    """
    kept: dict[str, int] = {}
    room = width + GAP
    for rank in sorted({column.rank for column in columns}):
        same = [column.heading for column in columns if column.rank == rank]
        needed = sum(widths[heading] + GAP for heading in same)
        if rank == 0 or needed <= room:
            kept |= {heading: widths[heading] for heading in same}
            room -= needed
    while room < 0:
        widest = max(kept, key=lambda heading: kept[heading])
        if kept[widest] <= _NARROWEST:
            break
        kept[widest] -= 1
        room += 1
    return kept


def _headings(shown: Sequence[tuple[Column, int]]) -> Table:
    return _grid(shown, [Text(column.heading, "bold") for column, _ in shown])


def _row(tunnel: _Tunnel, shown: Sequence[tuple[Column, int]]) -> Table:
    cells = [
        Text("\n".join(column.lines(tunnel)), column.style(tunnel))
        for column, _ in shown
    ]
    return _grid(shown, cells)


def _grid(shown: Sequence[tuple[Column, int]], cells: Sequence[Text]) -> Table:
    # A table for each row, all with the same widths: rich has no cell that spans.
    table = Table.grid(padding=(0, GAP, 0, 0))
    for column, width in shown:
        table.add_column(
            width=width, justify="right" if column.right else "left", overflow="fold"
        )
    table.add_row(*cells)
    return table


def _troubles(tunnel: _Tunnel, indent: int) -> Iterable[RenderableType]:
    """Yield why the tunnel is in its state, and what a connection met before."""
    if tunnel["reason"]:
        retry = tunnel.get("retry_in")
        again = f" (next attempt in {duration(retry + 1)})" if retry else ""
        reason, advice = printable(tunnel["reason"]), printable(tunnel["advice"])
        yield from _trouble(f"{reason}{again}", advice, indent)
    refusal, cure = describe_refusal(tunnel)
    if refusal:
        yield from _trouble(refusal, cure, indent)


def _trouble(words: str, cure: str, indent: int) -> Iterable[RenderableType]:
    yield _indented(Text(words), indent)
    if cure:
        yield _indented(Text(f"-> {cure}", "bold"), indent)


def _indented(text: Text, indent: int) -> Padding:
    return Padding(text, (0, 0, 0, indent), expand=False)


def connections(tunnel: _Tunnel) -> list[str]:
    """Return how many connections there are, and how many wait for a session."""
    waiting = tunnel.get("waiting")
    return [f"{tunnel['connections']}{f' (+{waiting})' if waiting else ''}"]


TUNNEL_COLUMNS: Final = (
    Column("NAME", 0, lambda m: [m["name"]]),
    Column("STATE", 0, lambda m: [m["state"]], style=state_style),
    Column("LISTEN", 0, lambda m: m["listen"] or ["-"]),
    Column("DESTINATION", 3, lambda m: [printable(m["destination"])]),
    Column("VIA", 7, lambda m: [printable(m["target"])]),
    Column("SESSIONS", 6, lambda m: [str(len(m["sessions"]))], right=True),
    Column("CONNS", 1, connections, right=True),
    Column("UP", 4, lambda m: [size(m["sent"])], right=True),
    Column("DOWN", 4, lambda m: [size(m["received"])], right=True),
)
"""All that ``status`` tells of a tunnel."""
