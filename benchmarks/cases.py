"""The cases. Each gives figures: a name with its unit, and one value for each run."""

import asyncio
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import clients, floors, processes

MESSAGE = 1016
"""Bytes of a stream in one full message."""
MIB = 1 << 20
Figures = dict[str, list[float]]

DIRECTIONS = {"down": clients.download, "up": clients.upload}
ONE_SESSION = "max_sessions = 1"
SMALL = 'message_size = "1KiB"'
"""As from and to a service that takes no larger messages."""
BULK = 64 * MIB
CONNECTIONS = (1, 8, 64)
TUNNELS = (1, 200, 500)
TRANSFERS = (8_000, 32_000, 128_000)
"""Messages. Fewer take so little that the clock of processor time does not see it."""
SETTLING = 1.0
"""Seconds."""


def _cpu_of(running: processes.Running) -> Callable[[], float]:
    return lambda: running.cpu


def throughput(runs: int) -> Figures:
    """Throughput and processor time of the daemon and of both floors, in turns.

    The daemon is there twice: as it comes, and with messages like those of the floor.
    """
    figures: Figures = defaultdict(list)
    with ExitStack() as stack:
        target, endpoint = stack.enter_context(processes.far_side())
        ports, daemon = stack.enter_context(
            processes.daemon(endpoint, target, settings=ONE_SESSION)
        )
        small, other = stack.enter_context(
            processes.daemon(endpoint, target, settings=f"{ONE_SESSION}\n{SMALL}")
        )
        contenders = {"daemon": (ports[0], daemon), "daemon 1 KiB": (small[0], other)}
        for kind in ("relay", "minimal"):
            contenders[kind] = stack.enter_context(
                processes.floor(kind, target, endpoint)
            )
        for _ in range(runs + 1):
            for direction, move in DIRECTIONS.items():
                for name, (port, running) in contenders.items():
                    for count in CONNECTIONS if name == "daemon" else (1,):
                        seconds, cost = clients.transfer(
                            port, move, count, BULK, _cpu_of(running)
                        )
                        case = f"{name} {direction} x{count}"
                        figures[f"{case} MB/s"].append(BULK / seconds / 1e6)
                        cost_each = cost / (BULK / MESSAGE)
                        figures[f"{case} CPU us/message"].append(cost_each * 1e6)
    return _without_first(figures)


def messages(runs: int) -> Figures:
    """Processor time for each message of one transfer, by the number of messages."""
    figures: Figures = defaultdict(list)
    with ExitStack() as stack:
        target, endpoint = stack.enter_context(processes.far_side())
        ports, daemon = stack.enter_context(processes.daemon(endpoint, target))
        for _ in range(runs + 1):
            for direction, move in DIRECTIONS.items():
                for count in TRANSFERS:
                    _, cost = clients.transfer(
                        ports[0], move, 1, count * MESSAGE, _cpu_of(daemon)
                    )
                    case = f"daemon {direction} of {count} messages"
                    figures[f"{case} CPU us/message"].append(cost / count * 1e6)
    return _without_first(figures)


def latency(runs: int) -> Figures:
    """Round trips, idle and beside a transfer, and the time to the first byte."""
    figures: Figures = defaultdict(list)
    with ExitStack() as stack:
        target, endpoint = stack.enter_context(processes.far_side())
        ports, _ = stack.enter_context(processes.daemon(endpoint, target))
        port = ports[0]
        relay, _ = stack.enter_context(processes.floor("opened", target, endpoint))
        for _ in range(runs + 1):
            idle = clients.echoes(port, 500)
            warm, relayed, floor = _first_bytes(port, relay, endpoint, target)
            down = clients.echoes_beside_bulk(port, 500)
            up = clients.echoes_beside_bulk(port, 500, up=True)
            time.sleep(SETTLING)  # what is left of them is no part of the next run
            for part in (0.5, 0.99):
                name = f"p{round(part * 100)} ms"
                figures[f"echo idle {name}"].append(_ms(idle, part))
                figures[f"echo beside download {name}"].append(_ms(down, part))
                figures[f"echo beside upload {name}"].append(_ms(up, part))
            figures["first byte warm ms"].append(_ms(warm, 0.5))
            figures["first byte of a bare relay ms"].append(_ms(relayed, 0.5))
            figures["first byte on open websocket ms"].append(_ms(floor, 0.5))
    return _without_first(figures)


def _first_bytes(
    port: int, relay: int, endpoint: str, target: int
) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds of first bytes here, of a bare relay and of bare exchanges.

    All are sorted. An exchange has no local connection, so that it is less than any
    forwarder can do.

    In turns of a few: a machine that has just worked hard, or has just slept, is not
    equally fast, and both must be measured on the same.
    """
    warm: list[float] = []
    relayed: list[float] = []
    floor: list[float] = []
    with asyncio.Runner() as runner:
        channel = runner.run(floors.Minimal.open(endpoint, target))
        for _ in range(20):
            warm += clients.first_bytes(port, 10)
            relayed += clients.first_bytes(relay, 10)
            floor += runner.run(_exchanges(channel, len(floor), 10))
        runner.run(channel.close())
    return sorted(warm), sorted(relayed), sorted(floor)


async def _exchanges(channel: floors.Minimal, first: int, count: int) -> list[float]:
    found = []
    for number in range(first, first + count):
        begun = time.perf_counter()
        await channel.exchange(floors.STREAM + 2 * number, b"echo\n")
        found.append(time.perf_counter() - begun)
    return found


def connections(runs: int) -> Figures:
    """Connections opened per second, one after the other, and a cold first byte."""
    figures: Figures = defaultdict(list)
    with ExitStack() as stack:
        target, endpoint = stack.enter_context(processes.far_side())
        ports, _ = stack.enter_context(processes.daemon(endpoint, target))
        for _ in range(runs + 1):
            begun = time.perf_counter()
            clients.first_bytes(ports[0], 300)
            figures["connections per second"].append(
                300 / (time.perf_counter() - begun)
            )
        for _ in range(runs + 1):
            with processes.daemon(endpoint, target, settings="warm = 0") as (cold, _):
                figures["first byte cold ms"].append(
                    _ms(clients.first_bytes(cold[0], 1), 0.5)
                )
    return _without_first(figures)


def memory(runs: int) -> Figures:
    """Resident memory with 1, 200 and 500 tunnels, and for each idle connection."""
    figures: Figures = defaultdict(list)
    idle = 500
    with ExitStack() as stack:
        target, endpoint = stack.enter_context(processes.far_side())
        for _ in range(runs):
            for count in TUNNELS:
                with processes.daemon(endpoint, target, tunnels=count) as (ports, it):
                    time.sleep(SETTLING)  # it gives back what the start has left
                    figures[f"memory {count} tunnels MiB"].append(it.resident / MIB)
                    if count > 1:
                        continue
                    for client in (clients.connect(ports[0]) for _ in range(20)):
                        clients.echo(client)
                        client.close()
                    before = it.resident
                    opened = [clients.connect(ports[0]) for _ in range(idle)]
                    for client in opened:
                        clients.echo(client)
                    used = (it.resident - before) / idle / 1024
                    figures["memory per idle connection KiB"].append(used)
                    for client in opened:
                        client.close()
    return figures


def starting(runs: int) -> Figures:
    """Time until ready, and how long small commands take."""
    figures: Figures = defaultdict(list)
    with ExitStack() as stack:
        target, endpoint = stack.enter_context(processes.far_side())
        for _ in range(runs + 1):
            with processes.daemon(endpoint, target) as (_, running):
                figures["start to ready s"].append(running.started_in)
            for command in ("--help", "status"):
                begun = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "ssmtunneld", command],
                    capture_output=True,
                    env=processes.ENVIRONMENT,
                    check=False,
                )
                figures[f"{command} s"].append(time.perf_counter() - begun)
    return _without_first(figures)


def idling(runs: int) -> Figures:
    """Processor time of 50 warm tunnels that nobody uses, in percent of a core."""
    figures: Figures = defaultdict(list)
    watched = 10.0
    with ExitStack() as stack:
        target, endpoint = stack.enter_context(processes.far_side())
        _, running = stack.enter_context(processes.daemon(endpoint, target, tunnels=50))
        time.sleep(2)
        for _ in range(runs):
            before = running.cpu
            time.sleep(watched)
            share = (running.cpu - before) / watched
            figures["idle 50 tunnels CPU %"].append(share * 100)
    return figures


def _ms(ordered: list[float], part: float) -> float:
    return clients.percentile(ordered, part) * 1000


def _without_first(figures: Figures) -> Figures:
    """Drop the warm-up run."""
    return {name: values[1:] for name, values in figures.items()}


CASES = {
    "throughput": throughput,
    "messages": messages,
    "latency": latency,
    "connections": connections,
    "memory": memory,
    "starting": starting,
    "idling": idling,
}
