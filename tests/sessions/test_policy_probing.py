"""The choice of a session for a probe: lists in, a number out."""

from dataclasses import replace

import pytest

from ssmtunneld.sessions.policy import Phase, SessionView, choose_for_probe

READY = SessionView(number=1, phase=Phase.READY, since=0.0)


def choose(*views, respects_idle=False):
    return choose_for_probe(views, respects_idle=respects_idle)


def test_a_ready_session_is_asked_through():
    assert choose(READY) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"phase": Phase.STARTING},
        {"phase": Phase.RESUMING},
        {"retiring": True},
        {"exhausted": True},
        {"stalled": True},
    ],
)
def test_one_that_takes_no_streams_is_not(change):
    assert choose(replace(READY, **change)) is None


def test_the_least_loaded_is_taken():
    bulk = replace(READY, number=1, bulk=True)
    busy = replace(READY, number=2, streams=2)
    idle = replace(READY, number=3)
    assert choose(bulk, busy, idle) == 3
    assert choose(bulk, busy) == 2
    assert choose() is None


@pytest.mark.parametrize(
    ("streams", "traffic", "number"),
    [(0, 0.0, None), (0, 9.9, None), (1, 0.0, None), (1, 9.9, 1)],
)
def test_an_idle_timeout_that_is_respected_is_not_put_off(streams, traffic, number):
    view = replace(READY, streams=streams, traffic=traffic)
    assert choose(view, respects_idle=True) == number
