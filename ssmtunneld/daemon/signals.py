"""The signals of the process, from its first moment to its last."""

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Self, TypeAlias

from ssmtunneld.base.deadline import Deadline

NUMBERS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT})

EARLY_BUDGET: Final = 4.5
"""Seconds from a signal to the end of a process that has not begun to work."""
FORCED_BUDGET: Final = 2.5
"""Seconds that a second signal leaves, to cut connections and terminate sessions."""

Answers: TypeAlias = Mapping[int, Callable[[], None]]
"""The handler of each signal, by its number."""


class Signals:
    """Keeps the signals that come before somebody answers them.

    A context manager, to be entered first thing: what a signal does by default would
    end the process without a word.

    Args:
        deadline: Ends the process some time after SIGTERM and SIGINT, whatever holds up
            whoever answers them: the first one leaves it ``budget``, the second one
            ``FORCED_BUDGET``, the third one nothing.

    Attributes:
        budget: Returns the seconds that the first signal leaves; can be replaced.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        self.budget: Callable[[], float] = lambda: EARLY_BUDGET
        self._deadline = deadline
        self._came = 0
        self._kept: list[int] = []
        self._answered = False
        self._interrupts = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Keep signals from now on."""
        for number in NUMBERS:
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back to whoever answered them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _: FrameType | None) -> None:
        if number in ENDING:
            self.press()
        if not self._answered:
            self._kept.append(number)
        if self._interrupts:
            raise KeyboardInterrupt

    def press(self) -> None:
        """Count a demand to end, by a signal or as one."""
        self._came += 1
        if self._deadline is None:
            return
        if self._came == 1:
            self._deadline.arm(self.budget())
        else:
            self._deadline.arm(FORCED_BUDGET if self._came == 2 else 0.0)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let signals end the block at once, also those kept: for work that blocks.

        Raises:
            KeyboardInterrupt: One came.
        """
        try:
            self._interrupts = True
            if self._kept:
                raise KeyboardInterrupt
            yield
        finally:
            self._interrupts = False

    @contextmanager
    def answered(self, answers: Answers) -> Iterator[None]:
        """Call ``answers`` from the running loop for signals, also for those kept."""
        loop = asyncio.get_running_loop()
        for number, answer in answers.items():
            loop.add_signal_handler(number, answer)
            # The loop only needs the number, which comes by a pipe. This handler runs
            # also while the loop does not.
            signal.signal(number, self._take)
        self._answered = True
        kept, self._kept = self._kept, []
        for number in kept:
            if number in answers:
                answers[number]()
        try:
            yield
        finally:
            self._answered = False
            for number in answers:
                loop.remove_signal_handler(number)
                signal.signal(number, self._take)


def terminal_is_gone(descriptor: int = 0) -> bool:
    """Return True if ``descriptor`` was a terminal that has been closed.

    Then a SIGHUP is the old one: there is nobody left to work for.
    """
    try:
        os.tcgetpgrp(descriptor)
    except OSError as error:
        return error.errno == errno.EIO
    return False
