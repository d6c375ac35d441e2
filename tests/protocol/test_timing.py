"""Round-trip time and timeout (RFC 6298)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.protocol.timing import (
    GRANULARITY,
    INITIAL_TIMEOUT,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    RoundTrip,
)

seconds = st.floats(0, 1000)


def _trip(*samples):
    trip = RoundTrip()
    for sample in samples:
        trip.sample(sample)
    return trip


def test_before_any_sample_the_timeout_is_one_second():
    trip = _trip()
    assert trip.smoothed is None
    assert trip.timeout == INITIAL_TIMEOUT


def test_the_first_sample_is_the_mean_and_half_of_it_the_deviation():
    trip = _trip(0.4)
    assert trip.smoothed == 0.4
    assert trip.timeout == pytest.approx(0.4 + 4 * 0.2)


def test_the_deviation_uses_the_mean_from_before_the_sample():
    trip = _trip(0.4, 0.8)
    deviation = 0.75 * 0.2 + 0.25 * 0.4
    assert trip.smoothed == pytest.approx(0.875 * 0.4 + 0.125 * 0.8)
    assert trip.timeout == pytest.approx(trip.smoothed + 4 * deviation)


def test_the_timeout_has_a_floor():
    assert _trip(0.001).timeout == MIN_TIMEOUT


def test_a_steady_path_leaves_at_least_the_clock_granularity():
    trip = _trip(*[0.5] * 200)
    assert trip.timeout == pytest.approx(0.5 + GRANULARITY)


def test_each_backing_off_doubles_the_timeout_until_the_ceiling():
    trip = _trip(0.5)
    timeouts = []
    for _ in range(5):
        timeouts.append(trip.timeout)
        trip.back_off()
    assert timeouts == [1.5, 3.0, 6.0, 12.0, MAX_TIMEOUT]


def test_backing_off_for_hours_does_not_make_the_way_back_longer():
    trip = _trip(0.5)
    for _ in range(10_000):
        trip.back_off()
    assert trip.timeout == MAX_TIMEOUT
    trip.reset_backoff()
    assert trip.timeout == 1.5


def test_a_sample_ends_the_backing_off():
    trip = _trip(0.5)
    trip.back_off()
    trip.sample(0.5)
    assert trip.timeout < 1.5


@given(st.lists(seconds | st.none(), max_size=50))
def test_the_timeout_stays_within_its_bounds(steps):
    trip = RoundTrip()
    for step in steps:
        if step is None:
            trip.back_off()
        else:
            trip.sample(step)
        assert MIN_TIMEOUT <= trip.timeout <= MAX_TIMEOUT


@given(st.lists(seconds, min_size=1, max_size=50))
def test_the_mean_stays_among_the_samples(samples):
    trip = _trip(*samples)
    assert trip.smoothed is not None
    assert min(samples) * 0.999 <= trip.smoothed <= max(samples) * 1.001
