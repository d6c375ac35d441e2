"""Recent traffic: a sample a second for each tunnel, for the plots of the status page.

Taken only while somebody could look at it. Two minutes of 500 tunnels take 0.7 MB.
"""

import asyncio
import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

INTERVAL: Final = 1.0
"""Seconds between samples."""
LENGTH: Final = 120
"""Samples that are kept."""

_UNKNOWN: Final = math.nan


@dataclass(frozen=True, slots=True)
class TrafficSample:
    """One tunnel's counters at one moment."""

    sent: int
    """Bytes from local clients since the daemon's start."""
    received: int
    """Bytes to local clients since then."""
    rtt: float | None
    """Seconds to the agent and back."""


class _Series:
    """One tunnel's samples: bytes a second each way, and milliseconds."""

    __slots__ = ("last", "received", "rtt", "sent")

    def __init__(self, first: TrafficSample) -> None:
        self.last = first
        self.sent = array("f")
        self.received = array("f")
        self.rtt = array("f")

    def take(self, reading: TrafficSample, elapsed: float) -> None:
        rtt = _UNKNOWN if reading.rtt is None else reading.rtt * 1000
        for column, value in (
            (self.sent, (reading.sent - self.last.sent) / elapsed),
            (self.received, (reading.received - self.last.received) / elapsed),
            (self.rtt, rtt),
        ):
            column.append(value)
            del column[:-LENGTH]
        self.last = reading

    def newest(self, count: int) -> "_Excerpt":
        start = max(0, len(self.sent) - count)
        return self.sent[start:], self.received[start:], self.rtt[start:]


_Excerpt = tuple["array[float]", "array[float]", "array[float]"]


@dataclass(frozen=True, slots=True)
class HistoryExcerpt:
    """The samples after one that somebody has already; a copy, for any thread."""

    newest: int
    """The number of the last sample."""
    columns: Mapping[str, _Excerpt]

    def as_document(self) -> dict[str, Any]:
        """Return it for JSON: whole bytes a second, milliseconds with one decimal."""
        return {
            "interval": INTERVAL,
            "length": LENGTH,
            "newest": self.newest,
            "tunnels": {
                name: {
                    "sent": [round(value) for value in sent],
                    "received": [round(value) for value in received],
                    "rtt_ms": [None if v != v else round(v, 1) for v in rtt],  # noqa: PLR0124 - only a NaN differs from itself
                }
                for name, (sent, received, rtt) in self.columns.items()
            },
        }


class History:
    """Samples of all tunnels.

    Args:
        read: Returns the counters of all tunnels by name.
    """

    def __init__(self, read: Callable[[], Mapping[str, TrafficSample]]) -> None:
        self._read = read
        self._series: dict[str, _Series] = {}
        self._number = 0
        self._taken_at: float | None = None

    async def run(self) -> None:
        """Take a sample now and then, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.take(loop.time())
            await asyncio.sleep(INTERVAL)

    def take(self, now: float) -> None:
        """Take one sample at ``now``; the first one only shows where counters stand."""
        readings = self._read()
        elapsed = INTERVAL if self._taken_at is None else now - self._taken_at
        self._taken_at = now
        self._number += 1
        # A tunnel that a reload removed takes its samples with it.
        self._series = {
            name: self._series.get(name) or _Series(reading)
            for name, reading in readings.items()
        }
        for name, reading in readings.items():
            self._series[name].take(reading, max(elapsed, 1e-3))

    @property
    def newest(self) -> int:
        """The number of the last sample."""
        return self._number

    def since(self, number: int = 0) -> HistoryExcerpt:
        """Return the samples after sample ``number``; all if that is none of ours."""
        missed = self._number - number
        count = missed if 0 <= missed <= LENGTH else LENGTH
        columns = {name: s.newest(count) for name, s in self._series.items()}
        return HistoryExcerpt(self._number, columns)
