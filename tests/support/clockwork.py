"""An event loop in virtual time: hours of waiting cost microseconds (style 7.2).

``asyncio.sleep``, ``timeout``, ``call_at`` and ``TaskGroup`` work unchanged. Use it
with links in memory only: with sockets the clock could jump while bytes are under way.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Stalled(Exception):
    """Every task waits and no timer is set: nothing can ever happen again."""


_RESTLESS = 10_000
"""Rounds without waiting after which the clock goes on by itself, as a real one does:
the loop calls a timer up to its resolution too early, and whoever then waits for that
moment again, while others are ready to run, would be called too early for ever."""
_RESOLUTION = 1e-9


class _JumpingSelector(selectors.DefaultSelector):
    """Waits by moving the clock; what is ready now is still seen."""

    now = 0.0
    _rounds = 0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            self._rounds += 1
            if self._rounds > _RESTLESS:
                self.now += _RESOLUTION
            return ready
        self._rounds = 0
        if timeout is None:
            raise Stalled("every task waits and no timer is set")
        self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it waits."""

    def __init__(self) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time, in seconds since the loop began."""
        return self._virtual.now


def run_virtual(main: Coroutine[Any, Any, _T]) -> _T:
    """Run ``main`` in virtual time and return its result.

    Raises:
        Stalled: It waits for something that cannot happen.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual(
    test: Callable[_P, Coroutine[Any, Any, None]],
) -> Callable[_P, None]:
    """Make an asynchronous test run in virtual time."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return run


async def turns(count: int = 3) -> None:
    """Let the loop go round, so that what is ready happens; no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)
