"""``ssmtunneld connections``: a table, a document, and whom it asks."""

import json

import pytest

from tests.cli.household import (
    Household,
    call,
    connection_document,
    document,
    older_daemon,
    serving,
    serving_app,
    tunnel_document,
)


def test_a_table_says_who_is_connected(operator, capsys):
    operator.present = [
        connection_document(),
        connection_document(
            "7c1e0a-18",
            user=None,
            pid=None,
            program=None,
            session=None,
            target=None,
            destination="",
            peer="10.0.0.9:1",
        ),
    ]
    code, out, err = call(capsys, "connections")
    first, heads, *rows = out.splitlines()
    assert (code, err, first) == (0, "", "2 open connections")
    assert heads.split() == [
        *("ID", "TUNNEL", "USER", "PROGRAM", "AGE", "UP", "DOWN", "UP/S", "DOWN/S"),
        *("DESTINATION", "SESSION", "FROM"),
    ]
    assert " ".join(rows[0].split()) == (
        "7c1e0a-17 db ada psql[812] 1m 1s 2.0 KiB 5 B 1.0 KiB/s 0 B/s "
        "orders:5432 3 on i-0123456789abcdef0 127.0.0.1:40000"
    )
    assert " ".join(rows[1].split()).startswith("7c1e0a-18 db - - 1m 1s")
    assert " ".join(rows[1].split()).endswith("- waiting 10.0.0.9:1")


def test_nobody_is_one_line(operator, capsys):
    assert call(capsys, "connections") == (0, "0 open connections\n", "")


def test_what_there_was_no_room_for_is_counted(operator, capsys):
    operator.present, operator.more = [connection_document()], 41
    _, out, _ = call(capsys, "connections")
    assert out.startswith("42 open connections, 41 of them not shown\n")


def test_a_name_selects_a_tunnel(home, capsys):
    household = Household(document(tunnel_document("db"), tunnel_document("web")))
    household.present = [
        connection_document("a-1", tunnel="web"),
        connection_document("a-2"),
    ]
    with serving(household):
        code, out, _ = call(capsys, "connections", "web", "--json")
        assert call(capsys, "connections", "nobody")[0] == 2
    assert code == 0
    assert [c["id"] for c in json.loads(out)["connections"]] == ["a-1"]
    assert household.asked == ["connections web"]


def test_names_of_programs_cannot_move_the_cursor(operator, capsys):
    operator.present = [connection_document(program="\x1b[2Jpsql\n", user="a\x07")]
    _, out, _ = call(capsys, "connections")
    assert "\\u001b[2Jpsql" in out
    assert "a\\u0007" in out


def test_a_daemon_that_knows_no_connections_is_told_to_be_restarted(home, capsys):
    with serving_app(older_daemon(document(tunnel_document()))):
        code, _, err = call(capsys, "connections")
    assert code == 1
    assert "restart it" in err


def test_without_a_daemon_it_ends_with_3(home, capsys):
    assert call(capsys, "connections")[0] == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--json", "--watch"], "exclude each other"),
        (["--watch"], "--watch needs a terminal"),
        (["a", "b"], "unexpected"),
    ],
)
def test_wrong_usage_is_one_line(operator, capsys, options, words):
    code, out, err = call(capsys, "connections", *options)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert words in err


def test_watching_asks_again(operator, monkeypatch, capsys):
    drawn = []

    def watch(fetch):
        drawn.extend([fetch(), fetch()])

    monkeypatch.setattr(
        "ssmtunneld.cli.terminal.connection_table.watch_connections", watch
    )
    operator.present = [connection_document()]
    assert call(capsys, "connections", "--watch") == (0, "", "")
    assert operator.asked == ["connections"] * 3
    assert [len(each["connections"]) for each in drawn] == [1, 1]
