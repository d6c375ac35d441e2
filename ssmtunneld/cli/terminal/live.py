"""``ssmtunneld status --watch``: the state of the tunnels, once a second.

A daemon reports totals; throughput is the difference between two documents. The view
outlives the daemon: it says that the daemon is gone, and continues with the next one.
"""

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from ssmtunneld.cli.daemon_client import find
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.terminal.table import (
    Column,
    connections,
    draw,
    headline,
    open_console,
    state_style,
)
from ssmtunneld.cli.terminal.text import duration, milliseconds, size, sparkline

INTERVAL: Final = 1.0
"""Seconds between two documents."""
HISTORY: Final = 60
"""Differences that are kept for each tunnel."""

_SHORTEST_PLOT: Final = 8
_LONGEST_PLOT: Final = 40
_FIXED_COLUMNS: Final = 70
"""Usual width of names, states, rates, round-trip times and gaps."""
_QUIET: Final = 4096.0
"""Bytes per second that fill a plot at least: what is less looks small."""

_Tunnel = dict[str, Any]


class View(Protocol):
    """A picture of documents of a daemon, drawn once a second."""

    def observe(self, document: dict[str, Any], now: float) -> None:
        """Take over a document, told at ``now`` in seconds on any clock."""
        ...

    def miss(self, reason: str, now: float) -> None:
        """Take over that there was no document at ``now``."""
        ...

    def draw(self, width: int, height: int, now: float) -> RenderableType:
        """Return the view, no wider than ``width``; what is too high says so."""
        ...


class Flow:
    """The traffic of one tunnel, as rates."""

    def __init__(self) -> None:
        self.up: deque[float] = deque(maxlen=HISTORY)
        """Bytes per second from local clients, oldest first."""
        self.down: deque[float] = deque(maxlen=HISTORY)
        """The same to local clients."""
        self._before: tuple[float, int, int] | None = None

    def observe(self, tunnel: _Tunnel, now: float) -> None:
        """Take over the totals of ``now``, in seconds."""
        sent, received = tunnel["sent"], tunnel["received"]
        if self._before is not None:
            then, sent_before, received_before = self._before
            elapsed = max(now - then, 0.001)
            # A tunnel that a reload has replaced starts again at nothing.
            self.up.append(max(sent - sent_before, 0) / elapsed)
            self.down.append(max(received - received_before, 0) / elapsed)
        self._before = now, sent, received


class Flows:
    """The traffic of all tunnels of a daemon, and of the daemon after it."""

    def __init__(self) -> None:
        self._flows: dict[str, Flow] = {}
        self._pid: int | None = None
        self.restarts = 0
        """Times that another daemon told a document."""

    def __getitem__(self, name: str) -> Flow:
        """Return the traffic of tunnel ``name`` of the last document."""
        return self._flows[name]

    def observe(self, document: _Tunnel, now: float) -> None:
        """Take over the totals of a status document, told at ``now`` in seconds."""
        if self._pid not in {None, document["pid"]}:
            self._flows.clear()
            self.restarts += 1
        self._pid = document["pid"]
        names = {tunnel["name"] for tunnel in document["tunnels"]}
        self._flows = {n: flow for n, flow in self._flows.items() if n in names}
        for tunnel in document["tunnels"]:
            self._flows.setdefault(tunnel["name"], Flow()).observe(tunnel, now)


class Watch:
    """The documents seen so far, as a view that can be drawn.

    Args:
        names: The tunnels to show; with no group either, all.
        encoding: The terminal's: decides what plots are made of.
        groups: Groups of which to show the tunnels.
    """

    def __init__(
        self,
        names: Sequence[str],
        encoding: str = "utf-8",
        groups: Sequence[str] = (),
    ) -> None:
        self._names = names
        self._groups = frozenset(groups)
        self._encoding = encoding
        self._document: _Tunnel | None = None
        self._flows = Flows()
        self._lost: tuple[float, str] | None = None

    def observe(self, document: _Tunnel, now: float) -> None:
        """Take over a status document, told at ``now`` in seconds on any clock."""
        self._document = document
        self._lost = None
        self._flows.observe(document, now)

    def miss(self, reason: str, now: float) -> None:
        """Take over that there was no document at ``now``."""
        since = now if self._lost is None else self._lost[0]
        self._lost = since, reason

    def draw(self, width: int, height: int, now: float) -> RenderableType:
        """Return the view, no wider than ``width``; what is too high says so."""
        document = self._document
        if document is None:
            return Text("")
        # A name that a reload has removed is no reason to end.
        tunnels = [tunnel for tunnel in document["tunnels"] if self._wants(tunnel)]
        head = self._head(now)
        # The other lines: the headings, and what says that there are more.
        room = height - 3 - len(head) // width
        shown = _that_fit(tunnels, width, room)
        parts: list[RenderableType] = [head]
        parts.append(draw(shown, self._columns(width), width))
        if hidden := len(tunnels) - len(shown):
            parts.append(Text(f"and {hidden} more: name some, or enlarge the terminal"))
        return Group(*parts)

    def _wants(self, tunnel: _Tunnel) -> bool:
        if not (self._names or self._groups):
            return True
        in_group = not self._groups.isdisjoint(tunnel.get("groups", ()))
        return in_group or tunnel["name"] in self._names

    def _head(self, now: float) -> Text:
        if self._lost is not None:
            since, reason = self._lost
            away = duration(now - since)
            return Text(f"{reason} (for {away}); waiting for it. Ctrl-C ends", "red")
        assert self._document is not None
        restarts = self._flows.restarts
        times = f", restarted {restarts}x meanwhile" if restarts else ""
        return Text(f"{headline(self._document)}{times}. Ctrl-C ends")

    def _columns(self, width: int) -> Sequence[Column]:
        plot = max(_SHORTEST_PLOT, min(_LONGEST_PLOT, (width - _FIXED_COLUMNS) // 2))

        def plotted(get: Callable[[Flow], deque[float]]) -> Callable[[_Tunnel], str]:
            def line(tunnel: _Tunnel) -> str:
                flow = self._flows[tunnel["name"]]
                most = max([*flow.up, *flow.down, _QUIET])
                values = list(get(flow))[-plot:]
                return sparkline(values, most, self._encoding).rjust(plot)

            return line

        def rate(get: Callable[[Flow], deque[float]]) -> Callable[[_Tunnel], str]:
            def text(tunnel: _Tunnel) -> str:
                values = get(self._flows[tunnel["name"]])
                return f"{size(values[-1])}/s" if values else "-"

            return text

        up, down = _up, _down
        return (
            Column("NAME", 0, lambda m: [m["name"]]),
            Column("STATE", 0, lambda m: [m["state"]], style=state_style),
            _plot_column("", 3, plotted(up), "cyan"),
            _rate_column("UP", 1, rate(up)),
            _plot_column(" ", 3, plotted(down), "green"),
            _rate_column("DOWN", 1, rate(down)),
            Column("RTT", 5, lambda m: [milliseconds(least_rtt(m))], right=True),
            Column("CONNS", 6, connections, right=True),
        )


def _up(flow: Flow) -> deque[float]:
    return flow.up


def _down(flow: Flow) -> deque[float]:
    return flow.down


def _plot_column(
    heading: str, rank: int, line: Callable[[_Tunnel], str], style: str
) -> Column:
    return Column(heading, rank, lambda m: [line(m)], style=lambda _: style)


def _rate_column(heading: str, rank: int, text: Callable[[_Tunnel], str]) -> Column:
    return Column(heading, rank, lambda m: [text(m)], right=True)


def least_rtt(tunnel: _Tunnel) -> float | None:
    """Return the shortest round-trip time of a tunnel's sessions, in seconds."""
    times = [session.get("rtt") for session in tunnel["sessions"]]
    return min((time for time in times if time is not None), default=None)


def _that_fit(tunnels: Sequence[_Tunnel], width: int, room: int) -> Sequence[_Tunnel]:
    """Return as many tunnels as there is room for, with what troubles them."""
    shown = []
    for tunnel in tunnels:
        room -= _height(tunnel, width)
        if room < 0:
            break
        shown.append(tunnel)
    return shown


def _height(tunnel: _Tunnel, width: int) -> int:
    """Return the lines of a row; rather too many, for words are not cut to fit."""
    words = max(width * 2 // 3, 1)
    texts = [text for text in (tunnel["reason"], tunnel["advice"]) if text]
    return 1 + sum(1 + len(text) // words for text in texts)


def _clock() -> float:
    return time.monotonic_ns() / 1e9


def watch_daemon(
    config: Path | None, names: Sequence[str], groups: Sequence[str] = ()
) -> None:
    """Draw until Ctrl-C or SIGTERM, on a screen of its own that leaves nothing behind.

    Raises:
        click.UsageError: Standard output is not a terminal.
    """
    view = Watch(names, open_console().encoding, groups)
    watch(view, lambda: find(config).document)


def watch(view: View, fetch: Callable[[], dict[str, Any]]) -> None:
    """Draw ``view`` of what ``fetch`` returns; else as :func:`watch_daemon`.

    Raises:
        click.UsageError: Standard output is not a terminal.
    """
    if not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal; scripts can use --json")
    console = open_console()
    with (
        _ended_by_signals(),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            now = _clock()
            try:
                view.observe(fetch(), now)
            except CommandError as error:
                view.miss(str(error), now)
            width, height = console.size
            live.update(view.draw(width, height, now), refresh=True)
            threading.Event().wait(max(0.0, now + INTERVAL - _clock()))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals end the block, so that the terminal gets its own screen back."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
