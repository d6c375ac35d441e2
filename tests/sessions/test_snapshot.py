"""What a pool makes of its policy, and says when it has no session."""

import pytest

from ssmtunneld.errors import TargetNotConnected
from ssmtunneld.sessions.policy import Policy
from ssmtunneld.sessions.snapshot import BASIC_IDLE, adapted, busiest_rtt, no_session

POLICY = Policy(warm=2, expiry_margin=120.0, idle_close=300.0)


def test_a_policy_that_nothing_contradicts_stays_as_it_is():
    assert adapted(POLICY, limit=None, basic=False, dormant=False) == POLICY


@pytest.mark.parametrize(("limit", "margin"), [(3600.0, 120.0), (60.0, 15.0)])
def test_a_short_life_has_a_short_end(limit, margin):
    policy = adapted(POLICY, limit=limit, basic=False, dormant=False)
    assert policy.expiry_margin == margin


def test_sessions_that_carry_one_connection_are_not_kept_for_later():
    policy = adapted(POLICY, limit=None, basic=True, dormant=False)
    assert (policy.warm, policy.spare, policy.streams_per_session) == (0, False, 1)
    assert policy.idle_close == BASIC_IDLE


def test_what_has_idled_out_is_not_wanted_before_somebody_asks():
    assert adapted(POLICY, limit=None, basic=False, dormant=True).warm == 0


def test_who_gets_no_session_is_told_why_and_what_to_do():
    trouble = TargetNotConnected("StartSession", "TargetNotConnected", "x", "start it")
    error = no_session(1.5, trouble, in_use=False)
    assert str(error) == f"no session within 1.5 s: {trouble}"
    assert error.advice == "start it"
    assert "max_sessions is reached" in str(no_session(1.0, None, in_use=True))
    assert "still being started" in str(no_session(1.0, None, in_use=False))


def test_without_a_session_nothing_is_known_of_the_way():
    assert busiest_rtt([]) is None
