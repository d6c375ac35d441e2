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

POLICY = Policy(
    warm=1,
    max_sessions=4,
    streams_per_session=8,
    idle_close=300.0,
    expiry_margin=120.0,
    resume_patience=5.0,
)
LAZY = Policy(warm=0, max_sessions=4, streams_per_session=8)
BASIC = Policy(warm=0, max_sessions=4, streams_per_session=1, spare=False)
EXPIRING = NOW + 100.0
SLOW = NOW - 6.0


def planned(
    sessions: list[SessionView], policy: Policy = POLICY, waiting: int = 0
) -> list[str]:
    return in_words(plan(sessions, policy, waiting=waiting, now=NOW))


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        pytest.param([], ["start"], id="none yet"),
        pytest.param([starting(1)], [], id="it is on its way"),
        pytest.param([ready(1)], [], id="it is there"),
        pytest.param([resuming(1)], [], id="it will be back in a moment"),
        pytest.param([resuming(1, since=SLOW)], ["start"], id="resuming takes long"),
        pytest.param(
            [resuming(1, since=SLOW), starting(2)], [], id="its place is being taken"
        ),
        pytest.param([ready(1, stalled=True)], ["start"], id="it does not move"),
        pytest.param(
            [ready(1, stalled=True), ready(2)], [], id="another takes its place"
        ),
        pytest.param(
            [ready(1, exhausted=True)], ["close 1", "start"], id="it is used up"
        ),
        pytest.param(
            [ready(1, exhausted=True, streams=1)], ["start"], id="used up, still in use"
        ),
        pytest.param(
            [ready(1, retiring=True)], ["close 1", "start"], id="retired and idle"
        ),
        pytest.param(
            [ready(1, retiring=True, streams=1)], ["start"], id="retired and in use"
        ),
        pytest.param(
            [ready(1, retiring=True, streams=1), ready(2)], [], id="retired, replaced"
        ),
    ],
)
def test_one_usable_session_is_kept_warm(sessions, expected):
    assert planned(sessions) == expected


@pytest.mark.parametrize(
    ("sessions", "waiting", "expected"),
    [
        pytest.param([], 0, [], id="nobody asks"),
        pytest.param([], 1, ["start"], id="somebody asks"),
        pytest.param([starting(1)], 1, [], id="it is on its way"),
        pytest.param([starting(1)], 8, [], id="one has room for eight"),
        pytest.param([starting(1)], 9, ["start"], id="not for nine"),
        pytest.param([], 100, ["start"] * 4, id="never more than the maximum"),
        pytest.param([ready(1, streams=8)], 1, ["start"], id="the only one is full"),
        pytest.param(
            [ready(1, streams=8), starting(2)], 1, [], id="the next one is coming"
        ),
        pytest.param([resuming(1, streams=8)], 1, ["start"], id="full and resuming"),
        pytest.param([resuming(1)], 1, [], id="it will be back in a moment"),
        pytest.param([resuming(1, since=SLOW)], 1, ["start"], id="it takes long"),
        pytest.param([ready(1, stalled=True)], 1, ["start"], id="it does not move"),
        pytest.param([ready(1, idle_since=LONG_AGO)], 0, ["close 1"], id="long idle"),
        pytest.param([ready(1, idle_since=NOW - 299)], 0, [], id="not idle for long"),
    ],
)
def test_lazy_sessions_are_started_when_somebody_waits(sessions, waiting, expected):
    assert planned(sessions, LAZY, waiting) == expected


@pytest.mark.parametrize(
    ("sessions", "waiting", "expected"),
    [
        pytest.param([ready(1, streams=1, exhausted=True)], 0, [], id="no spare"),
        pytest.param(
            [ready(1, streams=1, exhausted=True)], 1, ["start"], id="one for each"
        ),
        pytest.param(
            [ready(1, streams=1, exhausted=True), starting(2)],
            2,
            ["start"],
            id="two wait for two",
        ),
        pytest.param(
            [ready(1, exhausted=True)], 0, ["close 1"], id="its stream has ended"
        ),
        pytest.param(
            [ready(n, streams=1, exhausted=True) for n in range(1, 5)],
            3,
            [],
            id="as many as there may be",
        ),
        pytest.param(
            [ready(1, idle_since=LONG_AGO), ready(2, streams=1, exhausted=True)],
            0,
            ["close 1"],
            id="what nobody took is closed",
        ),
        pytest.param(
            [ready(1, idle_since=LONG_AGO)], 1, [], id="not when somebody comes"
        ),
    ],
)
def test_basic_sessions_have_one_stream_and_no_spare(sessions, waiting, expected):
    assert planned(sessions, BASIC, waiting) == expected


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        pytest.param(
            [ready(1, expires_at=NOW + 121)], [], id="there is time enough left"
        ),
        pytest.param([ready(1, expires_at=EXPIRING)], ["start"], id="make first"),
        pytest.param(
            [ready(1, expires_at=EXPIRING), starting(2)], [], id="not ready yet"
        ),
        pytest.param(
            [ready(1, expires_at=EXPIRING), resuming(2)], [], id="ready no longer"
        ),
        pytest.param(
            [ready(1, expires_at=EXPIRING), ready(2)], ["retire 1"], id="break"
        ),
        pytest.param(
            [ready(1, expires_at=EXPIRING, streams=3), ready(2)],
            ["retire 1"],
            id="its streams stay",
        ),
        pytest.param(
            [
                *(ready(n, streams=8) for n in range(1, 5)),
                ready(5, expires_at=EXPIRING),
            ],
            ["retire 5"],
            id="any that is ready will do",
        ),
        pytest.param(
            [ready(n, streams=8, expires_at=EXPIRING) for n in range(1, 5)],
            ["start"],
            id="replacements come on top of the maximum",
        ),
        pytest.param(
            [starting(1, expires_at=EXPIRING)],
            [],
            id="one on its way is not replaced before it came",
        ),
    ],
)
def test_a_session_is_replaced_before_it_ends(sessions, expected):
    assert planned(sessions) == expected


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        pytest.param([starting(3), starting(4)], [], id="none is replaced yet"),
        pytest.param([ready(3), starting(4)], ["retire 2"], id="one is replaced"),
        pytest.param([ready(3), ready(4)], ["retire 2", "retire 1"], id="both are"),
    ],
)
def test_several_that_end_together_are_retired_one_by_one(sessions, expected):
    policy = Policy(warm=2, expiry_margin=120.0)
    ending = [ready(1, expires_at=EXPIRING), ready(2, expires_at=EXPIRING - 1)]
    assert planned([*ending, *sessions], policy) == expected


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        pytest.param([ready(1, expires_at=EXPIRING)], ["retire 1"], id="unused"),
        pytest.param(
            [ready(1, expires_at=EXPIRING, streams=1)], ["start"], id="in use"
        ),
    ],
)
def test_a_lazy_session_is_only_replaced_while_it_is_used(sessions, expected):
    assert planned(sessions, LAZY) == expected


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        pytest.param(
            [ready(1, idle_since=LONG_AGO), ready(2)],
            [],
            id="whoever has just left the other may come back",
        ),
        pytest.param(
            [
                ready(1, idle_since=LONG_AGO),
                ready(2, idle_since=LONG_AGO + 1),
                ready(3),
            ],
            ["close 1"],
            id="one spare is enough for whoever may come back",
        ),
        pytest.param(
            [ready(1, idle_since=LONG_AGO), ready(2, stalled=True)],
            [],
            id="the only one that moves",
        ),
        pytest.param(
            [ready(1, idle_since=LONG_AGO), ready(2, idle_since=LONG_AGO + 1)],
            ["close 1"],
            id="the one idle for longest",
        ),
        pytest.param([ready(1, idle_since=LONG_AGO)], [], id="never the warm one"),
        pytest.param(
            [ready(1, streams=1), ready(2, idle_since=LONG_AGO)],
            [],
            id="the spare stays while there is a connection",
        ),
        pytest.param(
            [
                ready(1, streams=8),
                ready(2, idle_since=LONG_AGO),
                ready(3, idle_since=LONG_AGO + 1),
            ],
            ["close 2"],
            id="one spare is enough",
        ),
        pytest.param(
            [resuming(1, since=LONG_AGO), ready(2, idle_since=LONG_AGO)],
            [],
            id="the only one that works, while another still resumes",
        ),
        pytest.param(
            [
                ready(1, idle_since=LONG_AGO),
                ready(2, idle_since=LONG_AGO + 1, stalled=True),
            ],
            ["close 2"],
            id="rather one that does not move",
        ),
        pytest.param(
            [starting(1), ready(2, idle_since=LONG_AGO)],
            ["close 2"],
            id="one that starts counts for warm",
        ),
    ],
)
def test_what_is_idle_for_long_is_closed_beyond_the_warm_ones(sessions, expected):
    assert planned(sessions) == expected


def test_a_burst_grows_the_pool_and_idleness_shrinks_it_once():
    pool = PlannedPool(POLICY)
    pool.advance(10)
    pool.change(1, streams=8)
    pool.advance(10)
    pool.change(2, streams=8)
    pool.advance(10)
    assert pool.history == ["start"] * 3
    pool.change(1, streams=0)
    pool.change(2, streams=0)
    pool.advance(3600)
    assert len(pool.views) == 1
    assert sorted(w.split()[0] for w in pool.history[3:]) == ["close", "close"]


@pytest.mark.parametrize(
    "sessions",
    [
        pytest.param([ready(1, streams=1, bulk=True)], id="bulk"),
        pytest.param([ready(1, streams=8)], id="full"),
        pytest.param([ready(1, stalled=True)], id="stalled"),
        pytest.param([ready(1, stalled=True, streams=1)], id="stalled in use"),
        pytest.param([ready(1, streams=1, exhausted=True)], id="exhausted in use"),
        pytest.param([resuming(1)], id="resuming in vain"),
        pytest.param([resuming(1, streams=8)], id="resuming in vain with streams"),
        pytest.param([ready(1, streams=2, retiring=True)], id="retiring"),
        pytest.param([], id="nothing"),
    ],
)
@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        LAZY,
        BASIC,
        Policy(warm=1, spare=False),
        Policy(warm=3, max_sessions=3),
        Policy(warm=1, max_sessions=1),
    ],
    ids=["warm", "lazy", "basic", "no spare", "only warm ones", "one"],
)
def test_nothing_flaps_while_only_time_passes(sessions, policy):
    pool = PlannedPool(policy, sessions)
    pool.settle()
    pool.advance(1000)
    settled = len(pool.history)
    pool.advance(5000, step=10)
    assert pool.history[settled:] == []
    starts = pool.history.count("start")
    assert starts <= policy.max_sessions


def test_a_session_with_a_limit_is_replaced_once_in_its_life():
    pool = PlannedPool(POLICY, lifetime=3600.0)
    pool.advance(10 * 3600)
    assert 10 <= pool.history.count("start") <= 11
    assert len(pool.views) == 1
