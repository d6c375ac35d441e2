"""Whatever goes wrong, in any order: nothing is lost, and everything comes back.

One seed decides one run: its faults, when they come, whom they hit, and what the
clients do meanwhile. ``python -m benchmarks.soak`` runs the same for hours.
"""

import pytest

from tests.chaos.schedule import FAULTS, make_schedule
from tests.chaos.world import Scale, run_world

FAST_SEEDS = range(16)
REAL_SEEDS = range(16, 22)
OLD_SEEDS = range(22, 25)
SEEDS = [*FAST_SEEDS, *REAL_SEEDS, *OLD_SEEDS]
REAL = Scale(scan_interval=0.1, largest=30_000)
"""The agent repeats what was lost as slowly as it does in reality."""
OLD = Scale(agent_version="3.0.150.0")
"""It has no smux: each connection is a session of its own."""


@pytest.mark.parametrize("seed", FAST_SEEDS)
def test_clients_lose_nothing_and_everything_recovers(seed, tmp_path, record_property):
    _run(seed, tmp_path, record_property, Scale())


@pytest.mark.parametrize("seed", REAL_SEEDS)
def test_so_it_is_when_the_agent_repeats_ten_messages_a_second(
    seed, tmp_path, record_property
):
    _run(seed, tmp_path, record_property, REAL)


@pytest.mark.parametrize("seed", OLD_SEEDS)
def test_so_it_is_when_the_agent_is_too_old_for_smux(seed, tmp_path, record_property):
    _run(seed, tmp_path, record_property, OLD)


def _run(seed, directory, record_property, scale):
    report = run_world(seed, directory, scale)
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
