"""The signals of the process, from its first moment to its last."""

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Self, TypeAlias

NUMBERS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Answers: TypeAlias = Mapping[int, Callable[[], None]]
"""What to call for each signal's number."""


class Signals:
    """Keeps the signals that come before somebody answers them.

    A context manager, to be entered first thing: what a signal does by default would
    end the process without a word.
    """

    def __init__(self) -> None:
        self._kept: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Keep signals from now on."""
        for number in NUMBERS:
            self._before[number] = signal.signal(number, self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back to whoever answered them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _keep(self, number: int, _: FrameType | None) -> None:
        self._kept.append(number)

    @contextmanager
    def answered(self, answers: Answers) -> Iterator[None]:
        """Call ``answers`` from the running loop for signals, also for those kept."""
        loop = asyncio.get_running_loop()
        for number, answer in answers.items():
            loop.add_signal_handler(number, answer)
        kept, self._kept = self._kept, []
        for number in kept:
            if number in answers:
                answers[number]()
        try:
            yield
        finally:
            for number in answers:
                loop.remove_signal_handler(number)
                signal.signal(number, self._keep)


def terminal_is_gone(descriptor: int = 0) -> bool:
    """Whether ``descriptor`` was a terminal that has been closed.

    Then a SIGHUP is the old one: there is nobody left to work for.
    """
    try:
        os.tcgetpgrp(descriptor)
    except OSError as error:
        return error.errno == errno.EIO
    return False
