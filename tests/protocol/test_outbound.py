"""The sending half: window, losses, timers, and what a new websocket needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.protocol.outbound import (
    MAX_MESSAGE,
    MAX_MESSAGES,
    REORDERING,
    Outbound,
)
from ssmtunneld.protocol.window import (
    INITIAL_WINDOW,
    MAX_WINDOW,
    WindowBudget,
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
    window = outbound.window.size
    assert _acknowledge(outbound, [sequence], now=9.0) == []
    assert outbound.unacked == 2
    assert outbound.window.size == window
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


def _full(outbound, now=0.0):
    """Send full messages while there is room."""
    while outbound.room:
        outbound.send(bytes(MAX_MESSAGE), now)
    return outbound


def test_room_is_as_many_full_messages_as_fill_the_window():
    outbound = Outbound()
    expected = -(-INITIAL_WINDOW // MAX_MESSAGE)
    assert outbound.room == expected
    for left in range(expected - 1, -1, -1):
        outbound.send(bytes(MAX_MESSAGE), 0.0)
        assert outbound.room == left


@pytest.mark.parametrize("size", [1024, 8192, 32768])
def test_a_message_of_any_size_fits_while_the_window_is_not_full(size):
    outbound = Outbound()
    while outbound.room:
        outbound.send(bytes(120 + size), 0.0)
    assert INITIAL_WINDOW <= outbound.unacked_bytes < INITIAL_WINDOW + 120 + size


def test_room_is_never_negative():
    outbound = _full(Outbound())
    outbound.send(bytes(MAX_MESSAGE), 0.0)
    assert outbound.room == 0


def test_the_window_is_one_round_trip_of_the_delivered_rate():
    outbound, now = _full(Outbound()), 0.0
    for sequence in range(200):
        now = max(now + MAX_MESSAGE / 1e6, RTT)  # a megabyte a second
        outbound.acknowledge(sequence, now)
        _full(outbound, now)
    assert outbound.window.rate == pytest.approx(1e6, rel=0.1)
    assert outbound.window.least_round_trip == RTT
    assert 0.05e6 < outbound.window.size < 0.1e6


def test_small_messages_are_bounded_in_number():
    outbound = Outbound()
    outbound.window.size = MAX_WINDOW
    while outbound.room:
        outbound.send(b"x", 0.0)
    assert outbound.unacked == MAX_MESSAGES


def test_channels_that_share_a_budget_leave_as_much_as_each_has():
    budget = WindowBudget(1 << 20)
    first, second = Outbound(budget), Outbound(budget)
    first.window.size = second.window.size = MAX_WINDOW
    _full(first)
    assert first.unacked_bytes == pytest.approx((1 << 20) / 2, rel=0.01)
    for _ in range(1000):
        # As acknowledgements make room, each takes what it may have.
        for outbound in (first, second):
            outbound.acknowledge(outbound.next_sequence - outbound.unacked, 0.01)
            _full(outbound, 0.01)
    for outbound in (first, second):
        assert outbound.unacked_bytes == pytest.approx((1 << 20) / 3, rel=0.01)


def test_a_used_up_budget_leaves_the_window_of_a_beginner():
    outbound = _full(Outbound(WindowBudget(0)))
    assert INITIAL_WINDOW <= outbound.unacked_bytes < INITIAL_WINDOW + MAX_MESSAGE


def test_one_large_message_is_seen_among_many_small_ones():
    outbound = Outbound()
    for size in (40, 8192, *[40] * 20):
        outbound.send(bytes(size), 0.0)
    assert outbound.large_unacked
    outbound.acknowledge(1, 0.1)
    assert not outbound.large_unacked


def test_what_is_acknowledged_or_given_up_is_free_for_others():
    budget = WindowBudget(1000)
    outbound = _sending(4, outbound=Outbound(budget))
    assert budget.free == 1000 - outbound.unacked_bytes
    _acknowledge(outbound, [0])
    assert budget.free == 1000 - outbound.unacked_bytes
    outbound.release()
    assert budget.free == 1000
    _acknowledge(outbound, [1])
    outbound.release()
    assert budget.free == 1000


def test_room_counts_messages_of_the_size_that_is_sent():
    outbound = Outbound()
    usual = outbound.room
    outbound.full_message = 8 * MAX_MESSAGE
    assert outbound.room == -(-usual // 8)
    while outbound.room:
        outbound.send(bytes(outbound.full_message), 0.0)
    over = outbound.unacked_bytes - outbound.window.size
    assert 0 <= over < outbound.full_message


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


def test_a_loss_shrinks_no_window():
    outbound = _sending(20)
    before = outbound.window.size
    assert _acknowledge(outbound, range(1, 20)) == [0]
    assert outbound.window.size == before
    assert outbound.on_deadline(10.0) != []
    assert outbound.window.size == before


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


def test_everything_that_is_late_is_repeated_in_sequence():
    outbound = _sending(6)
    assert _acknowledge(outbound, [4], now=0.9) == [0, 1]
    assert _numbers(outbound.on_deadline(30.0)) == [0, 1, 2, 3, 5]


def test_an_acknowledgement_of_others_puts_the_deadline_off():
    """Messages behind the acknowledged one are queued; later ones would show a loss."""
    outbound = _sending(3)
    _acknowledge(outbound, [1], now=0.9)
    assert outbound.next_deadline() == 0.9 + outbound.round_trip.timeout
    assert outbound.on_deadline(0.9 + 0.99 * outbound.round_trip.timeout) == []
    assert _numbers(outbound.on_deadline(outbound.next_deadline())) == [0, 2]


def test_a_timeout_doubles_the_timeout():
    outbound = _sending(20)
    outbound.on_deadline(1.0)
    assert outbound.round_trip.timeout == 2.0


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


def test_a_new_websocket_is_another_path():
    outbound = _sending(1)
    _acknowledge(outbound, [0])
    outbound.window.size = 1e6
    outbound.resend_all(1.0)
    assert outbound.window.size == INITIAL_WINDOW
    assert outbound.window.least_round_trip is None


def _backlog(messages, size=1000):
    """Return one with many messages that are unacknowledged, and its budget."""
    budget = WindowBudget()
    outbound = Outbound(budget)
    outbound.window.size = MAX_WINDOW
    for number in range(messages):
        outbound.send(f"message {number}".encode().ljust(size), 0.0)
    return outbound, budget


def _sent_numbers(messages):
    return _numbers(data.rstrip() for data in messages)


def test_a_new_websocket_gets_as_much_as_a_new_window_has_room_for():
    outbound, _ = _backlog(1000)
    flight = _sent_numbers(outbound.resend_all(1.0))
    assert flight == list(range(-(-INITIAL_WINDOW // 1000)))
    assert outbound.unacked == 1000
    assert outbound.unacked_bytes == 1_000_000
    # Nothing new goes before what is late already.
    assert outbound.room == 0


def test_the_rest_comes_with_acknowledgements_and_grows_with_them():
    outbound, budget = _backlog(1000)
    flight, seen, now, flights = outbound.resend_all(1.0), [], 1.0, 0
    while flight:
        seen += _sent_numbers(flight)
        now += 0.05
        flights += 1
        following = []
        for number in _sent_numbers(flight):
            following += outbound.acknowledge(number, now)
        flight = following
    assert seen == list(range(1000))
    assert flights < 8, "twofold with each round trip, once round trips are known"
    assert outbound.window.least_round_trip == pytest.approx(0.05)
    assert (outbound.unacked, outbound.unacked_bytes) == (0, 0)
    assert outbound.room > 0
    assert budget.free == WindowBudget().free
    assert outbound.next_deadline() is None


def test_the_first_flight_says_nothing_of_round_trips():
    """It can be an earlier copy that is acknowledged."""
    outbound, _ = _backlog(200)
    for number in _sent_numbers(outbound.resend_all(1.0)):
        outbound.acknowledge(number, 1.001)
    assert outbound.window.least_round_trip is None


def test_what_is_acknowledged_before_its_turn_is_not_sent_again():
    outbound, budget = _backlog(100)
    flight = _sent_numbers(outbound.resend_all(1.0))
    assert outbound.acknowledge(99, 1.01) == []
    assert outbound.is_acknowledged(99)
    assert not outbound.is_acknowledged(98)
    rest = []
    for number in flight:
        rest += _sent_numbers(outbound.acknowledge(number, 1.05))
    assert rest == list(range(len(flight), 99))
    for number in rest:
        outbound.acknowledge(number, 1.1)
    assert outbound.unacked == 0
    assert budget.free == WindowBudget().free


def test_what_was_not_sent_again_yet_goes_to_the_next_websocket_too():
    outbound, budget = _backlog(100)
    first = _sent_numbers(outbound.resend_all(1.0))
    outbound.acknowledge(0, 1.05)
    again = _sent_numbers(outbound.resend_all(2.0))
    assert again == [number + 1 for number in first]
    assert outbound.unacked == 99
    outbound.release()
    assert budget.free == WindowBudget().free


def test_large_messages_that_wait_for_their_turn_are_known():
    outbound, _ = _backlog(100, size=MAX_MESSAGE + 1)
    for number in _sent_numbers(outbound.resend_all(1.0)):
        outbound.acknowledge(number, 1.05)
    assert outbound.large_unacked


@given(st.lists(st.sampled_from(["ack", "late ack", "time", "websocket"]), max_size=60))
def test_no_websocket_has_more_under_way_than_its_window(steps):
    outbound, budget = _backlog(300)
    now = 1.0
    under_way = set(_sent_numbers(outbound.resend_all(now)))
    steps = iter(steps)
    while outbound.unacked:
        now += 0.01
        step = next(steps, "ack")
        if step == "websocket":
            under_way = set(_sent_numbers(outbound.resend_all(now)))
        elif step == "time":
            now = max(now, outbound.next_deadline())
            assert set(_sent_numbers(outbound.on_deadline(now))) <= under_way
        else:
            number = min(under_way) if step == "ack" else 299
            under_way.discard(number)
            under_way |= set(_sent_numbers(outbound.acknowledge(number, now)))
        assert len(under_way) * 1000 < outbound.window.limit + 2000
        assert bool(outbound.unacked) == bool(under_way), "or nothing would go on"
    assert budget.free == WindowBudget().free


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


def test_what_is_acknowledged_while_it_waits_for_room_is_not_sent_again():
    outbound = Outbound()
    for number in range(2 * INITIAL_WINDOW // MAX_MESSAGE):
        outbound.send(_message(number).ljust(MAX_MESSAGE), 0.0)
    first = _numbers(outbound.resend_all(1.0))
    parked = len(first)
    assert first == list(range(parked)), "no more than the new window has room for"
    # A copy of before has arrived.
    assert _acknowledge(outbound, [parked], 1.0) == []
    again = _acknowledge(outbound, first, 1.0 + RTT)
    assert again[:2] == [parked + 1, parked + 2]
