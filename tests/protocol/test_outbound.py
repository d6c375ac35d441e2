"""The sending half: window, losses, timers, and what a new websocket needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.protocol.outbound import (
    INITIAL_WINDOW,
    MAX_BYTES,
    MAX_MESSAGE,
    MAX_WINDOW,
    MIN_WINDOW,
    REORDERING,
    Outbound,
)

RTT = 0.05


def _message(number):
    return f"message {number}".encode()


def _sending(count, now=0.0, outbound=None):
    outbound = outbound or Outbound()
    for _ in range(count):
        outbound.send(_message(outbound.next_sequence), now)
    return outbound


def _acknowledge(outbound, sequences, now=RTT):
    """Acknowledge each; return the numbers of what that shows to be lost."""
    lost = []
    for sequence in sequences:
        lost += outbound.acknowledge(sequence, now)
    return _numbers(lost)


def _flight(outbound):
    """Return the numbers that are unacknowledged, if they are in one piece."""
    return range(outbound.next_sequence - outbound.unacked, outbound.next_sequence)


def _numbers(messages):
    return [int(message.split()[1]) for message in messages]


# Acknowledgements.


def test_messages_are_numbered_from_zero_without_gaps():
    outbound = _sending(3)
    assert outbound.next_sequence == 3
    assert outbound.unacked == 3
    assert outbound.unacked_bytes == sum(len(_message(n)) for n in range(3))


def test_an_acknowledgement_forgets_exactly_one_message():
    outbound = _sending(3)
    assert _acknowledge(outbound, [1]) == []
    assert outbound.unacked == 2
    assert _numbers(outbound.resend_all(1.0)) == [0, 2]


@pytest.mark.parametrize("sequence", [0, 3, 10**12])
def test_an_acknowledgement_of_nothing_unacknowledged_is_ignored(sequence):
    outbound = _sending(3)
    _acknowledge(outbound, [0])
    window = outbound.window
    assert _acknowledge(outbound, [sequence], now=9.0) == []
    assert outbound.unacked == 2
    assert outbound.window == window
    assert outbound.round_trip.smoothed == RTT


def test_the_round_trip_of_a_message_sent_twice_is_not_measured():
    outbound = _sending(1)
    assert outbound.on_deadline(1.0) == [_message(0)]
    _acknowledge(outbound, [0], now=1.001)
    assert outbound.round_trip.smoothed is None


def test_backing_off_lasts_until_a_message_sent_once_is_acknowledged():
    outbound = _sending(1)
    outbound.on_deadline(1.0)
    assert outbound.round_trip.timeout == 2.0
    _acknowledge(outbound, [0], now=1.1)
    assert outbound.round_trip.timeout == 2.0
    _sending(1, 2.0, outbound)
    _acknowledge(outbound, [1], now=2.5)
    assert outbound.round_trip.timeout == pytest.approx(1.5)


# The window.


def test_the_first_window_is_64_messages():
    outbound = Outbound()
    assert outbound.room == outbound.window == INITIAL_WINDOW
    _sending(INITIAL_WINDOW, outbound=outbound)
    assert outbound.room == 0


def test_the_window_doubles_with_each_round_trip_until_something_is_lost():
    outbound = Outbound()
    for expected in (128, 256, 512):
        _sending(outbound.room, outbound=outbound)
        # What becomes free is used at once, as a busy sender does.
        for sequence in _flight(outbound):
            outbound.acknowledge(sequence, RTT)
            _sending(outbound.room, outbound=outbound)
        assert outbound.window == expected


def test_a_window_that_is_not_used_does_not_grow():
    outbound = Outbound()
    for sequence in range(1000):
        _sending(1, outbound=outbound)
        outbound.acknowledge(sequence, RTT)
    assert outbound.window == INITIAL_WINDOW


def test_the_window_stops_growing_at_its_maximum():
    outbound = Outbound()
    for sequence in range(5000):
        _sending(outbound.room, outbound=outbound)
        outbound.acknowledge(sequence, RTT)
    assert outbound.window == MAX_WINDOW


def test_after_a_loss_a_round_trip_adds_one_message():
    outbound = _sending(INITIAL_WINDOW)
    _acknowledge(outbound, [*range(1, INITIAL_WINDOW), 0])
    before = outbound.window
    assert before < INITIAL_WINDOW
    while outbound.window == before:
        _sending(outbound.room, outbound=outbound)
        assert _acknowledge(outbound, _flight(outbound)) == []
    assert outbound.window == before + 1


def test_room_is_never_negative():
    outbound = _sending(2 * INITIAL_WINDOW)
    assert outbound.room == 0


def test_full_messages_never_exceed_the_bound_in_bytes():
    outbound = Outbound()
    for sequence in range(3 * MAX_WINDOW):
        for _ in range(outbound.room):
            assert outbound.room > 0
            outbound.send(bytes(MAX_MESSAGE), 0.0)
        assert outbound.unacked_bytes <= MAX_BYTES
        outbound.acknowledge(sequence, RTT)
    assert outbound.window > MAX_BYTES // MAX_MESSAGE


def test_room_counts_messages_of_the_size_that_is_sent():
    outbound = Outbound()
    outbound.full_message = MAX_BYTES // 4
    for _ in range(4):
        assert outbound.room > 0
        outbound.send(bytes(outbound.full_message), 0.0)
    assert outbound.room == 0
    assert outbound.unacked_bytes == MAX_BYTES


def test_a_message_is_acknowledged_once_it_was_sent_and_nothing_is_awaited():
    outbound = _sending(2)
    assert not outbound.is_acknowledged(0)
    _acknowledge(outbound, [0])
    assert outbound.is_acknowledged(0)
    assert not outbound.is_acknowledged(1)
    assert not outbound.is_acknowledged(2)


# Losses.


def test_a_message_is_lost_when_one_sent_three_later_is_acknowledged():
    outbound = _sending(8)
    assert _acknowledge(outbound, range(1, REORDERING)) == []
    assert _acknowledge(outbound, [REORDERING]) == [0]
    assert outbound.retransmitted == 1


def test_several_lost_messages_are_repeated_in_order():
    outbound = _sending(10)
    assert _acknowledge(outbound, [7]) == [0, 1, 2, 3, 4]


def test_reordering_by_two_is_no_loss():
    outbound = _sending(9)
    assert _acknowledge(outbound, [2, 1, 0, 5, 4, 3, 8, 7, 6]) == []
    assert outbound.retransmitted == 0


def test_a_repeated_copy_is_lost_when_a_message_sent_three_later_is_acknowledged():
    outbound = _sending(4)
    assert _acknowledge(outbound, [3]) == [0]
    _sending(4, RTT, outbound)
    assert _acknowledge(outbound, [1, 2]) == []
    assert _acknowledge(outbound, [4, 5], now=2 * RTT) == []
    assert _acknowledge(outbound, [6], now=2 * RTT) == [0]


def test_the_acknowledgement_of_a_repeated_message_may_be_of_its_first_copy():
    """So it must not show messages to be lost that were sent between the copies."""
    outbound = _sending(4)
    assert _acknowledge(outbound, [3]) == [0]
    assert _acknowledge(outbound, [0]) == []
    assert outbound.unacked == 2


def test_a_loss_halves_the_window():
    outbound = _sending(INITIAL_WINDOW)
    assert _acknowledge(outbound, [1, 2]) == []
    before = outbound.window
    assert _acknowledge(outbound, [3]) == [0]
    assert outbound.window == (before + 1) // 2


def test_further_losses_of_the_same_flight_do_not_halve_it_again():
    outbound = _sending(INITIAL_WINDOW)
    assert _acknowledge(outbound, [1, 2, 3]) == [0]
    before = outbound.window
    assert _acknowledge(outbound, [*range(6, 20), *range(30, 40)]) != []
    assert outbound.window >= before


def test_a_loss_in_the_next_flight_halves_it_again():
    outbound = _sending(INITIAL_WINDOW)
    assert _acknowledge(outbound, range(1, INITIAL_WINDOW)) == [0]
    _sending(8, RTT, outbound)
    _acknowledge(outbound, [0], now=2 * RTT)
    before = outbound.window
    first = INITIAL_WINDOW
    assert _acknowledge(outbound, range(first + 2, first + 8), now=2 * RTT) != []
    assert outbound.window == before // 2


def test_losses_leave_a_smallest_window():
    outbound = Outbound()
    for _ in range(20):
        first = outbound.next_sequence
        _sending(8, outbound=outbound)
        _acknowledge(outbound, range(first + 4, first + 8))
        _acknowledge(outbound, range(first, first + 4))
    assert outbound.window == MIN_WINDOW


# Timers.


def test_there_is_no_deadline_when_everything_is_acknowledged():
    outbound = Outbound()
    assert outbound.next_deadline() is None
    assert outbound.on_deadline(1e9) == []
    _sending(1, outbound=outbound)
    _acknowledge(outbound, [0])
    assert outbound.next_deadline() is None


def test_the_deadline_is_that_of_the_copy_sent_first():
    outbound = _sending(1, 0.0)
    _sending(1, 0.5, outbound)
    assert outbound.next_deadline() == 1.0
    assert outbound.on_deadline(1.0) == [_message(0)]
    # The timeout has doubled, and the other one is now the older.
    assert outbound.next_deadline() == 2.5


def test_too_early_nothing_is_repeated():
    outbound = _sending(1)
    assert outbound.on_deadline(0.999) == []
    assert outbound.window == INITIAL_WINDOW


def test_everything_that_is_late_is_repeated_in_sequence():
    outbound = _sending(6)
    assert _acknowledge(outbound, [4], now=0.9) == [0, 1]
    assert _numbers(outbound.on_deadline(30.0)) == [0, 1, 2, 3, 5]


def test_a_timeout_closes_the_window_and_doubles_the_timeout():
    outbound = _sending(INITIAL_WINDOW)
    outbound.on_deadline(1.0)
    assert outbound.window == MIN_WINDOW
    assert outbound.round_trip.timeout == 2.0


def test_after_a_timeout_slow_start_ends_at_half_of_the_old_window():
    outbound = _sending(INITIAL_WINDOW)
    outbound.on_deadline(1.0)
    _acknowledge(outbound, range(INITIAL_WINDOW), now=1.1)
    assert outbound.window == INITIAL_WINDOW // 2


@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "ack", "wait"]), st.floats(0, 3)),
        max_size=60,
    ),
    st.floats(0, 1e9),
)
def test_at_its_deadline_it_repeats_something_and_sets_a_later_one(steps, start):
    outbound, now, acked = Outbound(), start, 0
    for step, passed in steps:
        now += passed
        if step == "send":
            _sending(1, now, outbound)
        elif step == "ack":
            outbound.acknowledge(acked, now)
            acked = min(acked + 1, outbound.next_sequence)
        elif (deadline := outbound.next_deadline()) is not None:
            now = max(now, deadline)
            assert outbound.on_deadline(now) != []
            assert outbound.next_deadline() > now


# A new websocket.


def test_a_new_websocket_gets_everything_unacknowledged_in_sequence():
    outbound = _sending(6)
    assert _acknowledge(outbound, [4]) == [0, 1]
    assert _numbers(outbound.resend_all(5.0)) == [0, 1, 2, 3, 5]
    assert outbound.retransmitted == 7
    assert outbound.next_deadline() == 5.0 + outbound.round_trip.timeout


def test_a_new_websocket_ends_the_backing_off():
    outbound = _sending(1)
    outbound.on_deadline(1.0)
    outbound.on_deadline(3.0)
    outbound.resend_all(4.0)
    assert outbound.next_deadline() == 5.0


def test_a_new_websocket_needs_nothing_if_all_is_acknowledged():
    assert Outbound().resend_all(1.0) == []


# Silence.


def test_there_is_no_silence_while_nothing_waits_for_an_acknowledgement():
    assert Outbound().silent_for(1000.0) == 0.0
    outbound = _sending(1)
    _acknowledge(outbound, [0])
    assert outbound.silent_for(1000.0) == 0.0


def test_silence_counts_from_the_message_sent_first():
    outbound = _sending(1, now=5.0)
    _sending(1, now=7.0, outbound=outbound)
    assert outbound.silent_for(8.0) == 3.0


def test_an_acknowledgement_ends_the_silence_and_a_round_trip_is_none():
    outbound = _sending(2)
    _acknowledge(outbound, [0], now=RTT)
    assert outbound.silent_for(RTT) == 0.0
    assert outbound.silent_for(RTT + 4.0) == pytest.approx(4.0 - RTT)


def test_a_new_websocket_ends_the_silence():
    outbound = _sending(1)
    outbound.resend_all(9.0)
    assert outbound.silent_for(10.0) == 1.0
