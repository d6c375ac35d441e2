"""Rows, words and details of the panes."""

import pytest

from ssmtunneld.cli.terminal.live import Flows
from ssmtunneld.cli.top.daemon_source import Snapshot
from ssmtunneld.cli.top.panes import (
    CONNECTIONS,
    EVENTS,
    PANES,
    SESSIONS,
    TUNNELS,
    head,
    matching,
    notices,
)
from tests.cli.household import (
    connection_document,
    document,
    event_document,
    session_document,
    tunnel_document,
    waiting,
)

HOSTILE = "[red]x[/]\x1b[31m\u202ey"
CLEANED = "[red]x[/]\\u001b[31m\\u202ey"


def snapshot(*tunnels, connections=(), events=(), **changes):
    return Snapshot(
        document(*tunnels, **changes),
        {"version": 1, "connections": list(connections), "more": 0},
        tuple(events),
        1.0,
    )


def cells(pane, told, *before):
    """Return the rows of a pane by heading, after the snapshots ``before``."""
    flows = Flows()
    for each in (*before, told):
        flows.observe(each.status, each.at)
    return [
        {column.heading: ", ".join(column.lines(row)) for column in pane.columns}
        for row in pane.rows(told, flows)
    ]


def test_a_tunnel_has_the_words_of_status_and_its_rates():
    then = snapshot(tunnel_document(sent=0, received=0))
    later = Snapshot(
        document(tunnel_document(sent=2048, received=0, waiting=3)), {}, (), 2.0
    )
    (row,) = cells(TUNNELS, later, then)
    assert row["NAME"] == "db"
    assert row["STATE"] == "ready"
    assert row["CONNS"] == "2 (+3)"
    assert (row["UP/S"], row["DOWN/S"]) == ("2.0 KiB/s", "0 B/s")
    assert row["RTT"] == "4.2 ms"
    assert row["REASON"] == ""


def test_a_tunnel_in_trouble_has_reason_and_advice_in_its_row_and_in_full():
    told = snapshot(waiting(retry_in=4.0))
    (row,) = cells(TUNNELS, told)
    assert row["REASON"] == "nobody answers. -> start the agent"
    text = TUNNELS.detail(waiting(retry_in=4.0)).plain
    assert text.splitlines() == [
        "dead: waiting: nobody answers. (next attempt in 5s)",
        "-> start the agent",
        "dead: 127.0.0.1:5432 -> orders:5432 via i-0123456789abcdef0",
    ]


@pytest.mark.parametrize(("age", "is_told"), [(5.0, True), (5000.0, False)])
def test_a_recent_refusal_is_told(age, is_told):
    refusal = {"reason": "no such host", "advice": "look", "age": age}
    text = TUNNELS.detail(tunnel_document(last_refusal=refusal)).plain
    words = "connection to orders:5432 refused 5s ago: no such host\n-> look\n"
    assert (words in text) is is_told


def test_connections_are_those_of_the_command():
    told = snapshot(tunnel_document(), connections=[connection_document(pid=None)])
    (row,) = cells(CONNECTIONS, told)
    assert (row["ID"], row["TUNNEL"]) == ("7c1e0a-17", "db")
    assert row["PROGRAM"] == "-"
    text = CONNECTIONS.detail(connection_document(session_id=None, target=None)).plain
    assert text == (
        "7c1e0a-17: ada psql[812] from 127.0.0.1:40000 -> orders:5432 by db, "
        "no session yet on -"
    )


def test_sessions_are_listed_with_their_tunnel_and_their_trouble():
    sessions = [
        session_document(1),
        session_document(2, retiring=True, stalled=True),
        session_document(3, phase="starting", session_id=None, agent=None, mode=None),
    ]
    told = snapshot(tunnel_document(sessions=sessions))
    rows = cells(SESSIONS, told)
    assert [row["STATE"] for row in rows] == [
        "ready",
        "ready retiring stalled",
        "starting",
    ]
    assert {row["TUNNEL"] for row in rows} == {"db"}
    assert rows[2]["ID"] == "-"
    found = SESSIONS.rows(told, Flows())
    assert [SESSIONS.key(row) for row in found] == [("db", 1), ("db", 2), ("db", 3)]
    state = next(c for c in SESSIONS.columns if c.heading == "STATE")
    assert [state.style(row) for row in found] == ["green", "bold red", "yellow"]
    assert SESSIONS.detail(found[0]).plain == (
        "db 1: me-0123456789abcde01, agent 3.3.40.0 (mux), 0 B of 64.0 KiB "
        "unacknowledged, 0 retransmitted, 0 duplicates"
    )


def test_events_have_time_name_tunnel_and_facts():
    told = snapshot(
        tunnel_document(),
        events=[event_document(), event_document(2, tunnel=None, level="error")],
    )
    first, second = cells(EVENTS, told)
    assert first["EVENT"] == "session.started"
    assert first["TIME"].endswith(":04:05")
    assert first["FACTS"] == "session=me-1"
    assert second["TUNNEL"] == "-"
    assert EVENTS.tunnel(EVENTS.rows(told, Flows())[1]) is None
    assert EVENTS.detail(event_document()).plain.endswith(
        "info    session.started db session=me-1"
    )


@pytest.mark.parametrize("pane", PANES, ids=lambda p: p.name)
def test_text_from_elsewhere_is_cleaned_in_every_detail(pane):
    session = session_document(session_id=HOSTILE, agent=HOSTILE)
    told = snapshot(
        tunnel_document(
            sessions=[session],
            state="waiting",
            reason=HOSTILE,
            advice=HOSTILE,
            destination=HOSTILE,
            target=HOSTILE,
            last_refusal={"reason": HOSTILE, "advice": "", "age": 1.0},
        ),
        connections=[
            connection_document(user=HOSTILE, program=HOSTILE, destination=HOSTILE)
        ],
        events=[event_document(event=HOSTILE, facts={HOSTILE: HOSTILE})],
    )
    flows = Flows()
    flows.observe(told.status, 1.0)
    (row,) = pane.rows(told, flows)
    detail = pane.detail(row)
    assert CLEANED in detail.plain
    assert "\x1b" not in detail.plain
    assert "\u202e" not in detail.plain


def test_the_head_begins_with_what_matters():
    told = document(tunnel_document(), waiting(), draining=True)
    assert head(told, 1) == (
        "draining, 1 of 2 tunnels usable, 1 connection, ssmtunneld 1.0, pid 7, "
        "running for 1m 1s, /etc/c.toml"
    )
    told["tunnels"][1]["state"] = "disabled"
    assert head(told, 0).startswith("draining, 1 of 1 tunnel usable, 1 disabled, 0 ")
    assert ", running for 1m 1s, restarted 2x meanwhile, /etc/c.toml" in head(
        told, 1, restarts=2
    )


def test_notices_are_those_of_status():
    defect = {
        "compartment": "hook",
        "count": 2,
        "last": "Oops",
        "age": 3.0,
        "restart_in": None,
    }
    audit = {"file": "/x", "reason": "disk full", "lost": 3}
    identity = {
        "name": "prod",
        "tunnels": ["db"],
        "login_ends_at": 1100.0,
        "advice": "aws sso login",
    }
    told = document(
        tunnel_document(),
        defects=[defect],
        audit=audit,
        identities=[identity],
        config_error="no such key",
    )
    first, *found = notices(told, 1000.0)
    assert "no such key" in first
    assert [line.split()[0] for line in found] == ["hook", "audit", "login"]
    assert notices(document(tunnel_document()), 1000.0) == []


def test_a_filter_looks_at_words_and_not_at_numbers():
    rows = [connection_document("a-1", sent=77), connection_document("b-77")]
    assert [r["id"] for r in matching(rows, CONNECTIONS.columns, "77")] == ["b-77"]
    assert len(matching(rows, CONNECTIONS.columns, "PSQL")) == 2
    assert matching(rows, CONNECTIONS.columns, "mysql") == []
