from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.tunnel.backoff import Backoff


class Highest(Random):
    """Dice that always show the most."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_bound_doubles_up_to_the_cap():
    backoff = Backoff(Highest(), base=0.5, cap=15.0)
    assert [backoff.next() for _ in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]


def test_a_reset_starts_over():
    backoff = Backoff(Highest(), base=1.0, cap=60.0)
    backoff.next()
    backoff.next()
    assert backoff.failures == 2
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.next() == 1.0


def test_years_of_failures_do_not_overflow():
    backoff = Backoff(Highest(), base=1.0, cap=60.0)
    waits = [backoff.next() for _ in range(5000)]
    assert waits[-1] == 60.0


@given(st.integers(), st.floats(0.01, 10), st.floats(1, 1000), st.integers(1, 60))
def test_every_wait_is_between_nothing_and_its_bound(seed, base, cap, count):
    backoff = Backoff(Random(seed), base=base, cap=cap)
    for attempt in range(count):
        assert 0 <= backoff.next() <= min(cap, base * 2**attempt)


def test_those_that_failed_together_do_not_come_back_together():
    waits = {Backoff(Random(seed), base=8.0, cap=60.0).next() for seed in range(20)}
    assert len(waits) == 20
