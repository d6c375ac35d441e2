"""``python -m benchmarks.pool_speedup``: what a pool gains where the agent is slow.

The emulator sends as slowly as the agent does in reality: at most 1024 bytes each
1.1 ms and session (protocol 6.8). Measured in one run:

* 8 parallel downloads with ``max_sessions = 8`` and with ``max_sessions = 1``;
* an interactive echo, alone and beside a bulk download.

The exit code is 1 if the pool takes more than a sixth of the single session's time, or
if the bulk download doubles the echo's 99th percentile.
"""

import argparse
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks import clients, processes

DOWNLOADS = 8
MOST_TIME = 1 / 6
MOST_DELAY = 2.0
POOL = "max_sessions = {}\nstreams_per_session = 1"
MIB = 1 << 20


def main() -> int:
    """Measure, print, judge; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pool_speedup")
    parser.add_argument("--mib", type=float, default=2.0, help="of each download")
    parser.add_argument("--echoes", type=int, default=2000)
    options = parser.parse_args()
    with ExitStack() as stack:
        target = stack.enter_context(processes.destination())
        endpoint = stack.enter_context(processes.emulator("--pace", "real"))
        fast_enough = compare_downloads(endpoint, target, int(options.mib * MIB))
        prompt_enough = compare_echoes(endpoint, target, options.echoes)
    return 0 if fast_enough and prompt_enough else 1


def compare_downloads(endpoint: str, target: int, size: int) -> bool:
    """Print how long the downloads take; tell whether the pool is worth it."""
    seconds = {}
    for sessions in (DOWNLOADS, 1):
        settings = POOL.format(sessions)
        with processes.daemon(endpoint, target, settings=settings) as (ports, _):
            seconds[sessions] = clients.transfer(
                ports[0], clients.download, DOWNLOADS, DOWNLOADS * size
            )
        rate = DOWNLOADS * size / seconds[sessions] / MIB
        print(
            f"{DOWNLOADS} downloads of {size / MIB:g} MiB, max_sessions = {sessions}: "
            f"{seconds[sessions]:.2f} s, {rate:.2f} MiB/s",
            flush=True,
        )
    ratio = seconds[DOWNLOADS] / seconds[1]
    print(f"ratio {ratio:.3f} (at most {MOST_TIME:.3f})", flush=True)
    return ratio <= MOST_TIME


def compare_echoes(endpoint: str, target: int, count: int) -> bool:
    """Print how long echoes take; tell whether a download leaves them alone."""
    found = {}
    with processes.daemon(endpoint, target) as (ports, _):
        found["alone"] = clients.echoes(ports[0], count)
        found["beside a download that came before it"] = clients.echoes_beside_bulk(
            ports[0], count
        )
    isolated = POOL.format(4)
    with processes.daemon(endpoint, target, settings=isolated) as (ports, _):
        found["beside one that came after it, streams_per_session = 1"] = _overtaken(
            ports[0], count
        )
    for name, seconds in found.items():
        middle, worst = (clients.percentile(seconds, p) * 1000 for p in (0.5, 0.99))
        print(f"echo {name}: p50 {middle:.2f} ms, p99 {worst:.2f} ms", flush=True)
    alone, *beside = (clients.percentile(times, 0.99) for times in found.values())
    ratio = max(beside) / alone
    print(f"ratio of the 99th percentiles {ratio:.2f} (under {MOST_DELAY:g})")
    return ratio < MOST_DELAY


def _overtaken(port: int, count: int) -> list[float]:
    """Return the seconds of echoes on a connection that was there before a download."""
    with clients.connect(port) as client:
        clients.echo(client)
        with _downloading(port):
            return sorted(clients.echo(client) for _ in range(count))


@contextmanager
def _downloading(port: int) -> Iterator[None]:
    over = threading.Event()
    with clients.connect(port) as bulk:
        clients.echo(bulk)

        def drain() -> None:
            bulk.sendall(b"get %d\n" % (1 << 40))
            while not over.is_set() and bulk.recv(clients.BUFFER):
                pass

        drainer = threading.Thread(target=drain)
        drainer.start()
        try:
            yield
        finally:
            over.set()
            drainer.join()


if __name__ == "__main__":
    sys.exit(main())
