"""Ctrl-C, SIGTERM and SIGHUP, for a block that must be left in order."""

import signal
from types import FrameType
from typing import Any, Final, Self

from ssmtunneld.cli.child_process import BY_SIGNAL

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class EndingSignals:
    """Lets the first signal end the block, and only counts the others.

    Signals come in twos: ``timeout`` signals its child and then its group, a terminal
    everybody and then a wrapper its child. A second one that raised as well could come
    while the first one is obeyed, and leave undone what must be undone.

    A context manager, for the main thread.
    """

    def __init__(self) -> None:
        self._came = 0
        self._holding = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Raise from now on: KeyboardInterrupt for SIGINT, else SystemExit."""
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
        return self._came

    def hold(self) -> None:
        """Raise no more, not even for a first one."""
        self._holding = True

    def _take(self, number: int, _: FrameType | None) -> None:
        self._came += 1
        if self._holding:
            return
        self._holding = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(BY_SIGNAL + number)
