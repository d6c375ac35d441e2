"""``python -m benchmarks.top_cost``: processor time of ``ssmtunneld top``.

A daemon with 200 tunnels and 500 open connections, a fifth of which say something each
second, and ``top`` in a pseudo-terminal. Processor time is what the kernel counts for
its process, in percent of one core; that of the daemon is told beside it, with and
without somebody who looks.

The exit code is 1 if ``top`` takes more than 15 %.
"""

import argparse
import fcntl
import os
import pty
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil

from benchmarks import clients, processes

TUNNELS, CONNECTIONS = 200, 500
TALKING = 5
"""One connection of so many says something each second."""
LIMIT = 15.0
SETTLING = 5.0
"""Seconds that are not counted: the start, and the first rates."""


def main() -> int:
    """Measure, print, judge; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.top_cost")
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement")
    options = parser.parse_args()
    worst = 0.0
    with ExitStack() as stack:
        target, endpoint = stack.enter_context(processes.far_side())
        running = processes.daemon(endpoint, target, tunnels=TUNNELS)
        ports, daemon = stack.enter_context(running)
        talking = [clients.connect(ports[n % TUNNELS]) for n in range(CONNECTIONS)]
        for client in talking:
            stack.enter_context(client)
            clients.echo(client)
        stack.enter_context(chatter(talking[::TALKING]))
        alone = _share([daemon.process.pid], options.seconds)[0]
        print(f"daemon without top: {alone:.1f} % of a core")
        for columns, rows in ((80, 24), (200, 60)):
            with top(_config(daemon), columns, rows) as (pid, seen):
                time.sleep(SETTLING)
                cost, watched = _share([pid, daemon.process.pid], options.seconds)
            screen = b"".join(seen).decode(errors="replace")
            if f"{TUNNELS} tunnels usable, {CONNECTIONS} connections" not in screen:
                raise RuntimeError(f"top has not shown everything: {screen[-2000:]}")
            print(f"top at {columns}x{rows}: {cost:.1f} %, daemon: {watched:.1f} %")
            worst = max(worst, cost)
    return 0 if worst <= LIMIT else 1


@contextmanager
def chatter(talking: list[socket.socket]) -> Iterator[None]:
    """Let each of these clients say something once a second."""
    end = threading.Event()

    def talk() -> None:
        while not end.wait(1.0):
            for client in talking:
                clients.echo(client)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@contextmanager
def top(config: str, columns: int, rows: int) -> Iterator[tuple[int, list[bytes]]]:
    """Run ``ssmtunneld top`` in a terminal of this size.

    Yields its process id, and what it writes, piece by piece.
    """
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**processes.ENVIRONMENT, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ssmtunneld", "top", "--config", config],
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
        start_new_session=True,
    )
    os.close(child)
    seen: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(parent, seen))
    reader.start()
    try:
        yield process.pid, seen
    finally:
        os.write(parent, b"q")
        process.wait(20)
        reader.join()
        os.close(parent)


def _config(daemon: processes.Running) -> str:
    """Return the path of the configuration that ``daemon`` was started with."""
    arguments = daemon.process.args
    assert isinstance(arguments, list), "as processes.py starts it"
    return str(arguments[-1])


def _read_all(terminal: int, seen: list[bytes]) -> None:
    try:
        while data := os.read(terminal, 65536):
            seen.append(data)
    except OSError:
        pass  # how Linux tells the end of a terminal


def _share(pids: list[int], seconds: float) -> list[float]:
    """Return the percentage of a core that each process takes for so long."""
    watched = [psutil.Process(pid) for pid in pids]
    before = [_used(process) for process in watched]
    begun = time.perf_counter()
    time.sleep(seconds)
    elapsed = time.perf_counter() - begun
    used = [_used(process) for process in watched]
    return [
        100 * (now - then) / elapsed for now, then in zip(used, before, strict=True)
    ]


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
