"""Medians, spreads, the promises of the project, and the comparison with a baseline."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

BASELINE = Path(__file__).with_name("baseline.json")
MOVED = 0.25
"""A ratio that differs from its baseline by more than this is named."""

Figures = dict[str, list[float]]
Medians = dict[str, float]


@dataclass(frozen=True, slots=True)
class Promise:
    """A ratio or a figure that has to stay on one side of a limit."""

    name: str
    of: Callable[[Medians], float]
    limit: float
    at_most: bool = True
    portable: bool = True
    """True if it can be compared between machines, and so stands in the baseline."""

    def kept(self, value: float) -> bool:
        """Return whether ``value`` keeps the promise."""
        return value <= self.limit if self.at_most else value >= self.limit


def _ratio(above: str, below: str) -> Callable[[Medians], float]:
    return lambda m: m[above] / m[below]


def _cost(direction: str) -> Promise:
    return Promise(
        f"CPU per message {direction}: daemon / minimal loop",
        _ratio(
            f"daemon {direction} x1 CPU us/message",
            f"minimal {direction} x1 CPU us/message",
        ),
        2.0,
    )


def _speed(direction: str) -> list[Promise]:
    one = f"daemon {direction} x1 MB/s"
    return [
        Promise(
            f"throughput {direction}: daemon / minimal loop",
            _ratio(one, f"minimal {direction} x1 MB/s"),
            0.6,
            at_most=False,
        ),
        Promise(
            f"throughput {direction}: 64 connections / 1",
            _ratio(f"daemon {direction} x64 MB/s", one),
            0.8,
            at_most=False,
        ),
        Promise(
            f"CPU per message {direction}: 64 connections / 1",
            _ratio(
                f"daemon {direction} x64 CPU us/message",
                f"daemon {direction} x1 CPU us/message",
            ),
            1.25,
        ),
    ]


def _patience(bulk: str) -> Promise:
    return Promise(
        f"echo p99: beside {bulk} / idle",
        _ratio(f"echo beside {bulk} p99 ms", "echo idle p99 ms"),
        3.0,
    )


PROMISES = [
    _cost("down"),
    _cost("up"),
    *_speed("down"),
    *_speed("up"),
    Promise(
        "first byte: warm tunnel / open websocket",
        _ratio("first byte warm ms", "first byte on open websocket ms"),
        1.5,
    ),
    Promise(
        "first byte: warm tunnel / bare relay",
        _ratio("first byte warm ms", "first byte of a bare relay ms"),
        1.15,
    ),
    _patience("download"),
    _patience("upload"),
    Promise("memory of one tunnel, MiB", lambda m: m["memory 1 tunnels MiB"], 60.0),
    Promise("memory of 200 tunnels, MiB", lambda m: m["memory 200 tunnels MiB"], 95.0),
    Promise("memory of 500 tunnels, MiB", lambda m: m["memory 500 tunnels MiB"], 110.0),
    Promise(
        "memory of an idle connection, KiB",
        lambda m: m["memory per idle connection KiB"],
        20.0,
    ),
    Promise("start to ready, s", lambda m: m["start to ready s"], 1.0, portable=False),
    Promise("--help, s", lambda m: m["--help s"], 0.25, portable=False),
    Promise("status, s", lambda m: m["status s"], 0.25, portable=False),
    Promise(
        "50 idle tunnels, % of a core",
        lambda m: m["idle 50 tunnels CPU %"],
        0.5,
        portable=False,
    ),
]


def medians(figures: Figures) -> Medians:
    """Return the median of each figure."""
    return {name: median(values) for name, values in figures.items()}


def table(figures: Figures) -> str:
    """Return the figures as text: median, least, greatest."""
    width = max(map(len, figures), default=0)
    lines = [f"{'figure':<{width}}  {'median':>10}  {'least':>10}  {'greatest':>10}"]
    lines += [
        f"{name:<{width}}  {median(v):>10.3f}  {min(v):>10.3f}  {max(v):>10.3f}"
        for name, v in figures.items()
    ]
    return "\n".join(lines)


def promises(found: Medians) -> tuple[dict[str, float], str]:
    """Return what could be judged, and the judgement as text."""
    values: dict[str, float] = {}
    lines = []
    for promise in PROMISES:
        try:
            value = promise.of(found)
        except KeyError:
            continue  # its case was not run
        values[promise.name] = value
        sign = "<=" if promise.at_most else ">="
        verdict = "kept" if promise.kept(value) else "BROKEN"
        lines.append(
            f"{promise.name:<52} {value:>8.2f} {sign} {promise.limit:<6} {verdict}"
        )
    return values, "\n".join(lines)


def compare(values: dict[str, float]) -> str:
    """Say what moved since the committed baseline."""
    if not BASELINE.exists():
        return "no baseline yet"
    before: dict[str, float] = json.loads(BASELINE.read_text())
    moved = [
        f"{name}: {before[name]:.2f} -> {value:.2f}"
        for name, value in values.items()
        if name in before and abs(value - before[name]) > MOVED * before[name]
    ]
    return "\n".join(moved) or "nothing moved by more than a quarter"


def update_baseline(values: dict[str, float]) -> None:
    """Write the ratios that another machine can be held to."""
    portable = {promise.name for promise in PROMISES if promise.portable}
    kept = {n: round(v, 3) for n, v in values.items() if n in portable}
    BASELINE.write_text(json.dumps(kept, indent=2) + "\n")
