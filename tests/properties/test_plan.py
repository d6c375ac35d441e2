from dataclasses import replace

from hypothesis import event, given
from hypothesis import strategies as st

from ssmtunneld.sessions.policy import (
    Close,
    Phase,
    Policy,
    Retire,
    SessionView,
    Start,
    choose,
    next_change,
    plan,
)
from tests.sessions.planning import NOW, PlannedPool

moments = st.floats(NOW - 1000, NOW)


@st.composite
def policies(draw) -> Policy:
    most = draw(st.integers(1, 6))
    return Policy(
        warm=draw(st.integers(0, most)),
        max_sessions=most,
        streams_per_session=draw(st.integers(1, 8)),
        spare=draw(st.booleans()),
        idle_close=draw(st.floats(30, 600)),
        expiry_margin=draw(st.floats(10, 200)),
    )


@st.composite
def views(draw, number: int = 1, *, troubled: bool = True) -> SessionView:
    return SessionView(
        number=number,
        phase=draw(st.sampled_from(Phase)) if troubled else Phase.READY,
        since=draw(moments),
        streams=draw(st.sampled_from([0, 0, 1, 2, 8])),
        bulk=draw(st.booleans()),
        stalled=troubled and draw(st.booleans()),
        exhausted=troubled and draw(st.booleans()),
        retiring=draw(st.booleans()),
        idle_since=draw(moments),
        expires_at=draw(st.none() | st.floats(NOW - 100, NOW + 400)),
        traffic=draw(st.floats(0, 1e6)),
    )


@st.composite
def crowds(draw, *, troubled: bool = True) -> list[SessionView]:
    count = draw(st.integers(0, 8))
    return [draw(views(n + 1, troubled=troubled)) for n in range(count)]


def lasting(sessions: list[SessionView], policy: Policy) -> list[SessionView]:
    """Return those that count for ``max_sessions``."""
    return [
        s
        for s in sessions
        if not s.retiring
        and not (s.exhausted and not s.streams)
        and (
            s.expires_at is None
            or s.phase is Phase.STARTING
            or s.expires_at - policy.expiry_margin > NOW
        )
    ]


@given(crowds(), policies(), st.integers(0, 40))
def test_no_session_with_streams_is_closed_and_none_twice(sessions, policy, waiting):
    known = {s.number: s for s in sessions}
    actions = plan(sessions, policy, waiting=waiting, now=NOW)
    closed = [a.number for a in actions if isinstance(a, Close)]
    assert not any(known[number].streams for number in closed)
    assert len(closed) == len(set(closed))
    retired = [a.number for a in actions if isinstance(a, Retire)]
    assert not any(known[number].retiring for number in retired)
    assert not set(retired) & set(closed)


@given(crowds(), policies(), st.integers(0, 40))
def test_no_more_sessions_are_started_than_there_may_be(sessions, policy, waiting):
    actions = plan(sessions, policy, waiting=waiting, now=NOW)
    starts = sum(isinstance(a, Start) for a in actions)
    closed = {a.number for a in actions if isinstance(a, Close)}
    kept = [s for s in lasting(sessions, policy) if s.number not in closed]
    event(f"{min(starts, 3)} starts")
    if starts:
        assert len(kept) + starts <= policy.max_sessions


@given(crowds(), policies(), st.integers(0, 40))
def test_the_last_ready_session_is_never_retired(sessions, policy, waiting):
    actions = plan(sessions, policy, waiting=waiting, now=NOW)
    retired = {a.number for a in actions if isinstance(a, Retire)}
    serving = [s for s in lasting(sessions, policy) if s.phase is Phase.READY]
    in_use = any(s.streams and not s.retiring for s in sessions)
    if retired and (policy.warm or in_use):
        assert serving


@given(crowds(), policies(), st.integers(0, 40))
def test_applied_once_the_plan_is_content_or_only_finishes_what_it_began(
    sessions, policy, waiting
):
    pool = PlannedPool(policy, sessions)
    pool.waiting = waiting
    pool.settle()
    starts = pool.history.count("start")
    assert starts <= policy.max_sessions


@given(crowds(), policies(), st.integers(0, 40), st.integers(0, 2000))
def test_while_only_time_passes_sessions_are_not_started_and_closed_in_turn(
    sessions, policy, waiting, seconds
):
    # Those that end soon are replaced, by others that do not.
    pool = PlannedPool(policy, sessions)
    pool.waiting = waiting
    pool.settle()
    pool.advance(2000, step=5)
    settled = list(pool.history)
    pool.advance(seconds, step=50)
    assert pool.history == settled
    assert settled.count("start") <= 3 * policy.max_sessions


@given(crowds(troubled=False), policies())
def test_without_trouble_the_warm_sessions_are_there_and_no_others(sessions, policy):
    sessions = [replace(s, streams=0) for s in sessions]
    pool = PlannedPool(policy, sessions)
    pool.settle()
    pool.advance(2000, step=5)
    assert len(pool.views) == policy.warm


@given(crowds(), policies(), st.integers(0, 40))
def test_the_last_spare_is_not_closed_while_there_is_a_connection(
    sessions, policy, waiting
):
    actions = plan(sessions, policy, waiting=waiting, now=NOW)
    closed = {a.number for a in actions if isinstance(a, Close)}
    unused = [s for s in lasting(sessions, policy) if usable(s) and not s.streams]
    spares = {s.number for s in unused}
    in_use = any(s.streams and not s.retiring for s in sessions)
    if policy.spare and in_use and spares & closed:
        event("one of several spares is closed")
        kept = [s for s in lasting(sessions, policy) if s.number not in closed]
        # Without warm sessions, one that has room is spare enough.
        assert spares - closed or (not policy.warm and any(map(usable, kept)))


def usable(session: SessionView) -> bool:
    """Return whether it takes streams, now or within a moment."""
    if session.phase is Phase.RESUMING:
        return session.since + Policy().resume_patience > NOW
    return not session.stalled and not session.exhausted


@given(
    policies(), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1000)), max_size=20)
)
def test_one_connection_after_the_other_needs_no_more_than_itself_and_a_spare(
    policy, uses
):
    policy = replace(policy, warm=max(policy.warm, 1), spare=True)
    pool = PlannedPool(policy)
    pool.advance(10)
    for gap, duration in uses:
        pool.advance(gap * (policy.idle_close - 10), step=10)
        number = pool.connect()
        pool.advance(duration, step=10)
        pool.disconnect(number)
    most = min(max(policy.warm, 2 if uses else 1), policy.max_sessions)
    assert pool.history == ["start"] * most


@given(crowds(), policies(), st.booleans())
def test_a_stream_only_goes_where_it_may(sessions, policy, may_wait):
    known = {s.number: s for s in sessions}
    number = choose(sessions, policy, may_wait=may_wait)
    fit = [
        s
        for s in sessions
        if s.phase is Phase.READY and not (s.retiring or s.exhausted)
    ]
    if number is None:
        assert may_wait or not fit
        assert all(s.stalled or s.streams >= policy.streams_per_session for s in fit)
        return
    chosen = known[number]
    assert chosen in fit
    if may_wait:
        assert not chosen.stalled
        assert chosen.streams < policy.streams_per_session


@given(crowds(), policies(), st.floats(0, 2000))
def test_before_the_next_change_the_plan_says_nothing_new(sessions, policy, later):
    pool = PlannedPool(policy, sessions)
    pool.settle()
    settled = list(pool.views.values())
    change = next_change(settled, policy, pool.now)
    moment = pool.now + later
    if change is None or moment < change:
        assert plan(settled, policy, waiting=0, now=moment) == []
