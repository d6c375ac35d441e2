"""Tables that fit: what has no room is left out, and nothing is cut."""

import pytest
from rich.console import Console

from ssmtunneld.cli.terminal.table import (
    UNLIMITED,
    audit_notices,
    config_notices,
    defect_notices,
    headline,
    login_notices,
    open_console,
    status_table,
)
from tests.cli.household import document, off, tunnel_document, waiting

LONG_HOST = "orders.cluster-abc.eu-west-1.rds.amazonaws.com:5432"


def drawn(tunnels, width):
    """Return the lines of the table without the blanks at their ends."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(status_table(tunnels, width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_with_room_there_is_everything():
    head, row = drawn([tunnel_document(waiting=3)], 200)
    assert head.split() == [
        *("NAME", "STATE", "LISTEN", "DESTINATION", "VIA"),
        *("SESSIONS", "CONNS", "UP", "DOWN"),
    ]
    assert row.split() == [
        *("db", "ready", "127.0.0.1:5432", "orders:5432", "i-0123456789abcdef0"),
        *("1", "2", "(+3)", "2.0", "KiB", "5", "B"),
    ]


def test_what_has_no_room_is_left_out_whole():
    head, row = drawn([tunnel_document("orders-db", destination=LONG_HOST)], 80)
    assert head.split() == [
        "NAME",
        "STATE",
        "LISTEN",
        "SESSIONS",
        "CONNS",
        "UP",
        "DOWN",
    ]
    assert "orders-db  ready  127.0.0.1:5432" in row
    assert "…" not in head + row
    head, row = drawn([tunnel_document(destination="db:1")], 80)
    assert "DESTINATION" in head
    assert "VIA" not in head


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width):
    tunnels = [
        tunnel_document("a" * 30, destination=LONG_HOST),
        waiting(reason="long " * 99),
    ]
    assert max(map(len, drawn(tunnels, width))) <= width


@pytest.mark.parametrize("width", [12, 30])
def test_even_the_narrowest_terminal_gets_every_letter(width):
    lines = drawn(
        [tunnel_document("orders-database", listen=["unix:/run/x.sock"])], width
    )
    letters = "".join("".join(lines).split())
    assert sorted(letters) == sorted(
        "NAMESTATELISTENorders-databasereadyunix:/run/x.sock"
    )


def test_each_address_has_a_line_and_none_a_dash():
    _, first, second, third = drawn(
        [
            tunnel_document(listen=["127.0.0.1:1", "unix:/tmp/x"]),
            tunnel_document("n", listen=[]),
        ],
        200,
    )
    assert "127.0.0.1:1" in first
    assert second.strip() == "unix:/tmp/x"
    assert third.split()[:3] == ["n", "ready", "-"]


def test_trouble_has_its_reason_and_what_to_do_below():
    lines = drawn([waiting(retry_in=11.5), waiting("x", advice="")], 200)
    assert [line.strip() for line in lines[2:4]] == [
        "nobody answers. (next attempt in 12s)",
        "-> start the agent",
    ]
    assert lines[2].startswith("      ")
    assert len(lines) == 6


def test_reasons_are_wrapped_between_words_and_never_cut():
    reason = " ".join(f"word{number}" for number in range(40))
    lines = drawn([waiting(reason=reason, advice="")], 80)
    assert " ".join(" ".join(lines[2:]).split()) == reason


def test_what_others_say_cannot_move_the_cursor_or_look_like_markup():
    lines = drawn([waiting(reason="\x1b[2J[bold]x", target="\x1b[H")], 200)
    assert "\x1b" not in "".join(lines)
    assert lines[2].strip() == "\\u001b[2J[bold]x"


def test_without_tunnels_there_are_only_headings():
    assert len(drawn([], 80)) == 1


def test_the_headline_tells_the_daemon_and_how_many_are_usable():
    assert headline(document(tunnel_document(), waiting())) == (
        "ssmtunneld 1.0, pid 7, running for 1m 1s, /etc/c.toml: 1 of 2 tunnels usable"
    )
    assert headline(document(tunnel_document(), draining=True)).endswith(
        "1 of 1 tunnel usable, draining"
    )


def test_the_headline_counts_disabled_tunnels_apart_and_names_groups():
    found = document(tunnel_document(), off(), groups=["orders"])
    assert headline(found).endswith(
        "/etc/c.toml (group orders): 1 of 1 tunnel usable, 1 disabled"
    )
    found = document(tunnel_document(), groups=["a", "b"], draining=True)
    assert headline(found).endswith("(groups a, b): 1 of 1 tunnel usable, draining")


def test_an_idle_tunnel_counts_as_usable():
    idle = tunnel_document(state="idle", sessions=[])
    assert headline(document(idle, waiting())).endswith("1 of 2 tunnels usable")


@pytest.mark.parametrize("width", range(50, 130, 5))
def test_up_is_never_shown_without_down(width):
    wide = tunnel_document("orders-db", destination=LONG_HOST, sent=10**9, received=1)
    head = drawn([wide], width)[0].split()
    assert ("UP" in head) == ("DOWN" in head)


@pytest.mark.parametrize(
    ("columns", "width"),
    [
        *((None, UNLIMITED), ("80", 80), ("200", 200)),
        # What is no width says nothing of one.
        *((text, UNLIMITED) for text in ("", "0", "-5", "x", "9" * 20)),
    ],
)
def test_a_pipe_gets_whole_lines_unless_told_otherwise(
    home, monkeypatch, columns, width
):
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    console = open_console()
    assert (console.width, console.color_system) == (width, None)


class Terminal:
    """A standard output that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True

    def fileno(self):
        raise OSError

    def write(self, text):
        pass

    def flush(self):
        pass


@pytest.mark.parametrize(
    ("no_color", "coloured"), [(None, True), ("", True), ("1", False)]
)
def test_a_terminal_is_coloured_unless_that_is_unwanted(
    home, monkeypatch, no_color, coloured
):
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    assert (open_console().color_system is not None) is coloured


def identity(**changes):
    usual = {
        "name": "prod",
        "tunnels": ["db"],
        "login_ends_at": 1720.0,
        "advice": "run: ssmtunneld login db",
    }
    return {**usual, **changes}


def test_a_login_that_ends_soon_is_mentioned():
    told = document(tunnel_document(), identities=[identity()])
    assert login_notices(told, told["tunnels"], 1000.0) == [
        "login of prod ends in 12 min -> run: ssmtunneld login db"
    ]


@pytest.mark.parametrize(
    ("who", "state", "now"),
    [
        (identity(), "ready", 500.0),  # there is time enough
        (identity(), "ready", 1800.0),  # it is over: the state says so
        (identity(), "needs_login", 1000.0),
        (identity(tunnels=["other"]), "ready", 1000.0),
        (identity(login_ends_at=None), "ready", 1000.0),
    ],
)
def test_other_logins_are_not(who, state, now):
    told = document(tunnel_document(state=state), identities=[who])
    assert login_notices(told, told["tunnels"], now) == []


def test_an_older_daemon_knows_nothing_of_logins():
    assert login_notices(document(tunnel_document()), [tunnel_document()], 0.0) == []


def defect(**changes):
    usual = {
        "compartment": "http",
        "count": 2,
        "last": "defect: ValueError at serve/http_server.py:7",
        "age": 61.0,
        "restart_in": None,
    }
    return {**usual, **changes}


def test_what_broke_is_told_of_the_daemon_and_of_the_tunnels_that_are_shown():
    broken = tunnel_document(
        defects=[defect(compartment="probe", count=1, restart_in=3.2)]
    )
    hidden = tunnel_document(name="hidden", defects=[defect()])
    told = document(broken, hidden, defects=[defect()])
    assert defect_notices(told, [broken]) == [
        "http of the daemon broke 2 times, 1m 1s ago: defect: ValueError at "
        "serve/http_server.py:7 -> please report it with the log's line",
        "probe of db broke 1 time, 1m 1s ago, started again in 4s: defect: ValueError "
        "at serve/http_server.py:7 -> please report it with the log's line",
    ]


def test_an_audit_log_with_gaps_is_told():
    audit = {"file": "/a\n.jsonl", "waiting": 9, "lost": 0, "reason": ""}
    assert audit_notices(document(audit=audit)) == []
    failing = {**audit, "lost": 1, "reason": "No space left on device"}
    assert audit_notices(document(audit=failing)) == [
        "audit log /a .jsonl cannot be written: No space left on device; 1 line lost"
    ]
    assert audit_notices(document(audit={**failing, "reason": ""})) == [
        "audit log /a .jsonl can be written again; 1 line lost"
    ]
    assert audit_notices(document(audit=None)) == audit_notices(document()) == []


def test_an_older_daemon_knows_nothing_of_defects():
    assert defect_notices(document(tunnel_document()), [tunnel_document()]) == []


def test_a_recent_refusal_is_told_below_and_an_old_one_is_not():
    def told(age):
        refusal = {"reason": "could not connect", "advice": "look", "age": age}
        return drawn([tunnel_document(last_refusal=refusal)], 200)[2:]

    assert [line.strip() for line in told(12.0)] == [
        "connection to orders:5432 refused 12s ago: could not connect",
        "-> look",
    ]
    assert told(3600.0) == []


def test_the_reason_for_the_state_comes_before_a_refusal_of_earlier():
    refusal = {"reason": "could not connect", "advice": "look", "age": 12.0}
    tunnel = tunnel_document(
        state="paused", reason="paused", advice="resume", last_refusal=refusal
    )
    assert [line.strip() for line in drawn([tunnel], 200)[2:]] == [
        "paused",
        "-> resume",
        "connection to orders:5432 refused 12s ago: could not connect",
        "-> look",
    ]


def test_a_rejected_file_is_told_with_what_to_do():
    assert config_notices(document(config_error="line 3: no\x1b key")) == [
        "the changed configuration was rejected, the previous one is in use: "
        "line 3: no\\u001b key -> ssmtunneld check"
    ]
    assert config_notices(document(config_error="")) == config_notices(document()) == []
