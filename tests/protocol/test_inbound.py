"""The receiving half: order, repetitions, bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.protocol.inbound import (
    EARLY_SHARE,
    MAX_EARLY,
    MAX_EARLY_BYTES,
    MAX_EARLY_TOTAL,
    OVERHEAD,
    EarlyTotal,
    Inbound,
)
from ssmtunneld.protocol.message import Message, MessageType


def _message(sequence, payload=b"x"):
    return Message(MessageType.OUTPUT, sequence, bytes(16), 1, payload, 1)


def _ready(inbound):
    return [message.sequence for message in inbound.ready()]


def test_the_next_message_is_taken_and_ready_at_once():
    inbound = Inbound()
    assert inbound.accept(_message(0))
    assert _ready(inbound) == [0]
    assert inbound.expected == 1
    assert inbound.early == 0


def test_the_next_message_may_be_handled_without_being_kept():
    inbound = Inbound()
    assert not inbound.take_next(_message(1))
    assert inbound.take_next(_message(0))
    assert (inbound.expected, inbound.early, inbound.missing) == (1, 0, 0)
    assert not inbound.take_next(_message(0))
    assert inbound.accept(_message(0))  # a repeat
    assert inbound.duplicates == 1


def test_what_others_wait_for_is_handled_with_them():
    inbound = Inbound()
    inbound.accept(_message(1))
    assert not inbound.take_next(_message(0))
    assert inbound.accept(_message(0))
    assert _ready(inbound) == [0, 1]
    inbound.accept(_message(4))
    assert inbound.missing == 2


def test_an_early_message_waits_for_those_before_it():
    inbound = Inbound()
    assert inbound.accept(_message(2))
    assert inbound.accept(_message(1))
    assert _ready(inbound) == []
    assert inbound.early == 2
    assert inbound.accept(_message(0))
    assert _ready(inbound) == [0, 1, 2]
    assert inbound.early == 0


def test_what_is_missing_is_counted_as_far_as_it_is_known():
    inbound = Inbound()
    inbound.accept(_message(5))
    assert inbound.missing == 5
    inbound.accept(_message(3))
    assert inbound.missing == 4
    inbound.accept(_message(0))
    assert _ready(inbound) == [0]
    assert inbound.missing == 3
    for sequence in (1, 2, 4):
        inbound.accept(_message(sequence))
    assert _ready(inbound) == [1, 2, 3, 4, 5]
    assert inbound.missing == 0


def test_whatever_was_taken_before_is_acknowledged_again_but_not_ready_again():
    inbound = Inbound()
    inbound.accept(_message(0))
    inbound.accept(_message(2))
    assert _ready(inbound) == [0]
    assert inbound.accept(_message(0))
    assert inbound.accept(_message(2))
    assert inbound.duplicates == 2
    assert _ready(inbound) == []


def test_a_message_is_never_ready_twice_even_if_its_handling_breaks_off():
    inbound = Inbound()
    for sequence in range(3):
        inbound.accept(_message(sequence))
    for message in inbound.ready():
        assert message.sequence == 0
        break
    assert inbound.expected == 1
    assert _ready(inbound) == [1, 2]


@pytest.fixture
def crowded():
    """Return a half that holds as many early messages as it may."""
    inbound = Inbound()
    for sequence in range(1, MAX_EARLY + 1):
        inbound.accept(_message(sequence))
    return inbound


def test_early_messages_are_bounded_by_their_number(crowded):
    assert not crowded.accept(_message(MAX_EARLY + 1))
    assert crowded.overflows == 1
    assert crowded.early == MAX_EARLY


def test_the_message_that_is_waited_for_always_fits(crowded):
    assert crowded.accept(_message(0))
    assert len(_ready(crowded)) == MAX_EARLY + 1
    assert crowded.accept(_message(MAX_EARLY + 2))
    assert not crowded.accept(_message(2 * MAX_EARLY + 2))


def test_a_message_of_the_far_future_is_not_kept():
    inbound = Inbound()
    assert inbound.accept(_message(MAX_EARLY))
    for sequence in (MAX_EARLY + 1, 2**63 - 1):
        assert not inbound.accept(_message(sequence))
    assert inbound.missing == MAX_EARLY
    assert inbound.overflows == 2


def test_whether_any_is_ready_is_known():
    inbound = Inbound()
    inbound.accept(_message(1))
    assert not inbound.is_ready
    inbound.accept(_message(0))
    assert inbound.is_ready
    assert _ready(inbound) == [0, 1]
    assert not inbound.is_ready


def test_early_messages_are_bounded_by_their_memory():
    inbound = Inbound()
    payload = bytes(1 << 20)
    fitting = MAX_EARLY_BYTES // (len(payload) + OVERHEAD)
    taken = [inbound.accept(_message(n, payload)) for n in range(1, fitting + 3)]
    assert taken == [True] * fitting + [False] * 2
    assert inbound.overflows == 2
    # The one that is waited for always fits, and gives its memory back.
    inbound.accept(_message(0, payload))
    assert len(_ready(inbound)) == fitting + 1
    assert inbound.accept(_message(fitting + 2, payload))


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), max_size=20))
def test_any_order_and_any_repetition_is_ready_once_in_sequence(order, repeats):
    inbound, ready = Inbound(), []
    for sequence in [*order, *repeats]:
        assert inbound.accept(_message(sequence))
        ready += _ready(inbound)
    assert ready == list(range(12))
    assert inbound.duplicates == len(repeats)


def test_all_sessions_together_keep_no_more_than_their_total():
    total = EarlyTotal()
    payload = bytes(100_000)
    cost = len(payload) + OVERHEAD
    sessions = [Inbound(total) for _ in range(4)]
    for session in sessions:
        sequence = 1
        while session.accept(_message(sequence, payload)):
            sequence += 1
    first, second, *others = (session.early * cost for session in sessions)
    assert MAX_EARLY_BYTES - cost < first <= MAX_EARLY_BYTES
    assert MAX_EARLY_TOTAL - 2 * cost < first + second <= MAX_EARLY_TOTAL
    # Each of them has a share, whatever the others keep.
    assert all(EARLY_SHARE - cost < rest <= EARLY_SHARE for rest in others)
    assert total.used == sum(session.early for session in sessions) * cost
    # What one gives back is there for the next one.
    sessions[0].clear()
    assert sessions[0].early == 0
    assert sessions[2].accept(_message(90, payload))
    # Also by going without a word.
    del session
    sessions.clear()
    assert total.used == 0
