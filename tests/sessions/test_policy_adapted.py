"""Adaptation of a pool's policy to what it learns of its sessions."""

import pytest

from ssmtunneld.sessions.policy import BASIC_IDLE, Policy, adapted

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
