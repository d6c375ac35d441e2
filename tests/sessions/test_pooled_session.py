from dataclasses import dataclass

import pytest

from ssmtunneld.protocol.channel import ChannelStatistics
from ssmtunneld.sessions.pooled_session import (
    BULK_RATE,
    GAP_TIME,
    STALL_TIME,
    MeasuredSession,
    TrafficGauge,
)
from ssmtunneld.smux.mux import MuxStatistics
from tests.sessions.samples import channel_statistics


@dataclass
class Reading(MeasuredSession):
    """A session as it is at one moment."""

    streams: int = 0
    moved_bytes: int = 0
    reading_stopped: bool = False
    unanswered: int | None = None
    unacked: int = 0
    acknowledged: int = 0
    behind: float = 0.0

    def statistics(self) -> tuple[ChannelStatistics, MuxStatistics | None]:
        channel = channel_statistics(
            unacked=self.unacked, acknowledged=self.acknowledged
        )
        return channel, None


def test_the_rate_is_what_passed_since_the_measurement_before():
    gauge = TrafficGauge(100.0)
    gauge.measure(Reading(moved_bytes=5000), 102.0)
    assert gauge.rate == 2500
    gauge.measure(Reading(moved_bytes=5000), 103.0)
    assert gauge.rate == 0


def test_looks_that_are_too_close_do_not_count():
    gauge = TrafficGauge(0.0)
    gauge.measure(Reading(moved_bytes=1000), 1.0)
    gauge.measure(Reading(moved_bytes=9000), 1.05)
    assert gauge.rate == 1000
    gauge.measure(Reading(moved_bytes=9000), 2.0)
    assert gauge.rate == 8000


@pytest.mark.parametrize(("rate", "bulk"), [(BULK_RATE, False), (BULK_RATE + 1, True)])
def test_much_data_is_bulk(rate, bulk):
    gauge = TrafficGauge(0.0)
    gauge.measure(Reading(moved_bytes=rate), 1.0)
    assert gauge.bulk is bulk


def test_a_session_is_idle_since_its_last_stream_was_seen():
    gauge = TrafficGauge(5.0)
    assert gauge.idle_since == 5
    gauge.measure(Reading(streams=1), 5.01)
    gauge.measure(Reading(), 7.0)
    assert gauge.idle_since == 5.01


def test_a_session_that_nobody_reads_is_stalled():
    gauge = TrafficGauge(0.0)
    gauge.measure(Reading(reading_stopped=True), 1.0)
    assert gauge.stalled
    gauge.measure(Reading(), 2.0)
    assert not gauge.stalled


def test_a_session_is_stalled_while_nothing_is_acknowledged_though_it_should():
    gauge = TrafficGauge(0.0)
    gauge.measure(Reading(unacked=3, acknowledged=7), 1.0)
    gauge.measure(Reading(unacked=3, acknowledged=7), 1.0 + STALL_TIME - 0.5)
    assert not gauge.stalled
    gauge.measure(Reading(unacked=9, acknowledged=7), 1.0 + STALL_TIME)
    assert gauge.stalled
    gauge.measure(Reading(unacked=8, acknowledged=8), 8.0)
    assert not gauge.stalled


def test_a_quiet_session_is_not_stalled():
    gauge = TrafficGauge(0.0)
    gauge.measure(Reading(), 3600.0)
    assert not gauge.stalled


def test_the_first_message_after_a_long_quiet_time_is_no_stall():
    gauge = TrafficGauge(0.0)
    gauge.measure(Reading(unacked=1), 3600.0)
    assert not gauge.stalled


def test_a_message_that_stays_missing_is_a_stall_until_it_has_come():
    gauge = TrafficGauge(0.0)
    gauge.measure(Reading(behind=GAP_TIME - 0.1), 10.0)
    assert not gauge.stalled
    gauge.measure(Reading(behind=GAP_TIME), 11.0)
    assert gauge.stalled
    gauge.measure(Reading(), 20.0)
    assert not gauge.stalled


def test_it_knows_for_how_long_it_has_been_stalled():
    gauge = TrafficGauge(0.0)
    gauge.measure(Reading(), 10.0)
    assert gauge.stalled_for(15.0) == 0
    gauge.measure(Reading(behind=GAP_TIME), 20.0)
    gauge.measure(Reading(behind=GAP_TIME + 1), 21.0)
    assert gauge.stalled_for(25.0) == 5
    gauge.measure(Reading(), 26.0)
    assert gauge.stalled_for(27.0) == 0


def test_a_destination_that_swallows_everything_is_a_stall_until_it_answers():
    gauge = TrafficGauge(0.0)
    for second in range(1, 11):
        gauge.measure(Reading(unanswered=3), float(second))
        assert not gauge.stalled
    gauge.measure(Reading(unanswered=3), 11.0)
    assert gauge.stalled
    gauge.measure(Reading(unanswered=None), 12.0)
    assert not gauge.stalled


def test_streams_that_are_answered_one_after_the_other_are_no_stall():
    gauge = TrafficGauge(0.0)
    for second in range(1, 31):
        gauge.measure(Reading(unanswered=2 * second + 1), float(second))
        assert not gauge.stalled
