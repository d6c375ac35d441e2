import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.base.foreign import clean
from ssmtunneld.errors import AccessDenied, Recovery, ServiceUnavailable, Throttled
from ssmtunneld.sessions.backoff import DEMAND_INTERVAL, Backoff, Retries, persist
from tests.support.clockwork import virtual


def now():
    return asyncio.get_running_loop().time()


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


def test_each_kind_of_end_has_waits_of_its_own():
    retries = Retries(Highest())
    assert [retries.note_end(Recovery.RESTART, 0.0) for _ in range(3)] == [0.5, 1, 2]
    assert retries.note_end(Recovery.WAIT, 0.0) == 4.0
    assert retries.note_end(Recovery.RESTART, 0.0) == 4.0
    assert retries.note_end(Recovery.STOP, 0.0) == 60.0


def test_a_short_wait_does_not_cut_a_long_one():
    retries = Retries(Highest())
    retries.note_end(Recovery.STOP, 100.0)
    retries.note_end(Recovery.RESTART, 100.0)
    assert retries.next_start(wanted=False) == 160.0
    assert retries.left(100.0) == 60.0
    assert retries.left(160.0) is None


def test_whoever_waits_sees_an_attempt_every_two_seconds():
    retries = Retries(Highest())
    retries.note_start(100.0)
    retries.note_end(Recovery.STOP, 100.5)
    assert retries.next_start(wanted=True) == 100.0 + DEMAND_INTERVAL


def test_another_network_or_login_is_tried_at_once():
    retries = Retries(Highest())
    for _ in range(3):
        retries.note_end(Recovery.RESTART, 0.0)
    retries.retry_at(0.5)
    assert retries.next_start(wanted=False) == 0.5
    assert retries.note_end(Recovery.RESTART, 0.5) == 0.5


OOPS = ServiceUnavailable("StartSession", clean("500"), clean("oops"))
THROTTLED = Throttled("StartSession", clean("ThrottlingException"), clean("slow"))
DENIED = AccessDenied("StartSession", clean("AccessDenied"), clean("no"))


class Attempts:
    """Fails with each error once, then answers; notes when it was called."""

    def __init__(self, *errors):
        self._errors = list(errors)
        self.times = []

    async def __call__(self):
        self.times.append(now())
        if self._errors:
            raise self._errors.pop(0)
        return "answer"


@virtual
@pytest.mark.parametrize("error", [OOPS, THROTTLED])
async def test_errors_that_pass_are_waited_out(error):
    attempts = Attempts(error, error, error)
    assert await persist(attempts, Random(1), now() + 60) == "answer"
    assert len(attempts.times) == 4


@virtual
async def test_a_throttled_call_backs_off_from_a_second():
    attempts = Attempts(THROTTLED, THROTTLED)
    await persist(attempts, Random(1), now() + 60)
    first, second, third = attempts.times
    assert second - first >= 1
    assert third - second >= 2


@virtual
async def test_an_error_that_stays_is_told_at_once():
    attempts = Attempts(DENIED)
    with pytest.raises(AccessDenied):
        await persist(attempts, Random(1), now() + 60)
    assert len(attempts.times) == 1


@virtual
async def test_the_last_error_is_told_in_time():
    began = now()
    with pytest.raises(Throttled):
        await persist(Attempts(*[THROTTLED] * 9), Random(1), began + 5)
    assert now() <= began + 5
