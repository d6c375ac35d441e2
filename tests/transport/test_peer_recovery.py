"""Detection of an agent that is catching up, from the messages that arrive."""

import pytest

from ssmtunneld.transport.peer_recovery import MORE, PAUSE, SCAN_INTERVAL, PeerRecovery


def test_a_channel_on_which_all_is_in_order_is_not_behind():
    repair = PeerRecovery()
    for number in range(100):
        repair.on_arrival(number * 0.3, 1, early=False)
        assert repair.behind(number * 0.3 + 0.1) == 0


def test_it_is_behind_since_something_arrived_early():
    repair = PeerRecovery()
    repair.on_arrival(10.0, 0, early=True)
    for step in range(1, 100):
        now = 10.0 + step * SCAN_INTERVAL
        assert repair.behind(now) == pytest.approx(now - 10.0)
        repair.on_arrival(now, 1, early=True)
    repair.on_arrival(20.0, MORE, early=False)
    assert repair.behind(20.0) == 0


def test_a_single_message_that_was_late_leaves_no_trace_after_a_pause():
    repair = PeerRecovery()
    repair.on_arrival(10.0, 0, early=True)
    repair.on_arrival(10.2, 2, early=False)
    assert repair.behind(10.3) == pytest.approx(0.3)
    assert repair.behind(10.2 + PAUSE) == 0
    repair.on_arrival(20.0, 1, early=False)
    assert repair.behind(20.0) == 0


def test_repetitions_in_order_after_a_new_websocket_are_recognised_by_their_pace():
    repair = PeerRecovery()
    repair.on_link(10.0)
    for step in range(1, 50):
        now = 10.0 + step * SCAN_INTERVAL
        repair.on_arrival(now, 1, early=False)
        assert repair.behind(now) == pytest.approx(now - 10.0)


def test_a_new_websocket_on_which_much_arrives_is_not_behind():
    repair = PeerRecovery()
    repair.on_link(10.0)
    for step in range(MORE):
        repair.on_arrival(10.2 + step * 0.001, 1, early=False)
    assert repair.behind(10.3) == 0


def test_a_new_websocket_on_which_nothing_arrives_is_not_behind():
    repair = PeerRecovery()
    repair.on_link(10.0)
    assert repair.behind(10.0 + PAUSE) == 0
    repair.on_arrival(30.0, 1, early=False)
    assert repair.behind(30.1) == 0


def test_a_second_websocket_does_not_start_the_doubt_anew():
    repair = PeerRecovery()
    repair.on_link(10.0)
    repair.on_link(10.5)
    assert repair.behind(11.0) == pytest.approx(1.0)


def test_silence_proves_nothing_while_something_is_known_to_be_missing():
    repair = PeerRecovery()
    repair.on_arrival(10.0, 0, early=True)
    assert repair.behind(100.0) == 90
