"""The processes of a benchmark: destination, emulator, floors, daemon."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ENVIRONMENT = {
    **os.environ,
    "AWS_ACCESS_KEY_ID": "AKIABENCHMARKBENCHMARK",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_REGION": "eu-west-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
START_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A process, and what it said when it was ready."""

    process: subprocess.Popen[bytes]
    line: str
    started_in: float
    """Seconds from its start to that line."""

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far, user and system."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def resident(self) -> int:
        """Bytes of resident memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextlib.contextmanager
def process(arguments: list[str], ready: str, name: str) -> Iterator[Running]:
    """Run ``python ARGUMENTS`` until the block ends; wait for a line with ``ready``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "output"
        with path.open("wb") as output:
            begun = time.perf_counter()
            child = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
            )
        try:
            line = _wait_for(path, ready, child, name)
            yield Running(child, line, time.perf_counter() - begun)
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _wait_for(path: Path, ready: str, child: subprocess.Popen[bytes], name: str) -> str:
    deadline = time.perf_counter() + START_TIMEOUT
    while time.perf_counter() < deadline:
        text = path.read_text(errors="replace")
        for line in text.splitlines():
            if ready in line:
                return line
        if child.poll() is not None:
            raise RuntimeError(f"{name} ended: {text[-2000:]}")
        time.sleep(0.002)
    raise RuntimeError(f"{name} was not ready: {path.read_text(errors='replace')}")


def kill_children() -> None:
    """Kill whatever this process has started and not ended.

    A request to end can come while a process is being started, before anybody has it.
    """
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@contextlib.contextmanager
def destination() -> Iterator[int]:
    """Run the destination; yield its port."""
    (port,) = free_ports(1)
    with process(["-m", "benchmarks.destination", str(port)], "ready", "destination"):
        yield port


@contextlib.contextmanager
def emulator(*options: str) -> Iterator[str]:
    """Run the emulator; yield its URL."""
    arguments = ["-m", "ssmtunneld", "emulator", "--listen", "127.0.0.1:0", *options]
    with process(arguments, "listening on", "emulator") as running:
        yield running.line.split()[-1]


@contextlib.contextmanager
def far_side() -> Iterator[tuple[int, str]]:
    """Run a destination and an emulator without pacing; yield port and URL."""
    with destination() as target, emulator("--pace", "none") as endpoint:
        yield target, endpoint


@contextlib.contextmanager
def floor(kind: str, target: int, endpoint: str) -> Iterator[tuple[int, Running]]:
    """Run a floor (:mod:`benchmarks.floors`) towards ``target``; yield its port."""
    (port,) = free_ports(1)
    arguments = ["-m", "benchmarks.floors", kind, str(port), str(target), endpoint]
    with process(arguments, "ready", kind) as running:
        yield port, running


@contextlib.contextmanager
def daemon(
    endpoint: str,
    target: int,
    *,
    tunnels: int = 1,
    settings: str = "",
    limits: str = "start_rate = 1000\nstart_burst = 1000",
) -> Iterator[tuple[list[int], Running]]:
    """Run the daemon with ``tunnels`` towards ``target``; yield the local ports.

    Args:
        endpoint: The emulator's URL.
        target: The destination's port.
        tunnels: How many.
        settings: Lines for ``[defaults]``.
        limits: Lines for ``[daemon]``.
    """
    ports = free_ports(tunnels)
    tables = "".join(
        f'[tunnels.m{number}]\nlisten = "127.0.0.1:{port}"\nport = {target}\n\n'
        for number, port in enumerate(ports)
    )
    text = (
        f"[daemon]\n{limits}\n\n[defaults]\n"
        f'target = "i-0123456789abcdef0"\nendpoint_url = "{endpoint}"\n{settings}\n\n'
        f"{tables}"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(text)
        arguments = ["-m", "ssmtunneld", "run", "--config", str(path)]
        with process(arguments, "daemon.ready", "daemon") as running:
            yield ports, running
