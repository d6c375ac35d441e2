"""Conclusions from the times of a channel's messages."""

import pytest

from ssmtunneld.transport.channel_timing import ChannelTiming, Pauses
from ssmtunneld.transport.peer_recovery import SCAN_INTERVAL
from ssmtunneld.transport.read_scheduler import MAX_DELAY, MIN_DURATION

START = 100.0
MESSAGE = 0.001
"""Seconds between two messages of a download."""


def _downloaded(timing, seconds):
    """Let a download last that long; return the time at its end."""
    for number in range(round(seconds / MESSAGE)):
        timing.on_arrival(START + number * MESSAGE, 1, early=False)
    return START + seconds


def test_only_what_is_sent_and_a_new_websocket_end_a_pause():
    timing = ChannelTiming(START)
    timing.on_arrival(130.0, 1, early=False)
    assert timing.pauses(140.0) == Pauses(40.0, 0.0)
    timing.on_sent(150.0)
    assert timing.pauses(160.0) == Pauses(10.0, 50.0)
    timing.on_link(170.0, resumed=True)
    assert timing.pauses(170.0) == Pauses(0.0, 50.0)


@pytest.mark.parametrize(("resumed", "behind"), [(False, 0.0), (True, 0.5)])
def test_only_a_channel_that_was_open_before_may_be_behind_on_a_new_websocket(
    resumed, behind
):
    timing = ChannelTiming(START)
    timing.on_link(START, resumed=resumed)
    assert timing.behind(START + 0.5, 0) == behind


def test_it_is_behind_by_what_is_missing_or_since_it_is():
    timing = ChannelTiming(START)
    timing.on_arrival(START, 0, early=True)
    assert timing.behind(START, 20) == pytest.approx(20 * SCAN_INTERVAL)
    assert timing.behind(START + 60.0, 20) == 60.0


def test_reading_is_delayed_in_a_download_that_lasts_until_something_is_sent():
    timing = ChannelTiming(START)
    assert timing.read_delay(_downloaded(timing, MIN_DURATION / 2)) == 0.0
    timing = ChannelTiming(START)
    now = _downloaded(timing, 5.0)
    assert timing.read_delay(now) == MAX_DELAY
    timing.on_sent(now)
    assert timing.read_delay(now) == 0.0
