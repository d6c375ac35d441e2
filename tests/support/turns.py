"""Waiting in a test, for facts and never for time."""

import asyncio
from collections.abc import Callable
from typing import Final

from tests.support.clockwork import VirtualLoop

TURNS: Final = 200
"""Turns of the loop in which a fact is looked at without a pause."""
PAUSE: Final = 0.002
"""Seconds between two looks at a fact."""


async def turns(count: int = 1) -> None:
    """Let everything that is ready run, ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(fact: Callable[[], object], *, patience: float = 30.0) -> None:
    """Return once ``fact()`` is true; fail loudly if it never becomes so."""
    async with asyncio.timeout(patience):
        # What the loop itself does is seen in the turn in which it happens.
        for _ in range(TURNS):
            if fact():
                return
            await asyncio.sleep(0)
        while not fact():
            await look_again()


async def look_again() -> None:
    """Return when it is time for another look at a fact.

    Looking without a pause takes a processor from what is waited for and, where that
    is a thread's work, the interpreter's lock: 5 ms for each of its calls.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        await asyncio.sleep(0)
        return
    moment = loop.create_future()
    timer = loop.call_later(PAUSE, moment.set_result, None)
    try:
        await moment
    finally:
        timer.cancel()


async def elapse(seconds: float) -> None:
    """Let virtual time pass; for the virtual loop of ``clockwork`` only."""
    loop = asyncio.get_running_loop()
    moment = loop.create_future()
    loop.call_later(seconds, moment.set_result, None)
    await moment
