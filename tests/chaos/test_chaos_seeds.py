"""Whatever goes wrong, in any order: nothing is lost, and everything comes back.

One seed decides one run: its faults, when they come, whom they hit, and what the
clients do meanwhile. ``python -m benchmarks.soak`` runs the same for hours.
"""

import pytest

from tests.chaos.schedule import FAULTS, make_schedule
from tests.chaos.world import Scale, run_world

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_clients_lose_nothing_and_everything_recovers(seed, tmp_path, record_property):
    report = run_world(seed, tmp_path)
    record_property("report", report.line())
    assert report.problems == [], report.text()
    assert report.connections > 0


def test_the_seeds_together_cover_every_kind_of_fault():
    scale = Scale()
    kinds = {
        step.kind
        for seed in SEEDS
        for step in make_schedule(seed, scale.duration, scale.pace)
    }
    assert kinds == {"line", *FAULTS}


def test_a_seed_always_means_the_same_schedule():
    assert make_schedule(7, 5.0) == make_schedule(7, 5.0)
    assert make_schedule(7, 5.0) != make_schedule(8, 5.0)
