"""A contest: two forwarders do the steps on one emulator, in turns."""

import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Self

from benchmarks import clients, processes
from benchmarks.beside.forwarder import Failed, Forwarder, forwarder, home, reason
from benchmarks.beside.steps import (
    EACH,
    ROWS,
    SETTLING,
    STEPS,
    Destination,
    Samples,
    Step,
    first_bytes,
    in_ms,
)

LIMIT = 90.0
"""Seconds after which one step of one forwarder has failed."""


@dataclass(slots=True)
class Contender:
    """A forwarder that is measured: its command, and what has come of it.

    Attributes:
        name: Its name in the table.
        words: Of its command.
        figures: Of each row, the median of each run.
        failures: Of each row that it cannot fill, the reason.
    """

    name: str
    words: list[str]
    figures: Samples = field(default_factory=lambda: defaultdict(list))
    failures: dict[str, str] = field(default_factory=dict)

    def fails(self, rows: Sequence[str], why: Failed) -> None:
        """Note a failure; those rows are not tried again."""
        self.failures |= dict.fromkeys(rows, reason(why))

    def figure(self, key: str) -> float | None:
        """Return the median of a row's runs; None if it has none or fails."""
        found = self.figures.get(key)
        return median(found) if found and key not in self.failures else None

    def can(self, step: Step) -> bool:
        """Return whether ``step`` is worth a try: none of its rows has failed."""
        return not self.failures.keys() & {*step.rows}


class Seat:
    """A contender's place in one run: a process that is started when it is needed."""

    def __init__(self, contender: Contender, endpoint: str, far: Destination) -> None:
        self.contender = contender
        self._endpoint = endpoint
        self._far = far
        self._running = ExitStack()
        self._forwarder: Forwarder | None = None
        self._samples: Samples = defaultdict(list)

    def __enter__(self) -> Self:
        """Return it; nothing runs yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what runs, and note the medians."""
        self.end()
        for key, values in self._samples.items():
            if key not in self.contender.failures:
                self.contender.figures[key].append(median(values))

    def end(self) -> None:
        """End the process, if there is one."""
        self._forwarder = None
        self._running.close()

    def _start(self) -> Forwarder:
        if self._forwarder is None:
            folder = self._running.enter_context(home())
            self._forwarder = self._running.enter_context(
                forwarder(self.contender.words, self._endpoint, self._far.port, folder)
            )
            self._samples["start"].append(self._forwarder.started_in)
            time.sleep(SETTLING)
        return self._forwarder

    def turn(self, step: Step, seconds: float) -> None:
        """Let it do ``step`` once, or note why it cannot."""
        if not self.contender.can(step) or "start" in self.contender.failures:
            return
        try:
            running = self._start()
        except Failed as error:
            self.end()
            self.contender.fails([row.key for row in ROWS], error)
            return
        try:
            with running.within(LIMIT):
                found = step.work(running, self._far, seconds)
        except Failed as error:
            self.contender.fails(step.rows, error)
            self.end()
            return
        for key, values in found.items():
            self._samples[key] += values

    def leave(self, step: Step) -> None:
        """Give way to the next one, if what ``step`` left would disturb it."""
        if step.last:
            self.end()
            self._far.until_quiet()


@dataclass(frozen=True, slots=True)
class Conditions:
    """Of one table: the emulator's path and pace, runs, and seconds of a transfer."""

    path: str
    pace: str
    runs: int
    seconds: float

    @property
    def emulator(self) -> list[str]:
        """Return the emulator's options."""
        return ["--pace", self.pace, *(["--path", self.path] if self.path else [])]


def measure(contenders: Sequence[Contender], conditions: Conditions) -> list[float]:
    """Measure all contenders in turns; return the relay's first bytes in ms, by run."""
    floor: list[float] = []
    for run in range(conditions.runs):
        with ExitStack() as stack:
            target = stack.enter_context(processes.destination())
            endpoint = stack.enter_context(processes.emulator(*conditions.emulator))
            far = stack.enter_context(contextlib.closing(Destination(target)))
            port, _ = stack.enter_context(processes.floor("opened", target, endpoint))
            seats = [stack.enter_context(Seat(c, endpoint, far)) for c in contenders]
            if run % 2:
                seats.reverse()
            for step in STEPS:
                print(f"run {run + 1}: {step.work.__name__}", file=sys.stderr)
                found = _take_turns(seats, step, conditions.seconds, port)
                floor += [median(found)] if found else []
    return floor


def _take_turns(
    seats: Sequence[Seat], step: Step, seconds: float, relay: int
) -> list[float]:
    found: list[float] = []
    for _ in range(step.turns):
        for seat in seats:
            seat.turn(step, seconds)
            seat.leave(step)
        if step.work is first_bytes:
            found += in_ms(clients.first_bytes(relay, EACH))
    return found
