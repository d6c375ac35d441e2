"""``python -m benchmarks.bursts``: downloads that begin at once, twice.

A fresh daemon with the settings that everybody has who changed nothing, and an emulator
that sends as slowly as the agent does in reality (protocol 6.8). One download alone,
then four at once, then four at once again.

The exit code is 1 if the first four take more than 2.2 times as long as one alone, or
the second four more than 1.3 times.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks import clients, processes

DOWNLOADS = 4
FIRST, SECOND = 2.2, 1.3
SIZE = 1 << 20


def main() -> int:
    """Measure, print, judge; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bursts")
    parser.add_argument("--rounds", type=int, default=3, help="the best of them counts")
    options = parser.parse_args()
    with ExitStack() as stack:
        target = stack.enter_context(processes.destination())
        endpoint = stack.enter_context(processes.emulator("--pace", "real"))
        rounds = [measure(endpoint, target) for _ in range(options.rounds)]
    first = min(burst / alone for alone, burst, _ in rounds)
    second = min(burst / alone for alone, _, burst in rounds)
    print(f"first burst {first:.2f} times one alone, second {second:.2f} times")
    return 0 if first <= FIRST and second <= SECOND else 1


def measure(endpoint: str, target: int) -> tuple[float, float, float]:
    """Return the seconds of one download alone, of the first burst and the second."""
    with processes.daemon(endpoint, target, limits="") as (ports, _):
        alone = download(ports[0], 1)
    with processes.daemon(endpoint, target, limits="") as (ports, _):
        first, second = (download(ports[0], DOWNLOADS) for _ in range(2))
    print(f"alone {alone:.2f} s, first {first:.2f} s, second {second:.2f} s")
    return alone, first, second


def download(port: int, count: int) -> float:
    """Return how long it takes until as many downloads that begin at once are over."""
    began = time.perf_counter()
    with ThreadPoolExecutor(count) as threads:
        list(threads.map(_download, [port] * count))
    return time.perf_counter() - began


def _download(port: int) -> None:
    with clients.connect(port) as client:
        clients.download(client, SIZE)


if __name__ == "__main__":
    sys.exit(main())
