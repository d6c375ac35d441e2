"""The session that is kept in reserve: when it is started, and how long it stays."""

from dataclasses import replace

import pytest

from ssmtunneld.sessions.policy import Policy, SessionView, plan
from tests.sessions.planning import (
    LONG_AGO,
    NOW,
    PlannedPool,
    in_words,
    ready,
    resuming,
    starting,
)

POLICY = Policy(warm=1, max_sessions=4, streams_per_session=8, idle_close=300.0)
LAZY = replace(POLICY, warm=0)
SLOW = NOW - 6.0


def planned(sessions: list[SessionView], policy: Policy) -> list[str]:
    return in_words(plan(sessions, policy, waiting=0, now=NOW))


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        pytest.param([ready(1, streams=1)], ["start"], id="the next one would share"),
        pytest.param([ready(1, bulk=True)], [], id="moved much, but nobody is there"),
        pytest.param([ready(1, streams=1), starting(2)], [], id="help is coming"),
        pytest.param([ready(1, streams=1), ready(2)], [], id="one is free for others"),
        pytest.param(
            [ready(1, streams=1), ready(2, bulk=True)], [], id="one was left just now"
        ),
        pytest.param(
            [ready(1, streams=1), resuming(2)], [], id="one will be free in a moment"
        ),
        pytest.param(
            [ready(1, streams=1), ready(2, streams=1, bulk=True)],
            ["start"],
            id="all are in use",
        ),
        pytest.param(
            [ready(1, streams=1), ready(2, stalled=True)],
            ["start"],
            id="the other does not move",
        ),
        pytest.param(
            [ready(n, streams=8, bulk=True) for n in range(1, 5)],
            [],
            id="as many as there may be",
        ),
        pytest.param(
            [
                *(ready(n, streams=8) for n in range(1, 4)),
                ready(4, streams=2, retiring=True),
            ],
            ["start"],
            id="one that retires does not count",
        ),
        pytest.param(
            [ready(1, streams=1, stalled=True)], ["start"], id="stalled with a stream"
        ),
        pytest.param([resuming(1, streams=1)], ["start"], id="resuming, and in use"),
        pytest.param(
            [resuming(1, streams=1, since=SLOW)], ["start"], id="resuming for long"
        ),
    ],
)
def test_a_session_without_streams_is_kept_while_there_are_any(sessions, expected):
    assert planned(sessions, POLICY) == expected


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        pytest.param([ready(1, streams=3)], [], id="room for more"),
        pytest.param([ready(1, streams=4)], ["start"], id="half full"),
        pytest.param([ready(1, streams=1, bulk=True)], ["start"], id="moves much data"),
        pytest.param([resuming(1, streams=1)], [], id="it may be back in time"),
        pytest.param(
            [ready(1, streams=1, bulk=True), ready(2, streams=3)],
            [],
            id="one has room for keystrokes",
        ),
        pytest.param(
            [ready(1, streams=1, bulk=True), ready(2, streams=4)],
            ["start"],
            id="all are loaded, each in its way",
        ),
        pytest.param(
            [ready(1, streams=1), ready(2, idle_since=LONG_AGO)],
            ["close 2"],
            id="the one in use has room",
        ),
        pytest.param(
            [ready(1, streams=4), ready(2, idle_since=LONG_AGO)],
            [],
            id="the one in use has no room: the spare stays",
        ),
        pytest.param(
            [ready(1, idle_since=LONG_AGO), ready(2)], ["close 1"], id="the idle one"
        ),
    ],
)
def test_a_lazy_pool_has_a_spare_only_while_it_is_loaded(sessions, expected):
    assert planned(sessions, LAZY) == expected


@pytest.mark.parametrize("most", [1, 2, 4, 8])
def test_each_connection_has_its_own_session_until_there_may_be_no_more(most):
    pool = PlannedPool(replace(POLICY, max_sessions=most))
    pool.advance(10)
    for count in range(1, 21):
        pool.connect()
        pool.advance(10)
        assert len(pool.views) == min(count + 1, most)
        shares = [view.streams for view in pool.views.values()]
        assert max(shares) == -(-count // most)
        assert count > most or sorted(shares)[-count:] == [1] * count
    assert pool.history == ["start"] * most


def test_a_pool_that_is_used_now_and_then_starts_and_closes_nothing():
    pool = PlannedPool(POLICY)
    pool.advance(10)
    for _ in range(60):
        number = pool.connect()
        pool.advance(2)
        pool.disconnect(number)
        pool.advance(200)
    assert pool.history == ["start"] * 2
    pool.advance(400)
    assert len(pool.views) == 1
