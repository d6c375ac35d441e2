"""A document that is made at most once in a while, however many ask for it."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

PERIOD: Final = 1.0
"""Seconds for which something that has been made is given to everybody who asks."""

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class Fresh(Generic[_Key, _Value]):
    """Makes values by key, each of them and all together at a bounded rate.

    Whoever asks for more kinds of it than that waits for the next period.

    Args:
        make: Makes the value of a key; can take a while.
        variants: Keys for which a value is made within one period.
        period: Seconds for which a value is good.
    """

    def __init__(
        self,
        make: Callable[[_Key], Awaitable[_Value]],
        *,
        variants: int = 1,
        period: float = PERIOD,
    ) -> None:
        self._make = make
        self._variants = variants
        self._period = period
        self._values: dict[_Key, _Value] = {}
        self._until = float("-inf")
        self._one = asyncio.Lock()

    async def get(self, key: _Key) -> _Value:
        """Return the value of ``key``, made within the last period. Cancelling is safe.

        Raises whatever making it raises; the next one who asks tries again.
        """
        loop = asyncio.get_running_loop()
        async with self._one:
            self._drop_old(loop.time())
            if key not in self._values:
                if len(self._values) >= self._variants:
                    await asyncio.sleep(self._until - loop.time())
                    self._drop_old(self._until)
                value = await self._make(key)
                if not self._values:
                    self._until = loop.time() + self._period
                self._values[key] = value
            return self._values[key]

    def _drop_old(self, now: float) -> None:
        if now >= self._until:
            self._values.clear()
