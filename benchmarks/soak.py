"""``python -m benchmarks.soak``: the chaos schedule of the tests, for as long as asked.

Each round is one seed: a service with every kind of fault, a daemon, clients that check
every byte, and at the end an account of what is left (``tests/chaos``). The rounds of a
soak are longer than those of the tests, and its agent is as slow to repeat what was
lost as the real one: ten messages a second, whoever waits for them. What an outage may
cost a session is therefore what its streams had on their way, and with transfers above
``--largest``'s default a connection may wait for longer than the 30 seconds after which
it is taken to hang. The exit code is 1 if anything was not as it must be.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.chaos.accounting import Report
from tests.chaos.world import Scale, run_world

MIB = 1 << 20
SETTLED = 3
"""Rounds after which memory should no longer grow: caches and pools are filled."""
TOLERANCE = 1.1


def main() -> int:
    """Run rounds until the time is over; print each, and the sum."""
    options = _options()
    scale = Scale(
        duration=options.round,
        pace=0.5,
        workers=6,
        largest=options.largest,
        scan_interval=options.scan,
    )
    totals, memory = Totals(), []
    ends = time.perf_counter() + 60 * options.minutes
    seed = options.seed
    while seed == options.seed or time.perf_counter() < ends:
        with tempfile.TemporaryDirectory() as directory:
            report = run_world(seed, Path(directory), scale)
        gc.collect()
        memory.append(psutil.Process().memory_info().rss)
        print(f"{report.line()}; {memory[-1] / MIB:.0f} MiB", flush=True)
        if report.problems:
            print(report.text(), flush=True)
        totals.add(report)
        seed += 1
    print(totals.text(memory), flush=True)
    if options.json:
        options.json.write_text(json.dumps(totals.document(memory), indent=2) + "\n")
    return 1 if totals.problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument(
        "--round", type=float, default=30.0, help="seconds of faults in each round"
    )
    parser.add_argument("--largest", type=int, default=150_000, help="bytes")
    parser.add_argument(
        "--scan",
        type=float,
        default=0.1,
        help="seconds between two messages that the agent repeats; 0.1 is real",
    )
    parser.add_argument("--json", type=Path, help="write the sums to this file")
    return parser.parse_args()


class Totals:
    """Sums and maxima over all rounds."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._sums: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._resets: Counter[str] = Counter()
        self._slowest = {"recovery": 0.0, "completion": 0.0, "silence": 0.0}

    def add(self, report: Report) -> None:
        """Add one round."""
        self.problems += [f"seed {report.seed}: {p}" for p in report.problems]
        self._sums["rounds"] += 1
        for name in _SUMMED:
            self._sums[name] += getattr(report, name)
        for outcome, count in report.outcomes.items():
            self._outcomes[outcome.value] += count
        self._resets += report.resets
        for name, slowest in self._slowest.items():
            self._slowest[name] = max(slowest, getattr(report, name))

    def document(self, memory: list[int]) -> dict[str, object]:
        """Return the sums as JSON can hold them; ``memory`` is after each round."""
        return {
            **self._sums,
            "outcomes": dict(self._outcomes),
            "resets": dict(self._resets),
            "slowest": self._slowest,
            "resident_mib": [round(size / MIB, 1) for size in memory],
            "problems": self.problems,
        }

    def text(self, memory: list[int]) -> str:
        """Return the sums for a person."""
        growth = memory[-1] / memory[min(SETTLED, len(memory)) - 1]
        sums, slowest = self._sums.items(), self._slowest
        lines = [
            "",
            *(f"{n.replace('_', ' '):16} {value:>14,}" for n, value in sums),
            f"outcomes         {dict(self._outcomes)}",
            f"resets           {dict(self._resets)}",
            f"ready again      within {slowest['recovery']:.1f} s of a last fault",
            f"all done         within {slowest['completion']:.1f} s of it",
            f"silent           for {slowest['silence']:.1f} s at most after it",
            f"memory           {memory[-1] / MIB:.0f} MiB, {growth:.2f} times that "
            f"after {min(SETTLED, len(memory))} rounds",
            f"problems         {len(self.problems)}",
        ]
        if growth > TOLERANCE:
            lines.append("memory grew by more than a tenth: run for longer to be sure")
        return "\n".join(lines)


_SUMMED = (
    "faults",
    "sessions",
    "killed",
    "links_lost",
    "resumed",
    "connections",
    "bytes_up",
    "bytes_down",
)


if __name__ == "__main__":
    sys.exit(main())
