"""Sessions as a table of any width, and as a document."""

import json

import pytest
from rich.console import Console

from ssmtunneld.aws.api.port import ActiveSession
from ssmtunneld.aws.sessions import Entry
from ssmtunneld.cli.commands.sessions.listing import (
    IdentitySessions,
    SessionRow,
    document,
    headline,
    lines_of,
    table,
)

NOW = 1_800_000_000.0
ALICE = "arn:aws:sts::111122223333:assumed-role/Admin/alice@example.com"
ID = "alice@example.com-0123456789abcdefghijklmnop"
TASK = f"ecs:prod_{'0' * 32}_{'1' * 32}-1234567890"
OURS = "ssmtunneld/0.1.0 me@host tunnel orders-db [0123456789ab/orders-db]"


def entry(session_id=ID, ended_at=0.0, **changes):
    facts = {
        "target": "i-0123456789abcdef0",
        "owner": ALICE,
        "reason": OURS,
        "status": "Connected",
        "document": "AWS-StartPortForwardingSession",
        "started_at": NOW - 3700,
        "max_duration": 3600.0,
        **changes,
    }
    return Entry(ActiveSession(session_id, **facts), ended_at)


def line(held="", **changes):
    return SessionRow(entry(**changes), "eu-west-1", held)


def found(*entries, more=False, region="eu-west-1", owner=ALICE):
    return IdentitySessions(entries, more, region, owner)


def drawn(*lines, width, past=False, everybody=False):
    console = Console(width=width, color_system=None)
    with console.capture() as caught:
        console.print(table(lines, width, past=past, everybody=everybody, now=NOW))
    rows = [row.rstrip() for row in caught.get().splitlines()]
    assert max(map(len, rows)) <= width
    return rows


def test_in_80_columns_an_id_stands_below_its_session():
    assert drawn(line(), line(held="web", reason=""), width=80) == [
        "STATE        AGE  TARGET               TUNNEL     HELD  STARTED",
        "Connected  1h 1m  i-0123456789abcdef0  orders-db        2027-01-15 06:58Z",
        f"           {ID}",
        "Connected  1h 1m  i-0123456789abcdef0  web        yes   2027-01-15 06:58Z",
        f"           {ID}",
    ]


def test_a_wide_table_and_a_pipe_have_one_line_for_each_session():
    heading, row = drawn(line(held="orders-db"), width=500)
    assert heading.split() == [
        *("ID", "STATE", "AGE", "TARGET", "TUNNEL", "HELD"),
        *("OWNER", "STARTED", "DOCUMENT", "REASON"),
    ]
    for words in (ID, "1h 1m", "orders-db  yes", ALICE, "2027-01-15 06:58Z", OURS):
        assert words in row


def test_without_a_daemon_nothing_is_said_of_what_it_holds():
    for width in (80, 500):
        assert "HELD" not in drawn(line(held=None), width=width)[0]


def test_past_sessions_have_lasted_and_are_held_by_nobody():
    heading, row, _ = drawn(
        line(ended_at=NOW - 3600, status="Terminated"), width=80, past=True
    )
    assert heading.split()[:3] == ["STATE", "LASTED", "TARGET"]
    assert "HELD" not in heading
    assert row.startswith("Terminated  1m 40s")


def test_what_is_long_is_shortened_in_a_narrow_table_only():
    long = line(target=TASK, owner=f"{ALICE}.{'x' * 99}", held=None)
    rows = drawn(long, width=80, everybody=True)
    assert "ecs:prod_0000000000000000..." in rows[1]
    assert "Admin/alice@example.com.x..." in rows[1]
    rows = drawn(long, width=1000, everybody=True)
    assert TASK in rows[1]
    assert f"{ALICE}.{'x' * 99}" in rows[1]


def test_somebodys_reason_stands_beside_the_id_where_there_is_no_column():
    rows = drawn(line(reason="INC-123", held=None), width=80)
    assert rows[-1].endswith(f"{ID}: INC-123")


def test_what_is_not_known_is_a_dash():
    row = drawn(line(started_at=0.0, reason="", owner="root", held=None), width=300)[1]
    assert row.split()[2:6] == ["-", "i-0123456789abcdef0", "-", "root"]


def test_no_terminal_obeys_what_a_service_says():
    evil = "\x1b[2J\x9b1m\u202e\r\n"
    texts = {
        key: f"{key}{evil}end"
        for key in ("target", "owner", "reason", "status", "document")
    }
    for width in (80, 600):
        rows = drawn(line(session_id=f"id{evil}", **texts), width=width)
        assert all(row.isprintable() for row in rows)
        assert "id\\u001b[2J" in "".join(rows)
    text = json.dumps(
        document([line(**texts)], past=False, truncated=False, now=NOW), indent=2
    )
    assert text.replace("\n", "").isascii()
    assert "\x1b" not in text


def test_the_document_has_every_fact():
    (told,) = document([line(held="db")], past=False, truncated=True, now=NOW)[
        "sessions"
    ]
    assert told == {
        "id": ID,
        "state": "Connected",
        "target": "i-0123456789abcdef0",
        "document": "AWS-StartPortForwardingSession",
        "owner": ALICE,
        "reason": OURS,
        "tunnel": "db",
        "held": True,
        "region": "eu-west-1",
        "started": "2027-01-15T06:58:20Z",
        "ended": None,
        "duration": 3700.0,
        "max_duration": 3600.0,
    }
    past = document(
        [line(held=None, started_at=0.0, ended_at=NOW, reason="")],
        past=True,
        truncated=False,
        now=NOW,
    )
    assert (past["version"], past["history"], past["truncated"]) == (1, True, False)
    assert (
        past["sessions"][0] | {"ended": "2027-01-15T08:00:00Z"} == past["sessions"][0]
    )
    unknown = ("tunnel", "held", "started", "duration")
    assert [past["sessions"][0][key] for key in unknown] == [None] * 4


def test_a_clock_that_is_behind_makes_no_negative_age():
    assert line(started_at=NOW + 5).lasted(NOW) == 0.0


def test_the_newest_of_all_identities_come_first_and_once():
    old, new = entry("old", started_at=1.0), entry("new", started_at=2.0)
    lines, more = lines_of([found(old), found(new, old)], {"new": "db"}, 2)
    assert [(x.entry.session.session_id, x.held) for x in lines] == [
        ("new", "db"),
        ("old", ""),
    ]
    assert not more
    # The same id elsewhere is another session.
    lines, more = lines_of([found(old), found(old, region="eu-north-1")], None, 9)
    assert [x.held for x in lines] == [None, None]


@pytest.mark.parametrize(("limit", "rest"), [(1, False), (2, True)])
def test_it_is_said_that_there_are_more(limit, rest):
    entries = entry("old", started_at=1.0), entry("new", started_at=2.0)
    lines, more = lines_of([found(*entries, more=rest)], None, limit)
    assert (len(lines), more) == (limit, True)
    assert lines[0].entry.session.session_id == "new"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([found()], f"2 active sessions of {ALICE} in eu-west-1"),
        (
            [found(), found(owner="b", region="a\x1b")],
            "2 active sessions of 2 identities in a\\u001b, eu-west-1",
        ),
        ([found(owner=None)], "2 active sessions of everybody in eu-west-1"),
    ],
)
def test_the_headline_says_whose_and_where(told, words):
    assert headline(told, 2, past=False) == words


def test_the_headline_says_that_they_are_over():
    assert headline([found()], 1, past=True).startswith("1 past session of ")
