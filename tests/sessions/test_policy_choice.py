import pytest

from ssmtunneld.sessions.policy import Policy, choose, next_change
from tests.sessions.planning import LONG_AGO, NOW, ready, resuming, starting

POLICY = Policy(
    warm=1,
    max_sessions=4,
    streams_per_session=8,
    idle_close=300.0,
    expiry_margin=120.0,
    resume_patience=5.0,
)


@pytest.mark.parametrize(
    ("sessions", "may_wait", "expected"),
    [
        pytest.param([], True, None, id="none"),
        pytest.param([starting(1), resuming(2)], False, None, id="none is ready"),
        pytest.param([ready(1, retiring=True)], False, None, id="none may be used"),
        pytest.param([ready(1, exhausted=True)], False, None, id="none can be used"),
        pytest.param(
            [ready(1, streams=2), ready(2, streams=1)], True, 2, id="fewest streams"
        ),
        pytest.param(
            [ready(1, streams=1, traffic=9.0), ready(2, streams=1, traffic=3.0)],
            True,
            2,
            id="least traffic",
        ),
        pytest.param([ready(2), ready(1)], True, 1, id="the older of two equals"),
        pytest.param(
            [ready(1, streams=1, bulk=True), ready(2, streams=5)],
            True,
            2,
            id="rather many keystrokes than one download",
        ),
        pytest.param(
            [ready(1, streams=1, bulk=True)], True, 1, id="if there is no other"
        ),
        pytest.param(
            [ready(1, bulk=True), ready(2, streams=1)],
            True,
            1,
            id="what it moved for others does not matter",
        ),
        pytest.param([ready(1, streams=8)], True, None, id="another may still come"),
        pytest.param([ready(1, streams=8)], False, 1, id="no other comes"),
        pytest.param(
            [ready(1, stalled=True), ready(2, streams=7)], True, 2, id="one that moves"
        ),
        pytest.param([ready(1, stalled=True)], True, None, id="it may move again"),
        pytest.param([ready(1, stalled=True)], False, 1, id="better than nothing"),
        pytest.param(
            [ready(1, stalled=True), ready(2, streams=8)],
            False,
            2,
            id="rather full than stalled",
        ),
    ],
)
def test_the_next_stream_goes_where_it_fares_best(sessions, may_wait, expected):
    assert choose(sessions, POLICY, may_wait=may_wait) == expected


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        pytest.param([], None, id="nothing to come"),
        pytest.param([starting(1)], None, id="a start is an event, not a time"),
        pytest.param([ready(1)], NOW + 300, id="idle for long"),
        pytest.param([ready(1, idle_since=LONG_AGO)], None, id="it is already"),
        pytest.param([ready(1, streams=1)], None, id="in use"),
        pytest.param([resuming(1)], NOW + 5, id="patience ends"),
        pytest.param(
            [ready(1, streams=1, expires_at=NOW + 500)], NOW + 380, id="its end nears"
        ),
        pytest.param(
            [ready(1, retiring=True, expires_at=NOW + 500)], None, id="no longer ours"
        ),
        pytest.param([ready(1), resuming(2)], NOW + 5, id="whichever is first"),
    ],
)
def test_the_next_change_by_the_clock_is_known(sessions, expected):
    assert next_change(sessions, POLICY, NOW) == expected
