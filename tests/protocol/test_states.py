"""The life of a channel: every pair of state and trigger is decided (P9)."""

from itertools import product

import pytest

from ssmtunneld.errors import LocalProtocolError
from ssmtunneld.protocol.states import TRANSITIONS, State, Trigger, step

PAIRS = list(product(State, Trigger))


def _outcome(state, trigger):
    try:
        return step(state, trigger)
    except LocalProtocolError:
        return None


@pytest.mark.parametrize(("state", "trigger"), PAIRS)
def test_every_pair_leads_on_or_is_refused(state, trigger):
    assert _outcome(state, trigger) is TRANSITIONS.get((state, trigger))


def test_a_refusal_names_the_trigger_and_the_state():
    with pytest.raises(LocalProtocolError, match="cannot COMPLETE while IDLE"):
        step(State.IDLE, Trigger.COMPLETE)


def test_every_state_can_be_reached_from_the_first():
    reached, frontier = {State.IDLE}, [State.IDLE]
    while frontier:
        state = frontier.pop()
        following = {_outcome(state, trigger) for trigger in Trigger} - {None}
        frontier += following - reached
        reached |= following
    assert reached == set(State)


def test_only_closed_is_terminal():
    terminal = {
        state
        for state in State
        if {_outcome(state, trigger) for trigger in Trigger} <= {state, None}
    }
    assert terminal == {State.CLOSED}


@pytest.mark.parametrize("state", State)
def test_closing_is_always_allowed(state):
    assert step(state, Trigger.CLOSE) is State.CLOSED


@pytest.mark.parametrize(
    "state", [State.HANDSHAKING, State.OPEN], ids=lambda state: state.name
)
def test_a_new_websocket_takes_up_where_the_lost_one_stopped(state):
    assert step(step(state, Trigger.DETACH), Trigger.ATTACH) is state
