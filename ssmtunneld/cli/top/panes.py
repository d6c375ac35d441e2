"""The four panes of ``top``: their rows, their columns, and a row in full.

The words and columns are those of ``status``, ``connections`` and ``logs``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rich.text import Text

from ssmtunneld.cli.daemon_client import is_disabled
from ssmtunneld.cli.log_reader import event_facts, event_line, event_time
from ssmtunneld.cli.terminal.connection_table import CONNECTION_COLUMNS
from ssmtunneld.cli.terminal.live import Flow, Flows, least_rtt
from ssmtunneld.cli.terminal.table import (
    TUNNEL_COLUMNS,
    Column,
    audit_notices,
    config_notices,
    defect_notices,
    login_notices,
    state_style,
)
from ssmtunneld.cli.terminal.text import (
    counted,
    duration,
    milliseconds,
    printable,
    size,
)
from ssmtunneld.cli.terminal.tunnel_line import describe_refusal, is_usable
from ssmtunneld.cli.top.daemon_source import Snapshot

Row = dict[str, Any]

FLOW: Final = "flow"
"""The key of a tunnel's row that has its traffic."""


@dataclass(frozen=True, slots=True)
class Pane:
    """One of the four.

    Attributes:
        name: Its id.
        title: What stands above it.
        columns: Its columns.
        rows: The rows of a snapshot.
        key: Tells which row one is, from snapshot to snapshot.
        tunnel: The name of the tunnel that a row belongs to; None if it has none.
        detail: A row in full.
        rest: The heading of the column that takes what room is left.
        empty: What is said where there are no rows.
        follows: Whether the last row is shown as long as nobody looks at another.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Callable[[Snapshot, Flows], list[Row]]
    key: Callable[[Row], object]
    tunnel: Callable[[Row], str | None]
    detail: Callable[[Row], Text]
    rest: str = ""
    empty: str = ""
    follows: bool = False


def head(document: Row, connections: int, restarts: int = 0) -> str:
    """Return a line about the daemon: what matters most comes first.

    Args:
        document: Its status document.
        connections: Open ones.
        restarts: Times that another daemon has taken its place.
    """
    every = document["tunnels"]
    tunnels = [tunnel for tunnel in every if not is_disabled(tunnel)]
    usable = sum(is_usable(tunnel) for tunnel in tunnels)
    off = len(every) - len(tunnels)
    disabled = f", {off} disabled" if off else ""
    ending = "draining, " if document.get("draining") else ""
    times = f", restarted {restarts}x meanwhile" if restarts else ""
    return (
        f"{ending}{usable} of {counted(len(tunnels), 'tunnel')} usable{disabled}, "
        f"{counted(connections, 'connection')}, "
        f"ssmtunneld {printable(document['program'])}, pid {document['pid']}, "
        f"running for {duration(document['uptime'])}{times}, "
        f"{printable(document['config'])}"
    )


def notices(document: Row, now: float) -> list[str]:
    """Return what an operator should know besides the tunnels' states, line by line.

    Args:
        document: The status document.
        now: Unix seconds.
    """
    tunnels = document["tunnels"]
    return [
        *config_notices(document),
        *defect_notices(document, tunnels),
        *audit_notices(document),
        *login_notices(document, tunnels, now),
    ]


def matching(rows: Iterable[Row], columns: Sequence[Column], wanted: str) -> list[Row]:
    """Return the rows that have ``wanted`` in a column of words, whatever the case."""
    needle = wanted.casefold()
    columns = [column for column in columns if not column.right]
    return [
        row
        for row in rows
        if any(needle in line.casefold() for c in columns for line in c.lines(row))
    ]


def _tunnels(snapshot: Snapshot, flows: Flows) -> list[Row]:
    tunnels = snapshot.status["tunnels"]
    return [{**tunnel, FLOW: flows[tunnel["name"]]} for tunnel in tunnels]


def _connections(snapshot: Snapshot, _: Flows) -> list[Row]:
    found: list[Row] = snapshot.connections["connections"]
    return found


def _sessions(snapshot: Snapshot, _: Flows) -> list[Row]:
    return [
        {**session, "tunnel": tunnel["name"]}
        for tunnel in snapshot.status["tunnels"]
        for session in tunnel["sessions"]
    ]


def _events(snapshot: Snapshot, _: Flows) -> list[Row]:
    return list(snapshot.events)


def _rate(values: Sequence[float]) -> str:
    return f"{size(values[-1])}/s" if values else "-"


def _flow(tunnel: Row) -> Flow:
    flow: Flow = tunnel[FLOW]
    return flow


def _reason(tunnel: Row) -> list[str]:
    words = printable(tunnel["reason"])
    advice = printable(tunnel["advice"])
    return [f"{words} -> {advice}" if advice else words]


def _tunnel_detail(tunnel: Row) -> Text:
    """Return a tunnel in full: at first what is wrong, if only one line fits."""
    text = Text()
    if tunnel["reason"]:
        retry = tunnel["retry_in"]
        again = f" (next attempt in {duration(retry + 1)})" if retry else ""
        words = f"{tunnel['name']}: {tunnel['state']}: {tunnel['reason']}{again}"
        text.append(f"{printable(words)}\n", state_style(tunnel))
    if tunnel["advice"]:
        text.append(f"-> {printable(tunnel['advice'])}\n", "bold")
    refusal, cure = describe_refusal(tunnel)
    if refusal:
        text.append(f"{refusal}\n")
    if cure:
        text.append(f"-> {cure}\n", "bold")
    listen = ", ".join(tunnel["listen"]) or "-"
    way = f"{listen} -> {tunnel['destination']} via {tunnel['target']}"
    return text.append(printable(f"{tunnel['name']}: {way}"))


def _connection_detail(row: Row) -> Text:
    who = " ".join(line for c in CONNECTION_COLUMNS[2:4] for line in c.lines(row))
    session = row["session_id"] or "no session yet"
    return Text(
        printable(
            f"{row['id']}: {who} from {row['peer']} -> {row['destination'] or '-'} "
            f"by {row['tunnel']}, {session} on {row['target'] or '-'}"
        )
    )


def _session_state(session: Row) -> list[str]:
    words = [session["phase"]]
    words += ["retiring"] * session["retiring"] + ["stalled"] * session["stalled"]
    return [" ".join(words)]


def _session_style(session: Row) -> str:
    if session["stalled"]:
        return "bold red"
    return "green" if session["phase"] == "ready" else "yellow"


def _session_detail(row: Row) -> Text:
    return Text(
        printable(
            f"{row['tunnel']} {row['number']}: {row['session_id'] or 'no id yet'}, "
            f"agent {row['agent'] or '-'} ({row['mode'] or '-'}), "
            f"{size(row['unacknowledged_bytes'])} of {size(row['window'])} "
            f"unacknowledged, {row['retransmitted']} retransmitted, "
            f"{counted(row['duplicates'], 'duplicate')}"
        )
    )


def _event_style(event: Row) -> str:
    return {"error": "bold red", "warning": "yellow"}.get(event["level"], "")


_OF_TUNNELS: Final = {column.heading: column for column in TUNNEL_COLUMNS}

TUNNELS: Final = Pane(
    name="tunnels",
    title="Tunnels",
    columns=(
        _OF_TUNNELS["NAME"],
        _OF_TUNNELS["STATE"],
        _OF_TUNNELS["CONNS"],
        Column("UP/S", 2, lambda m: [_rate(_flow(m).up)], right=True),
        Column("DOWN/S", 2, lambda m: [_rate(_flow(m).down)], right=True),
        Column("RTT", 5, lambda m: [milliseconds(least_rtt(m))], right=True),
        replace(_OF_TUNNELS["LISTEN"], rank=3),
        replace(_OF_TUNNELS["DESTINATION"], rank=4),
        _OF_TUNNELS["SESSIONS"],
        replace(_OF_TUNNELS["UP"], rank=8),
        replace(_OF_TUNNELS["DOWN"], rank=8),
        _OF_TUNNELS["VIA"],
        Column("REASON", 9, _reason),
    ),
    rows=_tunnels,
    key=lambda m: m["name"],
    tunnel=lambda m: str(m["name"]),
    detail=_tunnel_detail,
    rest="REASON",
    empty="no tunnels",
)

CONNECTIONS: Final = Pane(
    name="connections",
    title="Connections",
    columns=CONNECTION_COLUMNS,
    rows=_connections,
    key=lambda r: r["id"],
    tunnel=lambda r: str(r["tunnel"]),
    detail=_connection_detail,
    empty="nobody is connected",
)

SESSIONS: Final = Pane(
    name="sessions",
    title="Sessions",
    columns=(
        Column("TUNNEL", 0, lambda s: [printable(s["tunnel"])]),
        Column("NO", 0, lambda s: [str(s["number"])], right=True),
        Column("STATE", 0, _session_state, style=_session_style),
        Column("AGE", 1, lambda s: [duration(s["age"])], right=True),
        Column("CONNS", 1, lambda s: [str(s["streams"])], right=True),
        Column("RATE", 2, lambda s: [f"{size(s['rate'])}/s"], right=True),
        Column("RTT", 2, lambda s: [milliseconds(s["rtt"])], right=True),
        Column("RESENT", 5, lambda s: [str(s["retransmitted"])], right=True),
        Column("AGENT", 4, lambda s: [printable(s["agent"] or "-")]),
        Column("MODE", 6, lambda s: [s["mode"] or "-"]),
        Column("ID", 3, lambda s: [printable(s["session_id"] or "-")]),
    ),
    rows=_sessions,
    key=lambda s: (s["tunnel"], s["number"]),
    tunnel=lambda s: str(s["tunnel"]),
    detail=_session_detail,
    empty="no sessions",
)

EVENTS: Final = Pane(
    name="events",
    title="Events",
    columns=(
        Column("TIME", 1, lambda e: [event_time(e, "%H:%M:%S")]),
        Column("LEVEL", 3, lambda e: [e["level"]], style=_event_style),
        Column("EVENT", 0, lambda e: [printable(e["event"])], style=_event_style),
        Column("TUNNEL", 2, lambda e: [printable(e["tunnel"] or "-")]),
        Column("FACTS", 4, lambda e: [printable(event_facts(e))]),
    ),
    rows=_events,
    key=lambda e: (e["pid"], e["number"]),
    tunnel=lambda e: e["tunnel"],
    detail=lambda e: Text(event_line(e)),
    rest="FACTS",
    empty="no events",
    follows=True,
)

PANES: Final = (TUNNELS, CONNECTIONS, SESSIONS, EVENTS)
