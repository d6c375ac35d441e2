"""``python -m benchmarks.audit_cost``: processor time of the audit log.

Two daemons that differ in ``audit_log`` alone, with one destination and one emulator.
In turns each gets a round of connections, so many at once: connect, a line, its echo,
close. The daemon's processor time, as the kernel counts it, is read once all lines of
the round are in the file, and divided by the connections. What the machine does besides
hits both; the first round of each is not counted.

The exit code is 1 if the median of the rounds' ratios is above 1.05, or if the file has
not two lines for each connection.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks import clients, processes

LIMIT = 1.05
"""Processor time of a connection with the audit log, as a multiple of one without."""
LIMITS = "start_rate = 1000\nstart_burst = 1000"
SETTLING = 1.0
"""Seconds after a round, of both sides: most of the audit log's work comes later."""
PATIENCE = 60.0
"""Seconds for the lines of a round to arrive."""


@dataclass(frozen=True, slots=True)
class Side:
    """A daemon, and what was measured of it."""

    port: int
    running: processes.Running
    settled: Callable[[], None]
    """Returns once what it does aside, for a round, is done."""
    costs: list[float]
    """Seconds of processor time for each connection, of each round."""


def main() -> int:
    """Measure, print, judge; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit_cost")
    parser.add_argument("--connections", type=int, default=10_000, help="of each side")
    parser.add_argument("--rounds", type=int, default=20, help="of each side, in turns")
    parser.add_argument("--at-once", type=int, default=50)
    options = parser.parse_args()
    each = options.connections // options.rounds
    with ExitStack() as stack:
        target, endpoint = stack.enter_context(processes.far_side())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = folder / "audit.jsonl"

        def side(limits: str, settled: Callable[[], None]) -> Side:
            running = processes.daemon(endpoint, target, limits=limits)
            (port,), daemon = stack.enter_context(running)
            return Side(port, daemon, settled, [])

        rounds = count(1)
        plain = side(LIMITS, lambda: None)
        audited = side(
            f'{LIMITS}\naudit_log = "{log}"',
            lambda: _await_lines(log, 2 * each * next(rounds)),
        )
        for number in range(options.rounds + 1):
            pair = (plain, audited) if number % 2 else (audited, plain)
            for one in pair:
                before = _cpu(one.running)
                visit(one.port, each, options.at_once)
                time.sleep(SETTLING)
                one.settled()
                if number:
                    one.costs.append((_cpu(one.running) - before) / each)
        found = Counter(
            json.loads(line)["event"] for line in log.read_text().splitlines()
        )
    ratios = [b / a for a, b in zip(plain.costs, audited.costs, strict=True)]
    ratio, spread = statistics.median(ratios), statistics.quantiles(ratios, n=4)
    for name, one in (("without", plain), ("with audit_log", audited)):
        cost = 1e6 * statistics.median(one.costs)
        print(f"{name}: {cost:.0f} us of processor time for each connection")
    print(
        f"ratio: {ratio:.3f} (half of the rounds: {spread[0]:.3f} to {spread[2]:.3f})"
    )
    total = each * (options.rounds + 1)
    print(f"lines: {found['opened']} opened, {found['ended']} ended, of {total}")
    complete = found["opened"] == found["ended"] == total
    return 0 if complete and ratio <= LIMIT else 1


def visit(port: int, total: int, at_once: int) -> None:
    """Make ``total`` connections that say one line, ``at_once`` at a time."""
    while total > 0:
        some = min(at_once, total)
        total -= some
        with ExitStack() as stack:
            crowd = [stack.enter_context(clients.connect(port)) for _ in range(some)]
            for client in crowd:
                clients.echo(client)


def _cpu(running: processes.Running) -> float:
    """Return the processor time of a process in seconds, not in hundredths of them."""
    # clock_getcpuclockid() of Linux, which Python has only for its own threads.
    return time.clock_gettime((~running.process.pid << 3) | 2)


def _await_lines(log: Path, wanted: int) -> None:
    """Return once ``log`` has so many lines of connections."""
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        if log.exists() and log.read_bytes().count(b'"connection"') >= wanted:
            return
        time.sleep(0.05)
    raise RuntimeError("lines of the audit log are missing")


if __name__ == "__main__":
    sys.exit(main())
