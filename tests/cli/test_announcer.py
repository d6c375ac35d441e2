"""Announcements of tunnels as they come up."""

import io

import pytest

from ssmtunneld.cli.announcer import Announcer
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.main import describe
from tests.cli.household import document, tunnel_document, waiting

STARTING = {"state": "starting", "usable": False}


def lines(stream):
    return stream.getvalue().splitlines()


def test_a_tunnel_is_told_once_when_it_listens_and_once_when_it_is_ready():
    announcer = Announcer(stream := io.StringIO(), live=False)
    assert not announcer.observe(document(tunnel_document(listen=[], **STARTING)), 0)
    assert lines(stream) == []
    assert not announcer.observe(document(tunnel_document(**STARTING)), 1)
    assert announcer.observe(document(tunnel_document()), 2)
    assert announcer.observe(document(tunnel_document()), 3)
    assert lines(stream) == [
        "db: listening on 127.0.0.1:5432 -> i-0123456789abcdef0 -> orders:5432",
        "db: ready",
    ]
    announcer.close()


def test_trouble_is_told_when_it_comes_and_when_it_has_gone():
    announcer = Announcer(stream := io.StringIO(), live=False)
    trouble = {"state": "retrying", "usable": False, "reason": "no way.", "advice": "x"}
    for status in (
        tunnel_document(),
        tunnel_document(**trouble),
        tunnel_document(**trouble),
        tunnel_document(),
    ):
        announcer.observe(document(status), 0)
    assert lines(stream)[1:] == ["db: ready", "db: retrying: no way; x", "db: ready"]


def test_trouble_without_a_reason_is_told_when_it_has_gone_as_well():
    announcer = Announcer(stream := io.StringIO(), live=False)
    for status in (
        tunnel_document(),
        tunnel_document(state="resuming", usable=False),
        tunnel_document(**STARTING),
        tunnel_document(),
        tunnel_document(state="resuming", usable=False),
        tunnel_document(),
    ):
        announcer.observe(document(status), 0)
    told = ["db: ready", "db: resuming"] * 2
    assert lines(stream)[1:] == [*told, "db: ready"]


def test_one_that_starts_on_demand_is_ready():
    announcer = Announcer(io.StringIO(), live=False)
    idle = tunnel_document(state="idle", usable=False)
    assert announcer.observe(document(idle), 0)


def test_of_two_reasons_that_alternate_each_is_told_once():
    announcer = Announcer(stream := io.StringIO(), live=False)
    for reason in ("no", "never", "no", "never"):
        trouble = tunnel_document(state="retrying", usable=False, reason=reason)
        announcer.observe(document(trouble), 0)
    assert lines(stream)[1:] == ["db: retrying: no", "db: retrying: never"]


def hopeless(state, reason="it is wrong"):
    return tunnel_document(
        state=state, usable=False, reason=reason, advice="stop", lasting=True
    )


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("failed", 4),
        ("unbound", 1),
        ("needs_login", 4),
        ("waiting", 4),
        ("retrying", 4),
    ],
)
def test_what_nobody_will_mend_is_an_error_and_the_only_line(state, code):
    announcer = Announcer(stream := io.StringIO(), live=False)
    with pytest.raises(CommandError) as caught:
        announcer.observe(document(hopeless(state)), 0)
    assert describe(caught.value) == ["db: giving up: it is wrong; stop"]
    assert caught.value.code == code
    assert len(lines(stream)) == 1, "that it listens"


@pytest.mark.parametrize("state", ["needs_login", "retrying", "waiting"])
def test_once_all_were_ready_a_login_is_awaited(state):
    announcer = Announcer(stream := io.StringIO(), live=False)
    announcer.observe(document(tunnel_document()), 0)
    assert not announcer.observe(document(hopeless(state)), 1)
    assert lines(stream)[-1] == f"db: {state}: it is wrong; stop"
    with pytest.raises(CommandError):
        announcer.observe(document(hopeless("failed")), 2)


def test_what_may_pass_is_awaited():
    announcer = Announcer(io.StringIO(), live=False)
    assert not announcer.observe(document(waiting()), 0)


def test_on_a_terminal_a_line_below_says_what_moves():
    announcer = Announcer(stream := io.StringIO(), live=True)
    announcer.observe(document(tunnel_document(sent=0, received=0, connections=1)), 10)
    announcer.observe(
        document(tunnel_document(sent=2048, received=10, connections=2)), 12
    )
    live = "up 1.0 KiB/s  down 5 B/s  2 connections  (Ctrl-C ends)"
    assert stream.getvalue().endswith(f"\r\x1b[K{live}")
    again = tunnel_document(sent=4096, received=20, connections=2, state="resuming")
    announcer.observe(document({**again, "usable": False, "reason": "cut"}), 14)
    assert stream.getvalue().endswith(f"\r\x1b[Kdb: resuming: cut\n{live}")
    announcer.close()
    assert stream.getvalue().endswith("\r\x1b[K")


def refused(count, reason="the target could not connect to it", **changes):
    refusal = {"reason": reason, "advice": "look there", "age": 0.1}
    return document(tunnel_document(refused=count, last_refusal=refusal, **changes))


def test_a_refused_connection_is_told_with_its_destination_and_the_cure():
    announcer = Announcer(stream := io.StringIO(), live=False)
    announcer.observe(document(tunnel_document()), 0)
    assert announcer.observe(refused(1), 1)
    assert lines(stream)[2:] == [
        "db: 1 connection to orders:5432 refused: the target could not connect to it; "
        "look there"
    ]


def test_the_same_refusal_is_told_again_only_after_a_while_with_their_number():
    announcer = Announcer(stream := io.StringIO(), live=False)
    for now, count in ((0, 1), (1, 2), (20, 5), (31, 5), (90, 5)):
        announcer.tell_refusals(refused(count), now)
    assert [line.split(" to ")[0] for line in lines(stream)] == [
        "db: 1 connection",
        "db: 4 connections",
    ]
    announcer.tell_refusals(refused(6, reason="something else"), 91)
    assert "something else" in lines(stream)[-1]


def test_a_refusal_without_a_known_destination_or_reason_is_told_as_well():
    announcer = Announcer(stream := io.StringIO(), live=False)
    announcer.tell_refusals(refused(1, reason="", mode="socks5"), 0)
    assert lines(stream) == ["db: 1 connection refused: nobody knows why; look there"]


def test_why_it_is_on_another_port_is_told_once():
    stream = io.StringIO()
    announcer = Announcer(stream, live=False, notes={"db": "5432 is taken"})
    announcer.observe(document(tunnel_document()), 0)
    announcer.observe(document(tunnel_document()), 1)
    assert lines(stream)[1:] == [
        "db: any port, because 5432 is taken; --listen chooses",
        "db: ready",
    ]


def test_quietly_only_trouble_and_its_end_are_told():
    stream = io.StringIO()
    announcer = Announcer(stream, live=False, quiet=True, notes={"db": "why"})
    assert announcer.observe(document(tunnel_document()), 0)
    assert lines(stream) == []
    trouble = {"state": "retrying", "usable": False, "reason": "no way."}
    announcer.observe(document(tunnel_document(**trouble)), 1)
    announcer.observe(document(tunnel_document()), 2)
    announcer.observe(refused(1), 3)
    assert [line.split(":")[1] for line in lines(stream)[:2]] == [" retrying", " ready"]
    assert len(lines(stream)) == 3
