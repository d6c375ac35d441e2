"""The window: on paths of every kind it is neither in the way nor a queue."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ssmtunneld.protocol.window import (
    INITIAL_WINDOW,
    LONG_PATH,
    MAX_WINDOW,
    MIN_WINDOW,
    PROBE_INTERVAL,
    TOLERANCE,
    TOLERANCE_SHARE,
    Window,
    WindowBudget,
)
from tests.protocol.simulated_path import Path, Sender

MBIT = 1e6 / 8
SLOWLY = settings(
    max_examples=15, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
"""Each example is some ten thousand messages; to make one smaller takes minutes."""


def _message_of(rate):
    """Return the payload that a sender uses at ``rate``: 2 ms of it, as D22 asks."""
    return min(max(int(rate * 0.002) // 1024, 1), 32) * 1024


def _used(path, senders, since, until):
    """Let time pass; return the part of the path that ``senders`` used meanwhile."""
    path.run(since)
    before = sum(sender.delivered for sender in senders)
    path.run(until)
    done = sum(sender.delivered for sender in senders) - before
    return done / (path.rate * (until - since))


def _median_wait(sender, since):
    waits = sorted(wait for at, wait in sender.waits if at >= since)
    return waits[len(waits) // 2]


def _queue(path, sender, since):
    """Return the seconds that ``sender``'s messages wait beyond the empty path."""
    return _median_wait(sender, since) - path.round_trip


# Properties, on simulated paths.


@st.composite
def paths(draw, loss=0.02, clump=0.0):
    """Draw a path that a window of eight megabytes can fill."""
    round_trip = draw(st.floats(0.001, 0.3))
    most = min(1000.0, 0.9 * MAX_WINDOW / (round_trip * 1.2 + 0.03) / MBIT)
    return Path(
        round_trip,
        MBIT * draw(st.floats(0.0, 1.0).map(lambda part: most**part)),
        queue=draw(st.floats(0.01, 1.0)),
        loss=draw(st.floats(0.0, loss)),
        clump=draw(st.floats(0.01, clump)) if clump else 0.0,
        seed=draw(st.integers(0, 1000)),
    )


@SLOWLY
@given(paths())
def test_an_upload_has_nine_tenths_of_the_path_and_a_short_queue(path):
    message = _message_of(path.rate)
    sender = Sender(path, message)
    begun = 1.0 + 12 * path.round_trip
    # A probe costs its share of its interval, and not more of a shorter time. What is
    # lost has used the path, too.
    least_used = 0.88 * (1 - path.loss)
    assert _used(path, [sender], begun, begun + PROBE_INTERVAL) > least_used
    least = MIN_WINDOW + 120 + message  # bytes that are under way in any case
    allowed = 0.05 + TOLERANCE_SHARE * path.round_trip + 3 * least / path.rate
    assert _queue(path, sender, begun) < allowed
    assert sender.outbound.window.size <= MAX_WINDOW


@SLOWLY
@given(paths(loss=0.01, clump=0.1))
def test_acknowledgements_in_bursts_leave_an_upload_most_of_the_path(path):
    sender = Sender(path, _message_of(path.rate))
    begun = 6.0 + 12 * (path.round_trip + path.clump)
    assert _used(path, [sender], begun, begun + 5.0) > 0.6


@SLOWLY
@given(st.floats(0.005, 0.2), st.floats(2, 50), st.floats(2, 50), st.floats(0.05, 1.0))
def test_another_rate_is_used_and_fills_no_queue(round_trip, before, after, queue):
    path = Path(round_trip, before * MBIT, queue)
    sender = Sender(path)
    path.at(4.0, lambda: setattr(path, "rate", after * MBIT))
    settled = 6.0 + 25 * round_trip + before / after * (round_trip + 0.1)
    assert _used(path, [sender], settled, settled + PROBE_INTERVAL) > 0.85
    allowed = 0.06 + TOLERANCE_SHARE * round_trip + 3 * 1144 * 5 / path.rate
    assert _queue(path, sender, settled) < allowed
    assert sender.outbound.retransmitted == 0


@SLOWLY
@given(st.floats(0.02, 0.08), st.floats(10, 20), st.floats(0, 4), st.floats(0.1, 1))
def test_two_uploads_share_a_path(round_trip, rate, apart, queue):
    path = Path(round_trip, rate * MBIT, queue)
    assert 0.3 < _part_of_the_first(path, apart) < 0.7


@pytest.mark.parametrize("apart", [0.0, 3.0])
def test_two_uploads_have_equal_parts_of_a_common_path(apart):
    assert 0.4 < _part_of_the_first(Path(0.04, 10 * MBIT, 0.05), apart) < 0.6


def _part_of_the_first(path, apart):
    senders = [Sender(path, start=1.0), Sender(path, start=1.0 + apart)]
    for number, sender in enumerate(senders):
        path.at(number * 0.2, sender.greet)
    settled = 3 * PROBE_INTERVAL
    path.run(settled)
    before = [sender.delivered for sender in senders]
    path.run(settled + 2 * PROBE_INTERVAL)
    parts = [s.delivered - b for s, b in zip(senders, before, strict=True)]
    assert sum(parts) > 0.85 * path.rate * 2 * PROBE_INTERVAL
    return parts[0] / sum(parts)


def test_a_keystroke_beside_an_upload_waits_less_than_80_ms():
    path = Path(0.04, 10 * MBIT, queue=1.0)
    Sender(path)
    typist = Sender(path, message=30, pace=0.1)
    path.run(20.0)
    assert _queue(path, typist, 1.0) < 0.05


def test_jitter_is_no_queue():
    path = Path(0.04, 10 * MBIT, queue=1.0, jitter=0.05)
    assert _used(path, [Sender(path)], 3.0, 30.0) > 0.85


def test_losses_alone_leave_a_window_as_wide_as_without():
    windows = []
    for loss in (0.0, 0.02):
        path = Path(0.1, 50 * MBIT, queue=0.5, loss=loss)
        sender = Sender(path, 8192)
        path.run(4.0)
        windows.append(sender.outbound.window.size)
    assert windows[1] == pytest.approx(windows[0], rel=0.2)


def test_a_longer_path_is_known_after_a_probe():
    path = Path(0.02, 10 * MBIT, queue=1.0)
    sender = Sender(path)
    path.at(PROBE_INTERVAL + 1.0, lambda: setattr(path, "round_trip", 0.15))
    before = 2 * PROBE_INTERVAL + 1.0
    assert _used(path, [sender], before, before + PROBE_INTERVAL) > 0.85
    assert sender.outbound.window.least_round_trip == pytest.approx(0.15, rel=0.05)


def test_the_queue_of_others_does_not_starve_an_upload():
    """As far as half of the window that filled the path without them."""
    path = Path(0.02, 10 * MBIT, queue=1.0)
    sender = Sender(path)
    path.run(2.0)
    alone = sender.outbound.window.size
    path.round_trip = 0.3  # theirs, for as long as they want
    path.run(PROBE_INTERVAL - 0.2)
    assert sender.outbound.window.size > alone / 3


def test_a_fast_start_takes_a_few_round_trips():
    path = Path(0.1, 500 * MBIT, queue=0.5)
    sender = Sender(path, 32768)
    path.run(1.0)
    assert sender.outbound.window.size > MAX_WINDOW / 2


# By hand.


class Acks:
    """Acknowledges full messages of a window, one after the other."""

    def __init__(self, size=1144):
        self.window = Window()
        self.size = size
        self.now = 100.0

    def wait(self, seconds, *, round_trip, ahead=10_000, every=0.001, busy=True):
        """Let acknowledgements come for a while, all with the same round trip."""
        end = self.now + seconds
        while self.now < end:
            self.now += every
            self.window.filled |= busy
            self.window.dry |= not busy
            in_flight = int(self.window.size) if busy else self.size
            self.window.acknowledged(self.size, round_trip, ahead, in_flight, self.now)


def test_nothing_is_known_at_first():
    window = Window()
    assert window.limit == window.size == INITIAL_WINDOW
    assert window.rate is None
    assert window.least_round_trip is None
    assert WindowBudget().free == 64 << 20


def test_the_window_grows_by_what_is_acknowledged_without_delay():
    acks = Acks()
    acks.wait(0.05, round_trip=0.05)
    assert acks.window.size == pytest.approx(INITIAL_WINDOW + 50 * 1144, rel=0.05)


def test_it_does_not_grow_while_the_round_trip_does():
    acks = Acks()
    acks.wait(0.001, round_trip=0.05)
    before = acks.window.size
    acks.wait(0.03, round_trip=0.05 + TOLERANCE)
    assert acks.window.size == before


def test_a_window_that_is_not_used_does_not_grow():
    acks = Acks()
    acks.wait(1.0, round_trip=0.05, busy=False)
    assert acks.window.size == INITIAL_WINDOW


def test_it_ends_at_eight_megabytes():
    acks = Acks(size=32768)
    acks.wait(2.0, round_trip=0.05)
    assert acks.window.size == MAX_WINDOW
    # Also where it grows by steps, with some delay.
    acks.wait(1.0, round_trip=0.07)
    assert acks.window.size == MAX_WINDOW


def test_a_delay_shrinks_it_to_the_delivered_rate_times_the_round_trip():
    acks = Acks()
    acks.window.size = 1e6
    acks.wait(0.01, round_trip=0.05)
    acks.wait(0.5, round_trip=0.1, ahead=100_000)
    tolerance = TOLERANCE + 0.05 * TOLERANCE_SHARE
    assert acks.window.rate == pytest.approx(1_144_000, rel=0.02)
    expected = 1_144_000 * (0.05 + tolerance)
    assert acks.window.size == pytest.approx(expected, rel=0.2)


def test_it_never_falls_below_four_messages():
    acks = Acks(size=200)
    acks.wait(0.01, round_trip=0.01)
    acks.wait(3.0, round_trip=0.2, every=0.1)
    assert MIN_WINDOW <= acks.window.size < 2 * MIN_WINDOW


def test_a_delay_while_little_is_sent_shrinks_nothing():
    acks = Acks()
    acks.wait(0.01, round_trip=0.05, busy=False)
    acks.wait(1.0, round_trip=0.5, busy=False)
    assert acks.window.size == INITIAL_WINDOW


def test_a_delay_that_a_smaller_window_does_not_shorten_is_not_heeded():
    acks = Acks()
    acks.window.size = 1e6
    acks.wait(0.01, round_trip=0.05, ahead=100_000)
    acks.wait(0.1, round_trip=0.4, ahead=100_000)
    before = acks.window.size
    acks.wait(0.4, round_trip=0.39, ahead=50_000, every=0.01)
    assert acks.window.size == before
    # One that a smaller window has shortened is heeded.
    acks.wait(0.4, round_trip=0.28, ahead=50_000, every=0.01)
    assert acks.window.size < before


def test_growth_after_a_delay_is_slow_at_first_and_doubles():
    acks = Acks()
    acks.window.size = 1e6
    acks.wait(0.01, round_trip=0.05)
    acks.wait(0.5, round_trip=0.1, ahead=100_000)
    gains = []
    for _ in range(4):
        before = acks.window.size
        acks.wait(0.08, round_trip=0.05)
        gains.append(acks.window.size - before)
    assert gains[0] < 80 * 1144 / 8
    assert gains == sorted(gains)
    assert gains[3] > 3 * gains[0]


def test_a_repeated_message_counts_for_the_rate_only():
    window = Window()
    for number in range(100):
        window.acknowledged(1144, None, 0, 10**6, number * 0.01)
    assert window.least_round_trip is None
    assert window.size == INITIAL_WINDOW
    assert window.rate == pytest.approx(114_400)


def test_a_pause_is_no_part_of_the_rate():
    acks = Acks()
    acks.wait(0.5, round_trip=0.01)
    rate = acks.window.rate
    acks.now += 100.0
    acks.window.begin(acks.now)
    acks.wait(0.5, round_trip=0.01)
    assert acks.window.rate == pytest.approx(rate, rel=0.05)


def test_a_short_pause_belongs_to_its_slice():
    acks = Acks()
    acks.wait(0.1, round_trip=0.01)
    acks.window.begin(acks.now + 0.001)
    acks.wait(0.1, round_trip=0.01)
    assert acks.window.rate == pytest.approx(1_144_000, rel=0.05)


def _until_probe(acks, round_trip):
    """Let acknowledgements come until a probe begins."""
    for _ in range(60_000):
        acks.wait(0.001, round_trip=round_trip)
        if acks.window.size == 1:
            return
    raise AssertionError("there was no probe")


def test_a_busy_channel_probes_at_multiples_of_the_interval():
    acks = Acks()
    _until_probe(acks, 0.05)
    assert acks.now == pytest.approx(100.0 + PROBE_INTERVAL, abs=0.1)
    assert acks.window.limit > INITIAL_WINDOW
    # What was sent before has ended no probe.
    acks.wait(0.05, round_trip=0.05)
    assert acks.window.size == 1
    before = acks.window.limit
    for round_trip in (0.045, 0.08):
        assert acks.window.size == 1
        acks.window.acknowledged(1144, round_trip, 0, 1144, acks.now + round_trip)
    assert acks.window.size == acks.window.limit == before
    assert acks.window.least_round_trip == 0.045
    _until_probe(acks, 0.08)
    assert acks.now == pytest.approx(100.0 + 2 * PROBE_INTERVAL, abs=0.2)


def test_a_long_path_is_probed_less_often():
    acks = Acks()
    _until_probe(acks, 2.5 * LONG_PATH)
    assert acks.now % (4 * PROBE_INTERVAL) == pytest.approx(0.0, abs=0.4)


def test_a_channel_that_is_not_busy_does_not_probe():
    acks = Acks()
    acks.wait(2 * PROBE_INTERVAL, round_trip=0.05, busy=False, every=0.01)
    assert acks.window.size == INITIAL_WINDOW


def test_a_channel_that_pauses_is_not_busy_any_more():
    acks = Acks()
    acks.wait(1.0, round_trip=0.05)
    size = acks.window.size
    for _ in range(5):
        # A question and its answer, less often than slices end.
        acks.now += PROBE_INTERVAL
        acks.window.begin(acks.now)
        acks.now += 0.05
        acks.window.note_dry()
        acks.window.acknowledged(1144, 0.05, 0, 1144, acks.now)
        assert acks.window.size == size


def test_a_probe_ends_when_there_is_nothing_to_send():
    acks = Acks()
    _until_probe(acks, 0.05)
    window = acks.window
    before = window.limit
    assert window.size == 1
    window.note_dry()
    assert window.size == window.limit == before
    assert window.least_round_trip == 0.05


def test_a_probe_whose_message_was_lost_ends_without_a_measurement():
    acks = Acks()
    _until_probe(acks, 0.05)
    window = acks.window
    # A repeated message among others, then two that are alone.
    window.acknowledged(1144, None, 5000, 5000, acks.now + 0.1)
    window.acknowledged(1144, None, 5000, 1144, acks.now + 0.2)
    assert window.size == 1
    window.acknowledged(1144, None, 0, 1144, acks.now + 0.3)
    assert window.size > 1
    assert window.least_round_trip == 0.05


def test_a_restart_forgets_the_path_and_its_rate():
    acks = Acks()
    acks.wait(1.0, round_trip=0.05)
    assert acks.window.rate is not None
    acks.window.restart()
    assert acks.window.size == INITIAL_WINDOW
    assert acks.window.least_round_trip is None
    assert acks.window.rate is None
