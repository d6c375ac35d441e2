"""``ssmtunneld request``: what it asks the daemon, and what it waits for."""

import itertools

import pytest

from ssmtunneld.cli.commands import request
from ssmtunneld.cli.daemon_client import NotRunning
from tests.cli.household import (
    Busy,
    Household,
    call,
    document,
    off,
    older_daemon,
    serving,
    serving_app,
    tunnel_document,
)

ID = "oi-0123456789ab"


def with_access(outcome=None, *, granted=False, usable=None, **changes):
    """Return the status document of a daemon whose tunnel needs access."""
    access = {
        "granted": granted,
        "expires_at": None,
        "request_id": None if outcome is None else ID,
        "request": outcome,
        "target": None if outcome is None else "i-0123456789abcdef0",
        "reason": "",
        "asked_at": None,
    }
    usable = granted if usable is None else usable
    state = "awaiting_approval" if outcome == "pending" else "access_x"
    if granted:
        state = "ready" if usable else "starting"
    tunnel = tunnel_document(
        access={**access, **changes},
        usable=usable,
        state=state,
        reason="" if granted else f"access request {ID} is {outcome}",
        advice="" if granted else "run: ssmtunneld request db --reason TEXT",
    )
    return document(tunnel)


@pytest.fixture
def ask(home, capsys, monkeypatch):
    """Run the command beside a daemon that tells one document after the other."""
    monkeypatch.setattr(request, "POLL_INTERVAL", 0.001)
    monkeypatch.setattr(request, "ask_reason", lambda _target: None)

    def ask(documents, *arguments, failure=None):
        operator = Household(*documents)
        operator.failure = failure
        with serving(operator):
            return *call(capsys, "request", "db", *arguments), operator.asked

    return ask


def test_a_reason_is_passed_on(ask):
    code, out, err, asked = ask([with_access()], "--reason", "a broken index")
    assert (code, err) == (0, "")
    assert out == f"db: access request {ID} for i-0123456789abcdef0\n"
    assert asked == ["request db a broken index"]


def test_a_reason_is_asked_for_on_the_terminal(ask, monkeypatch):
    targets = []
    monkeypatch.setattr(request, "ask_reason", lambda t: targets.append(t) or "why")
    assert ask([with_access()])[3] == ["request db why"]
    assert targets == ["i-0123456789abcdef0"]


def test_without_reason_and_terminal_nothing_is_asked(ask):
    code, _, err, asked = ask([with_access()])
    assert (code, asked) == (2, [])
    assert "pass --reason" in err


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 257])
def test_a_reason_that_aws_would_not_take_is_none(ask, reason):
    code, _, err, asked = ask([with_access()], "--reason", reason)
    assert (code, asked) == (2, [])
    assert "reason" in err


def test_a_reason_is_one_line(ask):
    assert ask([with_access()], "--reason", "a\n b\t\x1b[31mc")[3] == [
        "request db a b c"
    ]


def test_an_undecided_request_is_not_made_twice(ask):
    code, out, _, asked = ask([with_access("pending")], "--reason", "again")
    assert (code, asked) == (0, [])
    assert out == f"db: access request {ID} awaits approval already\n"


def test_who_asks_at_the_same_moment_as_another_waits_for_that_request(ask):
    documents = [
        with_access(),
        with_access("pending"),
        with_access("approved", granted=True),
    ]
    failure = Busy(f"access request {ID} awaits approval")
    code, out, err, _ = ask(documents, "--reason", "why", "--wait", failure=failure)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"db: access request {ID} awaits approval already",
        "db: ready",
    ]


def test_access_that_holds_is_told_and_more_of_it_can_be_asked_for(ask):
    granted = with_access("approved", granted=True, expires_at=1_800_000_000.0)
    code, out, _, asked = ask([granted])
    assert (code, asked) == (0, [])
    assert out.startswith("db: access is granted, with keys until ")
    assert ask([granted], "--reason", "more")[3] == ["request db more"]


def test_a_tunnel_that_needs_no_access_is_a_wrong_use(ask):
    code, _, err, asked = ask([document(tunnel_document(access=None))])
    assert (code, asked) == (2, [])
    assert "db needs no access request" in err
    assert 'access = "request"' in err


def test_the_daemons_refusal_is_the_answer(ask):
    code, _, err, _ = ask([with_access()], "--reason", "why", failure=Busy("not now"))
    assert (code, err) == (1, "ssmtunneld: not now; wait a moment\n")


def test_an_older_daemon_is_too_old(home, capsys):
    with serving_app(older_daemon(with_access())):
        code, _, err = call(capsys, "request", "db", "--reason", "why")
    assert code == 1
    assert "restart it" in err


def test_it_waits_for_approval_and_tunnel(ask):
    documents = [
        with_access(),
        with_access("pending"),
        with_access("pending"),
        with_access("approved", granted=True, usable=False),
        with_access("approved", granted=True, expires_at=1_800_000_000.0),
    ]
    code, out, _, asked = ask(documents, "--reason", "why", "--wait")
    assert code == 0
    assert out.splitlines()[1].startswith("db: ready, with keys until ")
    assert asked == ["request db why"]


def test_it_says_what_it_waits_for_and_when_that_changes(ask):
    documents = [
        with_access(),
        with_access("pending"),
        with_access("pending"),
        with_access("approved", granted=True, usable=False),
        with_access("approved", granted=True, usable=False),
        with_access("approved", granted=True),
    ]
    _, out, err, _ = ask(documents, "--reason", "why", "--wait", "--timeout", "1m")
    assert out.splitlines()[0] == f"db: access request {ID} for i-0123456789abcdef0"
    assert err.splitlines() == [
        "ssmtunneld: waiting up to 60 s for db (awaiting_approval: access request "
        f"{ID} is pending; run: ssmtunneld request db --reason TEXT); Ctrl-C ends the "
        "waiting, not the request",
        "ssmtunneld: waiting up to 60 s for db (starting)",
    ]


def test_what_is_there_at_once_is_not_waited_for(ask):
    documents = [with_access("approved", granted=True)]
    assert ask(documents, "--wait")[:3] == (
        0,
        "db: access is granted\ndb: ready\n",
        "",
    )


def test_it_waits_for_a_request_that_was_made_before(ask):
    documents = [with_access("pending"), with_access("approved", granted=True)]
    code, out, _, asked = ask(documents, "--wait")
    assert (code, asked) == (0, [])
    assert out.splitlines()[1] == "db: ready"


@pytest.mark.parametrize("outcome", ["rejected", "revoked", "expired", None])
def test_a_request_that_is_over_ends_the_waiting_with_4(ask, outcome):
    documents = [with_access(), with_access("pending"), with_access(outcome)]
    code, _, err, _ = ask(documents, "--reason", "why", "--wait")
    assert code == 4
    assert "ssmtunneld request db" in err


def test_more_that_is_rejected_while_access_holds_ends_it_with_4(ask):
    documents = [
        with_access("approved", granted=True),
        with_access("rejected", granted=True),
    ]
    code, _, err, _ = ask(documents, "--reason", "more", "--wait")
    assert code == 4
    assert f"access request {ID} was not approved" in err


def test_access_that_holds_is_awaited_whatever_became_of_a_request_for_more(ask):
    documents = [
        with_access("rejected", granted=True, usable=False),
        with_access("rejected", granted=True, usable=False),
        with_access("rejected", granted=True),
    ]
    code, out, _, asked = ask(documents, "--wait")
    assert (code, asked) == (0, [])
    assert out.splitlines() == ["db: access is granted", "db: ready"]


def test_access_that_holds_outlasts_a_restart_for_whoever_waits(ask):
    documents = [
        with_access("approved", granted=True, usable=False),
        with_access("pending"),
        with_access("approved", granted=True),
    ]
    code, out, _, _ = ask(documents, "--wait")
    assert (code, out.splitlines()[-1]) == (0, "db: ready")


def test_access_that_ends_before_the_tunnel_is_ready_ends_the_waiting_with_4(ask):
    documents = [
        with_access("rejected", granted=True, usable=False),
        with_access("rejected"),
    ]
    code, _, err, _ = ask(documents, "--wait")
    assert code == 4
    assert "ssmtunneld request db" in err


def test_nobody_decides(ask, monkeypatch):
    clock = itertools.count(0, 20)
    monkeypatch.setattr(request, "_clock", lambda: next(clock))
    code, _, err, _ = ask([with_access("pending")], "--wait", "--timeout", "1m")
    assert code == 1
    assert "not ready within 60 s" in err


@pytest.fixture
def away(monkeypatch):
    """Let there be no daemon at each look after the first, so many times."""
    find, looks = request.find, itertools.count()

    def be_away(times):
        def find_sometimes(config):
            if 0 < next(looks) <= times:
                raise NotRunning
            return find(config)

        monkeypatch.setattr(request, "find", find_sometimes)

    return be_away


def test_the_daemon_may_be_restarted_while_somebody_waits(ask, away):
    away(3)
    documents = [with_access("pending"), with_access("approved", granted=True)]
    code, out, err, _ = ask(documents, "--wait")
    assert code == 0
    assert out.splitlines()[1] == "db: ready"
    assert err == "ssmtunneld: no daemon runs; waiting for one\n"


def test_a_daemon_that_stays_away_is_not_awaited_for_longer(ask, away, monkeypatch):
    away(1000)
    clock = itertools.count(0, 20)
    monkeypatch.setattr(request, "_clock", lambda: next(clock))
    code, _, err, _ = ask([with_access("pending")], "--wait", "--timeout", "1m")
    assert code == 3
    assert "start one" in err


def test_a_disabled_tunnel_is_said_to_be_that(ask):
    found = document(off("db", access=None))
    code, out, err, asked = ask([found], "--reason", "a broken index")
    assert (code, out, asked) == (2, "", [])
    assert "db is disabled (enabled = false)" in err
