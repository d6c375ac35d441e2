"""Samples for the plots: rates, a bounded number of them, and only what is new."""

import pytest

from ssmtunneld.observe.history import LENGTH, History, TrafficSample
from tests.support.clockwork import run_virtual, virtual
from tests.support.fake_control import elapse


class Counters:
    """The counters of some tunnels, for the test to change."""

    def __init__(self, *names):
        self.readings = {name: TrafficSample(0, 0, None) for name in names}

    def __call__(self):
        return self.readings


def column(history, name, key, since=0):
    return history.since(since).as_document()["tunnels"][name][key]


def test_rates_are_per_second_of_the_time_that_passed():
    counters = Counters("db")
    history = History(counters)
    history.take(10.0)
    counters.readings["db"] = TrafficSample(1000, 4000, 0.0315)
    history.take(12.0)
    assert column(history, "db", "sent") == [0, 500]
    assert column(history, "db", "received") == [0, 2000]
    assert column(history, "db", "rtt_ms") == [None, 31.5]


def test_only_the_last_samples_are_kept():
    history = History(Counters("db"))
    for second in range(LENGTH + 30):
        history.take(float(second))
    document = history.since().as_document()
    assert (document["newest"], document["length"]) == (LENGTH + 30, LENGTH)
    assert len(document["tunnels"]["db"]["sent"]) == LENGTH


@pytest.mark.parametrize(("has", "gets"), [(10, 0), (7, 3), (0, 10), (11, 10)])
def test_whoever_has_some_gets_the_others_and_a_stranger_gets_all(has, gets):
    history = History(Counters("db"))
    for second in range(10):
        history.take(float(second))
    assert len(column(history, "db", "sent", since=has)) == gets


def test_whoever_was_away_for_long_gets_all():
    history = History(Counters("db"))
    for second in range(3 * LENGTH):
        history.take(float(second))
    assert len(column(history, "db", "sent", since=1)) == LENGTH


def test_tunnels_may_come_and_go():
    counters = Counters("old")
    history = History(counters)
    history.take(1.0)
    counters.readings = {"new": TrafficSample(5000, 0, None)}
    history.take(2.0)
    document = history.since().as_document()
    # What it had moved before anybody looked is no rate.
    assert document["tunnels"] == {
        "new": {"sent": [0], "received": [0], "rtt_ms": [None]}
    }


def test_an_excerpt_does_not_change_any_more():
    history = History(Counters("db"))
    history.take(1.0)
    excerpt = history.since()
    history.take(2.0)
    assert excerpt.as_document()["tunnels"]["db"]["sent"] == [0]


def test_two_looks_at_the_same_moment_do_not_divide_by_nothing():
    history = History(Counters("db"))
    history.take(1.0)
    history.take(1.0)
    assert column(history, "db", "sent") == [0, 0]


def test_it_looks_every_second():
    async def main():
        import asyncio

        history = History(Counters("db"))
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(history.run())
            await elapse(9.5)
            task.cancel()
        return history.since().newest

    assert run_virtual(main()) == 10


@virtual
async def test_500_tunnels_stay_small():
    history = History(Counters(*(f"m{number}" for number in range(500))))
    for second in range(2 * LENGTH):
        history.take(float(second))
    series = history._series.values()
    held = sum(c.buffer_info()[1] * c.itemsize for s in series for c in (s.sent, s.rtt))
    assert held == 500 * LENGTH * 4 * 2
