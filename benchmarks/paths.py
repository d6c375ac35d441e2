"""``python -m benchmarks.paths``: uploads over long paths and over a slow one.

The emulator's ``--path`` stands for the network. Measured, each with one session unless
it says otherwise:

* an upload over a round trip of 2 ms and of 100 ms, after it has got going;
* over 10 Mbit/s with a router's queue of 50 ms and 20 ms each way: an echo that is
  alone, beside an upload of the same session, and beside one of another session; the
  part of the link that the upload has meanwhile; and how two uploads of two sessions
  share it.

The part of the link counts what an upload's bytes make of themselves on the wire:
headers of frames, messages, websocket and TCP. The exit code is 1 if the long path has
less than 0.85 of the short one's rate, an echo waits more than 80 ms longer than alone
(medians), the upload has less than 0.9 of the link, or two share it worse than 60:40.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from benchmarks import clients, processes

LONG, SHORT = "delay=50ms", "delay=1ms"
SLOW = "delay=20ms,rate=10mbit,queue=50ms"
SLOW_RATE = 10e6 / 8
WIRE = (1016 + 8 + 120 + 8) / 1016 * (1448 + 52) / 1448
"""Bytes on the emulator's link for each byte of an upload in messages of 1024 bytes."""
LEAST_RATIO = 0.85
MOST_WAIT = 0.08
LEAST_PART = 0.9
MOST_SHARE = 0.6
ONE_SESSION = "max_sessions = 1"
TWO_SESSIONS = "warm = 2\nmax_sessions = 2\nstreams_per_session = 1"
ECHO_INTERVAL = 0.1


class Upload:
    """An upload without an end, and how much of it has left its client."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self._client = clients.connect(port)
        clients.echo(self._client)
        # What the kernels hold would be counted before it is on its way.
        self._client.sendall(b"put %d\n" % (1 << 40))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._fill)
        self._thread.start()

    def _fill(self) -> None:
        piece = bytes(1 << 14)
        while not self._over.is_set():
            self.sent += self._client.send(piece)

    def rate(self, seconds: float) -> float:
        """Return the bytes per second that leave in ``seconds`` from now on."""
        before, begun = self.sent, time.perf_counter()
        time.sleep(seconds)
        return (self.sent - before) / (time.perf_counter() - begun)

    def close(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join()
        self._client.close()


@contextmanager
def _uploading(port: int, settling: float) -> Iterator[Upload]:
    upload = Upload(port)
    try:
        time.sleep(settling)
        yield upload
    finally:
        upload.close()


@contextmanager
def _tunnel(path: str, settings: str) -> Iterator[int]:
    with ExitStack() as stack:
        target = stack.enter_context(processes.destination())
        options = ("--pace", "none", "--path", path)
        endpoint = stack.enter_context(processes.emulator(*options))
        ports, _ = stack.enter_context(
            processes.daemon(endpoint, target, settings=settings)
        )
        yield ports[0]


def main() -> int:
    """Measure, print, judge; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each figure")
    options = parser.parse_args()
    kept = [
        compare_lengths(options.runs, options.seconds),
        watch_echoes(ONE_SESSION, "the same", options.seconds),
        watch_echoes(TWO_SESSIONS, "another", options.seconds),
        share(options.seconds),
    ]
    return 0 if all(kept) else 1


def compare_lengths(runs: int, seconds: float) -> bool:
    """Print the rates over both lengths, in turns; judge their ratio."""
    rates: dict[str, list[float]] = {SHORT: [], LONG: []}
    for _ in range(runs):
        for path, found in rates.items():
            with _tunnel(path, ONE_SESSION) as port, _uploading(port, 3.0) as upload:
                found.append(upload.rate(seconds))
    short, long = (median(found) / 1e6 for found in rates.values())
    print(f"upload over 2 ms {short:.1f} MB/s, over 100 ms {long:.1f}", end=": ")
    print(f"{long / short:.2f} (at least {LEAST_RATIO})", flush=True)
    return long / short >= LEAST_RATIO


def _echoes(port: int, seconds: float) -> list[float]:
    found = []
    with clients.connect(port) as client:
        clients.echo(client)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            found.append(clients.echo(client))
            time.sleep(ECHO_INTERVAL)
    return sorted(found)


def watch_echoes(settings: str, session: str, seconds: float) -> bool:
    """Print echoes alone and beside an upload; judge them and the upload's rate."""
    with _tunnel(SLOW, settings) as port:
        alone = median(_echoes(port, seconds))
        with _uploading(port, 3.0) as upload:
            before, begun = upload.sent, time.perf_counter()
            found = _echoes(port, 2 * seconds)
            rate = (upload.sent - before) / (time.perf_counter() - begun)
    beside, part = median(found), rate * WIRE / SLOW_RATE
    late = clients.percentile(found, 0.95)
    print(
        f"echo alone {alone * 1e3:.0f} ms, beside an upload of {session} session "
        f"{beside * 1e3:.0f} ms (95 % within {late * 1e3:.0f}), which has {part:.2f} "
        f"of the link; {(beside - alone) * 1e3:.0f} ms more (at most "
        f"{MOST_WAIT * 1e3:.0f}, at least {LEAST_PART})",
        flush=True,
    )
    return beside - alone <= MOST_WAIT and part >= LEAST_PART


def share(seconds: float) -> bool:
    """Print how two uploads of two sessions share the link; judge it."""
    with (
        _tunnel(SLOW, TWO_SESSIONS) as port,
        _uploading(port, 3.0) as one,
        _uploading(port, 10.0) as other,
    ):
        before = one.sent, other.sent
        time.sleep(2 * seconds)
        parts = one.sent - before[0], other.sent - before[1]
    first = parts[0] / sum(parts)
    print(f"two uploads {first:.2f} and {1 - first:.2f} (at most {MOST_SHARE})")
    return max(first, 1 - first) <= MOST_SHARE


if __name__ == "__main__":
    sys.exit(main())
