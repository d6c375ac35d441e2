"""Ctrl-C, SIGTERM and SIGHUP, for a block that must be left in order."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Self

from ssmtunneld.cli.child_process import BY_SIGNAL

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class EndingSignals:
    """Counts signals, and lets the first one end what may be interrupted.

    Signals come at any moment, also while something is begun or undone, which must not
    be left half done: there they are only counted, and the first one is obeyed as soon
    as it may be. They come in twos, too: ``timeout`` signals its child and then its
    group, a terminal everybody and then a wrapper its child.

    A context manager, for the main thread.
    """

    def __init__(self) -> None:
        self._came: list[int] = []
        self._interrupts = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Count signals from now on."""
        for number in _NUMBERS:
            # What runs in the background of a shell has SIGINT ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back to whoever had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def came(self) -> int:
        """The signals so far."""
        return len(self._came)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let the first signal end the block, also one that came before.

        Raises:
            KeyboardInterrupt: It is SIGINT.
            SystemExit: It is another one; with the code that shells give it.
        """
        try:
            self._interrupts = True
            if self._came:
                self._obey()
            yield
        finally:
            self._interrupts = False

    def _take(self, number: int, _: FrameType | None) -> None:
        self._came.append(number)
        if self._interrupts:
            self._obey()

    def _obey(self) -> None:
        """Raise what the first signal means; what ends the block comes but once."""
        self._interrupts = False
        if self._came[0] == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(BY_SIGNAL + self._came[0])
