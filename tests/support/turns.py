"""Waiting in a test, for facts and never for time."""

import asyncio
from collections.abc import Callable


async def turns(count: int = 1) -> None:
    """Let everything that is ready run, ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(fact: Callable[[], object], *, patience: float = 30.0) -> None:
    """Return once ``fact()`` is true; fail loudly if it never becomes so."""
    async with asyncio.timeout(patience):
        while not fact():  # noqa: ASYNC110 - any fact, not only one that has an event
            await asyncio.sleep(0)


async def elapse(seconds: float) -> None:
    """Let virtual time pass; for the virtual loop of ``clockwork`` only."""
    loop = asyncio.get_running_loop()
    moment = loop.create_future()
    loop.call_later(seconds, moment.set_result, None)
    await moment
