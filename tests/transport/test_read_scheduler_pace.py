"""Recognition of a download that lasts, and the pauses in reading it."""

import pytest

from ssmtunneld.transport.read_scheduler import (
    DELAY_SHARE,
    MAX_DELAY,
    MAX_MESSAGES,
    MIN_DURATION,
    MIN_MESSAGES,
    PACE_WINDOW,
    DownloadPace,
)

START = 100.0
AGENT = 0.0011
"""Seconds between two messages of an agent (protocol 6.8)."""


def downloaded(pace, seconds, *, since=START, interval=AGENT):
    """Let one message arrive per ``interval``; return the time of the last."""
    now = since
    while now < since + seconds:
        now += interval
        pace.note_arrival(1, now)
    return now


def test_a_download_that_lasts_rests_for_a_share_of_what_it_has_lasted():
    pace = DownloadPace()
    now = downloaded(pace, 1.0)
    assert pace.delay(now) == pytest.approx(DELAY_SHARE * 1.0, rel=0.01)
    now = downloaded(pace, 3.0, since=now)
    assert pace.delay(now) == MAX_DELAY


def test_a_short_one_is_read_as_it_comes():
    pace = DownloadPace()
    assert pace.delay(START) == 0.0
    now = downloaded(pace, MIN_DURATION - 0.02)
    assert pace.delay(now) == 0.0


def test_resting_does_not_end_it():
    pace = DownloadPace()
    now = downloaded(pace, 5.0)
    for _ in range(200):
        assert pace.delay(now) == MAX_DELAY
        now += MAX_DELAY + 0.001
        pace.note_arrival(round(MAX_DELAY / AGENT), now)


def test_what_we_send_ends_it():
    pace = DownloadPace()
    now = downloaded(pace, 5.0)
    pace.note_sent()
    assert pace.delay(now) == 0.0
    again = downloaded(pace, 2 * MIN_DURATION, since=now)
    assert pace.delay(again) == pytest.approx(DELAY_SHARE * (again - now), rel=0.01)


def test_who_may_be_waiting_for_us_is_read_at_once():
    pace = DownloadPace()
    now = downloaded(pace, 5.0)
    pace.note_arrival(MAX_MESSAGES, now)
    assert pace.delay(now) == 0.0
    now = downloaded(pace, 5.0, since=now, interval=PACE_WINDOW / MAX_MESSAGES / 2)
    assert pace.delay(now) == 0.0


def test_a_pause_ends_it():
    pace = DownloadPace()
    now = downloaded(pace, 5.0) + 3 * PACE_WINDOW
    pace.note_arrival(1, now)
    assert pace.delay(now) == 0.0


def test_a_trickle_is_none():
    pace = DownloadPace()
    now = downloaded(pace, 5.0, interval=PACE_WINDOW / (MIN_MESSAGES - 2))
    assert pace.delay(now) < DELAY_SHARE * 2 * PACE_WINDOW
