"""Cost against load, as an SVG that needs nothing but a browser."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cases import CONNECTIONS, TRANSFERS, TUNNELS

Medians = dict[str, float]

WIDTH, HEIGHT, MARGIN = 300, 220, 48
COLOURS = ("#0b6e99", "#b3541e", "#4a7c3a")


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: points of (load, cost) for each named line."""

    title: str
    unit: str
    lines: dict[str, list[tuple[float, float]]]


def charts(found: Medians) -> list[Chart]:
    """Return the charts that the figures allow."""

    def series(pattern: str, loads: Sequence[int]) -> list[tuple[float, float]]:
        names = [(load, pattern.format(load)) for load in loads]
        return [(load, found[name]) for load, name in names if name in found]

    def both(
        pattern: str, loads: Sequence[int]
    ) -> dict[str, list[tuple[float, float]]]:
        return {way: series(f"daemon {way} {pattern}", loads) for way in ("down", "up")}

    candidates = [
        Chart(
            "CPU per message by connections",
            "us",
            both("x{} CPU us/message", CONNECTIONS),
        ),
        Chart("throughput by connections", "MB/s", both("x{} MB/s", CONNECTIONS)),
        Chart(
            "CPU per message by messages",
            "us",
            both("of {} messages CPU us/message", TRANSFERS),
        ),
        Chart(
            "memory by tunnels",
            "MiB",
            {"RSS": series("memory {} tunnels MiB", TUNNELS)},
        ),
    ]
    return [c for c in candidates if any(c.lines.values())]


def draw(found: Medians) -> str:
    """Return the charts side by side, as one SVG document."""
    drawn = charts(found)
    body = "".join(
        f'<g transform="translate({index * WIDTH},0)">{_chart(chart)}</g>'
        for index, chart in enumerate(drawn)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'width="{WIDTH * len(drawn)}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="11">'
        "<title>What ssmtunneld costs, against the load</title>"
        f'<rect width="100%" height="100%" fill="#fff"/>{body}</svg>\n'
    )


def _chart(chart: Chart) -> str:
    points = [p for line in chart.lines.values() for p in line]
    loads = sorted({x for x, _ in points})
    top = max(y for _, y in points) * 1.15

    def at(load: float, cost: float) -> tuple[float, float]:
        step = (WIDTH - 2 * MARGIN) / max(1, len(loads) - 1)
        height = HEIGHT - 2 * MARGIN
        return MARGIN + loads.index(load) * step, HEIGHT - MARGIN - cost / top * height

    parts = [
        f'<text x="{MARGIN}" y="20" font-weight="600">'
        f"{chart.title}, {chart.unit}</text>",
        f'<path d="M{MARGIN} {MARGIN}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" fill="none" '
        'stroke="#888"/>',
    ]
    for load in loads:
        x, y = at(load, 0)
        parts.append(
            f'<text x="{x:.0f}" y="{y + 16:.0f}" text-anchor="middle">{load:g}</text>'
        )
    for colour, (name, line) in zip(COLOURS, chart.lines.items(), strict=False):
        others = [other for other in chart.lines.values() if other is not line]
        parts.append(
            _line(name, colour, [(at(*p), p[1], _is_below(p, others)) for p in line])
        )
    return "".join(parts)


def _is_below(
    point: tuple[float, float], others: list[list[tuple[float, float]]]
) -> bool:
    """Return whether another line is above the point: its label then goes below it."""
    return any(x == point[0] and y > point[1] for line in others for x, y in line)


def _line(
    name: str, colour: str, points: list[tuple[tuple[float, float], float, bool]]
) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for (x, y), *_ in points)
    labels = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
        f'<text x="{x:.1f}" y="{y + 15 if below else y - 6:.1f}" '
        f'text-anchor="middle" fill="{colour}">{cost:.1f}</text>'
        for (x, y), cost, below in points
    )
    (end_x, end_y), _, below = points[-1]
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        f'{labels}<text x="{end_x + 16:.0f}" y="{end_y + (12 if below else 0):.0f}" '
        f'fill="{colour}">{name}</text>'
    )
