"""Connection status of agents at the service: one call for all who ask at a time.

When an agent stops, all sessions of all tunnels to it want to know at once.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

FRESH: Final = 5.0
"""Seconds for which an answer, or a refusal, is good enough for further callers."""


class ConnectionStatuses:
    """The answers of one identity's GetConnectionStatus calls.

    Args:
        ask: Asks about a target, in a worker thread.
    """

    def __init__(self, ask: Callable[[str], Future[bool]]) -> None:
        self._ask = ask
        self._answers: dict[str, tuple[float, asyncio.Future[bool]]] = {}

    async def is_connected(self, target: str) -> bool:
        """Say whether the service hears of an agent; ``FRESH`` seconds old at most.

        Cancelling is safe: other callers still get their answer.

        Raises:
            AwsError: It was not told.
        """
        now = asyncio.get_running_loop().time()
        self._answers = {
            name: (at, answer)
            for name, (at, answer) in self._answers.items()
            if not answer.done() or now < at + FRESH
        }
        if target not in self._answers:
            self._answers[target] = now, asyncio.wrap_future(self._ask(target))
        return await asyncio.shield(self._answers[target][1])
