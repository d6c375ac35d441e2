"""The A columns of protocol 4, one rule at a time."""

from random import Random

import pytest

from ssmtunneld.emulator.agent.reliability import (
    Reliability,
    RoundTrip,
    message_ids,
)
from ssmtunneld.protocol.message import MessageType, PayloadType, decode
from ssmtunneld.protocol.payloads import parse_acknowledgement

OUTPUT = PayloadType.OUTPUT


def reliability(capacity=100):
    return Reliability(Random(1), 1_700_000_000.0, capacity)


def test_numbers_start_at_zero_and_the_first_message_is_flagged_syn():
    agent = reliability()
    first, second = (decode(agent.send(OUTPUT, b"x", 1.5)[0]) for _ in range(2))
    assert (first.sequence, first.flags) == (0, 1)
    assert (second.sequence, second.flags) == (1, 0)
    assert first.message_type == MessageType.OUTPUT
    assert first.created_ms == 1_700_000_001_500


def test_an_acknowledgement_names_the_message_and_carries_flags_3():
    agent = reliability()
    message = decode(agent.send(OUTPUT, b"x", 0)[0])
    answer = decode(agent.acknowledgement(message, 0))
    assert answer.message_type == MessageType.ACKNOWLEDGE
    assert (answer.sequence, answer.flags, answer.payload_type) == (0, 3, 0)
    assert parse_acknowledgement(answer.payload) == 0


def test_only_the_front_is_sent_again_and_as_the_same_bytes():
    agent = reliability()
    sent = [agent.send(OUTPUT, bytes([n + 1]), 0.0)[0] for n in range(3)]
    assert agent.resend(0.2) == []
    assert agent.resend(0.21) == [sent[0]]
    assert agent.resend(0.3) == []  # the last sending counts
    assert agent.resend(0.42) == [sent[0]]
    agent.on_acknowledgement(0, 0.43)
    assert agent.resend(2.0) == [sent[1]]
    assert agent.statistics.resent == 3


def test_an_acknowledgement_of_something_unknown_measures_nothing():
    agent = reliability()
    agent.on_acknowledgement(7, 5.0)
    assert agent.round_trip == RoundTrip()


def test_a_sample_is_measured_from_the_latest_sending():
    agent = reliability()
    agent.send(OUTPUT, b"x", 0.0)
    agent.resend(0.5)
    agent.on_acknowledgement(0, 0.6)
    assert agent.round_trip.mean == pytest.approx(0.1)


def test_the_timeout_follows_the_formulas_of_the_agent():
    trip = RoundTrip()
    trip.sample(0.2)
    assert trip.deviation == pytest.approx(0.025)
    assert trip.mean == pytest.approx(0.1125)
    assert trip.timeout == pytest.approx(0.2125)
    for _ in range(50):
        trip.sample(0.02)
    assert trip.timeout == pytest.approx(trip.mean + 0.01, abs=1e-3)


def test_the_timeout_is_never_above_a_second():
    trip = RoundTrip()
    trip.sample(60.0)
    assert trip.timeout == 1.0


def test_a_pause_withholds_messages_but_records_them():
    agent = reliability()
    agent.paused = True
    assert agent.send(OUTPUT, b"x", 0.0) == []
    assert agent.resend(9.0) == []
    agent.paused = False
    assert decode(agent.resend(9.0)[0]).payload == b"x"


def test_a_full_buffer_sends_a_message_that_it_can_never_send_again():
    agent = reliability(capacity=1)
    agent.send(OUTPUT, b"a", 0.0)
    assert agent.send(OUTPUT, b"b", 0.0)
    assert (agent.unacknowledged, agent.statistics.unrecorded) == (1, 1)


def test_messages_that_come_early_are_held_until_the_buffer_is_full():
    agent = reliability(capacity=1)
    early = [
        decode(reliability().send(OUTPUT, b"x", 0)[0])._replace(sequence=n)
        for n in (1, 2)
    ]
    assert agent.hold(early[0])
    assert not agent.hold(early[1])
    assert agent.next_held() is None
    agent.advance()
    assert agent.next_held() == early[0]
    agent.advance()
    assert (agent.expected, agent.early, agent.next_held()) == (2, 0, None)


def test_message_ids_are_different_uuids_of_version_4():
    ids = message_ids(Random(3))
    made = [next(ids) for _ in range(3)]
    assert len(set(made)) == 3
    assert all(i[6] >> 4 == 4 and i[8] >> 6 == 2 for i in made)
