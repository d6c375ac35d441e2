"""Counts of sessions that only grow, while sessions come and go."""

from dataclasses import replace

import pytest

from ssmtunneld import errors
from ssmtunneld.protocol.channel import DataChannel
from ssmtunneld.sessions.counters import (
    Distribution,
    Histogram,
    Reason,
    SessionCounters,
    reason_of,
)

EMPTY = DataChannel(client_id="c", new_id=bytes, wall_clock_ms=int).statistics()


class FakeSession:
    """The attributes of a session that counters read; the test changes them."""

    def __init__(self):
        self.session_id = None
        self.took = None
        self.resumes = 0
        self.retransmitted = 0
        self.trials_accepted = 0
        self.duplicates = 0

    def statistics(self):
        return replace(
            EMPTY, retransmitted=self.retransmitted, duplicates=self.duplicates
        ), None


def ready(counters, took=1.5):
    """Enter a session that was granted and takes connections."""
    session = FakeSession()
    counters.enter(session)
    session.session_id, session.took = "s-1", took
    counters.note_ready(session)
    return session


def test_nothing_was_counted_at_first():
    counts = SessionCounters().read()
    assert (counts.started, counts.resumed, counts.restarted) == (0, 0, 0)
    assert (counts.ended, counts.failed) == ({}, {})
    assert set(counts.starting.counts) == {0}


def test_what_a_living_session_counts_is_seen_at_once():
    counters = SessionCounters()
    session = ready(counters)
    session.resumes, session.retransmitted, session.duplicates = 2, 3, 4
    counts = counters.read()
    assert (counts.started, counts.resumed) == (1, 2)
    assert (counts.retransmitted, counts.duplicates) == (3, 4)


def test_counts_stay_when_a_session_ends_and_another_one_comes():
    counters = SessionCounters()
    first = ready(counters)
    first.resumes, first.retransmitted, first.duplicates = 2, 3, 4
    counters.leave(first, None)
    second = ready(counters)
    second.resumes = 1
    counts = counters.read()
    assert (counts.started, counts.resumed) == (2, 3)
    assert (counts.retransmitted, counts.duplicates) == (3, 4)
    assert counts.ended == {Reason.STOPPED: 1}
    assert counts.restarted == 0


def test_a_start_is_timed_once_however_often_it_is_noted():
    counters = SessionCounters()
    session = ready(counters, took=1.5)
    counters.note_ready(session)
    counters.leave(session, None)
    starting = counters.read().starting
    assert (starting.counts[-1], starting.total) == (1, 1.5)


def test_a_session_that_is_ready_and_gone_before_anybody_looked_is_timed_too():
    counters = SessionCounters()
    session = FakeSession()
    counters.enter(session)
    session.session_id, session.took = "s-1", 0.2
    counters.leave(session, errors.ChannelClosed("bye"))
    counts = counters.read()
    assert counts.starting.counts[-1] == 1
    assert (counts.restarted, counts.ended) == (1, {Reason.CLOSED: 1})


def test_an_attempt_that_got_no_session_is_no_session():
    counters = SessionCounters()
    for error in (errors.Throttled("StartSession", "X", "slow"), None):
        session = FakeSession()
        counters.enter(session)
        counters.leave(session, error)
    counts = counters.read()
    assert (counts.started, counts.ended) == (0, {})
    assert counts.failed == {Reason.THROTTLED: 1}


def test_a_session_that_was_granted_and_never_ready_is_not_a_lost_one():
    counters = SessionCounters()
    session = FakeSession()
    counters.enter(session)
    session.session_id = "s-1"
    counters.leave(session, errors.HandshakeFailed("no"))
    counts = counters.read()
    assert (counts.started, counts.restarted) == (1, 0)
    assert counts.ended == {Reason.PROTOCOL: 1}


AWS = ("StartSession", "X", "no")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, "stopped"),
        (errors.ChannelClosed(), "closed"),
        (errors.SessionGone("s", "x"), "gone"),
        (errors.RemoteProtocolError("x"), "protocol"),
        (errors.HandshakeFailed("x"), "protocol"),
        (errors.LinkUnreachable("h", "x"), "link"),
        (errors.Throttled(*AWS), "throttled"),
        (errors.ServiceUnavailable(*AWS), "unavailable"),
        (errors.TargetNotConnected(*AWS), "target"),
        (errors.AccessDenied(*AWS), "denied"),
        (errors.CredentialsUnusable(*AWS), "credentials"),
        (errors.RequestRejected(*AWS), "rejected"),
        (errors.StreamReset("x"), "other"),
    ],
)
def test_every_error_is_one_word(error, reason):
    assert reason_of(error) == Reason(reason)


def test_a_histogram_counts_up_to_and_including_its_bounds():
    histogram = Histogram((1.0, 2.0))
    for seconds in (0.0, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(seconds)
    assert histogram.read() == Distribution((1.0, 2.0), (2, 4, 5), 7.5)
