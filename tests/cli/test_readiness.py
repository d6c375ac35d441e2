"""Waiting for tunnels, on a clock that the test owns."""

import pytest

from ssmtunneld.cli.daemon_client import Daemon, NotAnswering, NotRunning
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.readiness import (
    POLL_INTERVAL,
    Patience,
    await_ready,
    not_ready,
)
from tests.cli.household import document, off, tunnel_document, waiting


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self):
        self.now = 100.0

        self.told = []

    def pause(self, seconds):
        self.now += seconds

    def tell(self, line):
        self.told.append((round(self.now - 100, 1), line))

    def patience(self, timeout):
        return Patience(timeout, lambda: self.now, self.pause, self.tell)


@pytest.fixture
def clock():
    return Clock()


def looks(*found):
    """Return what gives one document after the other; an exception is none."""
    remaining = list(found)

    def look():
        now = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        if isinstance(now, Exception):
            raise now
        return Daemon(None, 1, now)

    return look


READY = document(tunnel_document())
LATE = document(tunnel_document(state="starting", usable=False))


def test_tunnels_that_are_ready_are_not_waited_for(clock):
    assert await_ready(looks(READY), [], clock.patience(60)).document == READY
    assert clock.now == 100


def test_tunnels_may_get_ready_and_daemons_may_come_late(clock):
    daemon = await_ready(
        looks(NotRunning(), NotAnswering(7), LATE, LATE, READY), [], clock.patience(60)
    )
    assert daemon.document == READY
    assert clock.now == pytest.approx(100 + 4 * POLL_INTERVAL)


def test_those_that_are_late_are_named_with_their_reasons(clock):
    seen = document(
        tunnel_document("web"), waiting("dead"), waiting("x", reason="", advice="")
    )
    with pytest.raises(CommandError) as caught:
        await_ready(looks(seen), [], clock.patience(1))
    assert str(caught.value) == "not ready within 1 s: dead, x"
    assert caught.value.code == 1
    assert caught.value.problems == (
        "dead: waiting: nobody answers; start the agent",
        "x: waiting",
    )
    assert clock.now == pytest.approx(101)


def test_a_daemon_that_never_comes_does_not_run(clock):
    with pytest.raises(NotRunning):
        await_ready(looks(NotRunning()), [], clock.patience(0.5))
    with pytest.raises(NotRunning):
        await_ready(looks(LATE, NotRunning()), [], clock.patience(0.1))
    assert clock.now == pytest.approx(100.6)


def test_a_daemon_that_can_never_be_asked_is_no_missing_one(clock):
    with pytest.raises(NotAnswering, match="pid 7"):
        await_ready(looks(NotAnswering(7)), [], clock.patience(1))
    assert clock.now == pytest.approx(101)


def test_a_daemon_on_its_way_to_its_end_is_not_the_one(clock):
    leaving = document(tunnel_document(), draining=True)
    assert await_ready(looks(leaving, READY), [], clock.patience(1)).document == READY
    with pytest.raises(NotRunning):
        await_ready(looks(leaving), [], clock.patience(1))


def test_a_timeout_of_nothing_looks_once(clock):
    assert await_ready(looks(READY), ["db"], clock.patience(0))
    with pytest.raises(CommandError):
        await_ready(looks(LATE, READY), ["db"], clock.patience(0))


def test_a_tunnel_that_does_not_exist_ends_the_waiting_at_once(clock):
    with pytest.raises(CommandError) as caught:
        await_ready(looks(READY), ["dbx"], clock.patience(60))
    assert (caught.value.code, clock.now) == (2, 100)


def test_after_a_while_it_says_what_it_waits_for_and_when_that_changes(clock):
    worse = document(waiting("db"), waiting("web"))
    seen = [*[NotRunning()] * 12, *[LATE] * 3, *[worse] * 9, READY]
    await_ready(looks(*seen), [], clock.patience(60))
    assert clock.told == [
        (2.0, "waiting up to 60 s for a daemon"),
        (2.4, "waiting up to 60 s for db (starting)"),
        (
            3.0,
            "waiting up to 60 s for db, web (waiting: nobody answers; start the agent)",
        ),
    ]


@pytest.mark.parametrize(
    ("state", "reason", "advice", "lasting", "told"),
    [
        (
            "unbound",
            "127.0.0.1:5432: Address already in use",
            "choose another port",
            True,
            "unbound: 127.0.0.1:5432: Address already in use; choose another port",
        ),
        ("unbound", "", "", False, "unbound"),
        ("needs_login", "expired", "log in", True, "needs_login: expired; log in"),
        (
            "awaiting_approval",
            "oi-1 awaits",
            "",
            False,
            "awaiting_approval: oi-1 awaits",
        ),
        ("retrying", "no answer", "look", False, "retrying: no answer; look"),
        ("paused", "by an operator", "resume", False, "paused: by an operator; resume"),
        ("starting", "", "", False, "starting"),
    ],
)
def test_what_is_awaited_is_told_with_reason_and_advice(
    clock, state, reason, advice, lasting, told
):
    facts = {"reason": reason, "advice": advice, "lasting": lasting}
    seen = document(tunnel_document(state=state, usable=False, **facts))
    with pytest.raises(CommandError):
        await_ready(looks(seen), [], clock.patience(3))
    assert clock.told == [(2.0, f"waiting up to 3 s for db ({told})")]


@pytest.mark.parametrize(
    ("lasting", "told"),
    [(False, ["a"]), (True, ["a", "b"])],
)
def test_another_reason_is_news_only_where_it_stays(clock, lasting, told):
    facts = {"state": "retrying", "usable": False, "lasting": lasting}
    a, b = (document(tunnel_document(reason=r, **facts)) for r in ("a", "b"))
    with pytest.raises(CommandError):
        await_ready(looks(*[a] * 12, b), [], clock.patience(5))
    expected = [f"waiting up to 5 s for db (retrying: {reason})" for reason in told]
    assert [line for _, line in clock.told] == expected


def test_a_short_wait_is_silent(clock, capsys):
    await_ready(looks(LATE, READY), [], clock.patience(60))
    assert clock.told == []
    Patience(1).tell("words")
    assert capsys.readouterr() == ("", "ssmtunneld: words\n")


def test_without_names_only_required_tunnels_count():
    seen = document(waiting("optional", required=False), waiting("needed"))
    assert [m["name"] for m in not_ready(seen, [])] == ["needed"]
    assert [m["name"] for m in not_ready(seen, ["optional"])] == ["optional"]
    assert not_ready(document(), []) == []


@pytest.mark.parametrize(
    ("state", "usable", "ready"),
    [
        ("ready", True, True),
        ("resuming", True, True),
        ("starting", False, False),
        ("ready", None, True),
        ("idle", None, True),
        ("resuming", None, False),
    ],
)
def test_the_daemon_says_what_is_usable_and_older_ones_only_the_state(
    state, usable, ready
):
    one = tunnel_document(state=state, usable=usable)
    assert (not_ready(document(one), []) == []) is ready
    if usable is None:
        del one["usable"]
        assert (not_ready(document(one), []) == []) is ready


def test_the_usual_clock_goes_on_and_the_usual_pause_ends():
    patience = Patience(1)
    before = patience.clock()
    patience.pause(0.001)
    assert patience.clock() > before


def test_what_is_disabled_is_not_waited_for_unless_it_is_named(clock):
    found = document(
        tunnel_document("a", groups=["x"]),
        off("b", groups=["x"]),
        waiting("c", required=False),
    )
    assert not_ready(found, ()) == []
    assert not_ready(found, (), ("x",)) == []
    assert await_ready(looks(found), (), clock.patience(0), ("x",)).document is found
    with pytest.raises(CommandError, match="b is disabled"):
        await_ready(looks(found), ("b",), clock.patience(60))
    assert clock.now == 100.0


def test_a_group_s_tunnels_are_waited_for_whether_they_are_required_or_not(clock):
    late = document(waiting("c", required=False, groups=["x"]))
    with pytest.raises(CommandError, match="not ready within 5 s: c"):
        await_ready(looks(late), (), clock.patience(5), ("x",))


def test_a_target_has_longer_to_start_and_its_progress_is_told(clock):
    states = [
        tunnel_document(state="waking", reason=reason)
        for reason in ("starting bastion i-1: pending", "bastion i-1 runs")
    ]

    def look():
        index = int(clock.now - 100 >= 39.9)
        return Daemon(None, 4, document(states[index]))

    with pytest.raises(CommandError, match="not ready within 180 s: db"):
        await_ready(look, ["db"], clock.patience(60))
    assert [line for _, line in clock.told] == [
        "waiting up to 180 s for db (waking: starting bastion i-1: pending)",
        "waiting up to 180 s for db (waking: bastion i-1 runs)",
    ]
    clock.told.clear()
    patient = Patience(5, lambda: clock.now, clock.pause, clock.tell, start_timeout=5)
    with pytest.raises(CommandError, match="not ready within 5 s"):
        await_ready(look, ["db"], patient)
