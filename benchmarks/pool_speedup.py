"""``python -m benchmarks.pool_speedup``: what a pool gains where the agent is slow.

The emulator sends as slowly as the agent does in reality: at most 1024 bytes each
1.1 ms and session (protocol 6.8). Measured in one run, with the settings that everybody
has who changed nothing else:

* 8 parallel downloads with ``max_sessions = 8`` and with ``max_sessions = 1``. Their
  connections come one after another, so that the pool has a session for each; where
  they come all at once, ``streams_per_session = 1`` makes them wait for it, and that is
  measured too;
* an interactive echo beside a bulk download, which came before it, or after it.

The exit code is 1 if the pool takes more than a sixth of the single session's time, or
if a download doubles the 99th percentile that the echo has alone.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks import clients, processes

DOWNLOADS = 8
MOST_TIME = 1 / 6
MOST_DELAY = 2.0
APART = 0.5
"""Seconds between connections in which the pool adds a session: here it takes 0.1 s."""
MIB = 1 << 20

Echoes = list[float]
"""Their seconds, sorted."""


@dataclass(frozen=True, slots=True)
class Downloads:
    """One way to make the downloads."""

    name: str
    settings: str
    apart: float


ONE_SESSION = Downloads("max_sessions = 1", "max_sessions = 1", 0.0)
POOLS = (
    Downloads(
        f"max_sessions = {DOWNLOADS}, one after another",
        f"max_sessions = {DOWNLOADS}",
        APART,
    ),
    Downloads(
        f"max_sessions = {DOWNLOADS}, streams_per_session = 1, all at once",
        f"max_sessions = {DOWNLOADS}\nstreams_per_session = 1",
        0.0,
    ),
)


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
    for way in (*POOLS, ONE_SESSION):
        with processes.daemon(endpoint, target, settings=way.settings) as (ports, _):
            seconds[way] = _download(ports[0], size, way.apart)
        rate = DOWNLOADS * size / seconds[way] / MIB
        print(
            f"{DOWNLOADS} downloads of {size / MIB:g} MiB, {way.name}: "
            f"{seconds[way]:.2f} s, {rate:.2f} MiB/s",
            flush=True,
        )
    worst = max(seconds[way] for way in POOLS) / seconds[ONE_SESSION]
    print(f"worst ratio {worst:.3f} (at most {MOST_TIME:.3f})", flush=True)
    return worst <= MOST_TIME


def _download(port: int, size: int, apart: float) -> float:
    """Return the seconds of all downloads, from when all of them are connected."""
    with ExitStack() as stack:
        opened = []
        for _ in range(DOWNLOADS):
            opened.append(stack.enter_context(clients.connect(port)))
            if apart:
                clients.echo(opened[-1])
                time.sleep(apart)
        for client in opened:
            clients.echo(client)
        begun = time.perf_counter()
        with ThreadPoolExecutor(DOWNLOADS) as threads:
            list(threads.map(lambda client: clients.download(client, size), opened))
        return time.perf_counter() - begun


def compare_echoes(endpoint: str, target: int, count: int) -> bool:
    """Print how long echoes take; tell whether a download leaves them alone."""
    orders: dict[str, Callable[[int, int], tuple[Echoes, Echoes]]] = {
        "before": _bulk_first,
        "after": _echo_first,
    }
    ratios = []
    for order, measure in orders.items():
        with processes.daemon(endpoint, target) as (ports, _):
            alone, beside = measure(ports[0], count)
        _print_echoes("alone", alone)
        _print_echoes(f"beside a download that came {order} it", beside)
        ratios.append(
            clients.percentile(beside, 0.99) / clients.percentile(alone, 0.99)
        )
        print(f"ratio of the 99th percentiles {ratios[-1]:.2f}", flush=True)
    print(f"worst ratio {max(ratios):.2f} (under {MOST_DELAY:g})")
    return max(ratios) < MOST_DELAY


def _print_echoes(name: str, seconds: Echoes) -> None:
    middle, worst = (clients.percentile(seconds, part) * 1000 for part in (0.5, 0.99))
    print(f"echo {name}: p50 {middle:.2f} ms, p99 {worst:.2f} ms", flush=True)


def _bulk_first(port: int, count: int) -> tuple[Echoes, Echoes]:
    alone = clients.echoes(port, count)
    return alone, clients.echoes_beside_bulk(port, count)


def _echo_first(port: int, count: int) -> tuple[Echoes, Echoes]:
    """Measure one and the same connection."""
    with clients.connect(port) as client:
        clients.echo(client)
        time.sleep(clients.GROWTH)
        alone = sorted(clients.echo(client) for _ in range(count))
        with _downloading(port):
            beside = sorted(clients.echo(client) for _ in range(count))
    return alone, beside


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
            # As long as the download has been under way in the other order.
            time.sleep(clients.GROWTH)
            yield
        finally:
            over.set()
            drainer.join()


if __name__ == "__main__":
    sys.exit(main())
