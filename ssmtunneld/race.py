"""Waiting for the first of two things."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def unless(
    event: asyncio.Event, work: Coroutine[Any, Any, _Result]
) -> _Result | None:
    """Do ``work`` and return its result; if ``event`` comes first, cancel it.

    If ``event`` is set already, ``work`` does not begin. Cancelling is safe if ``work``
    is. What ``work`` raises comes out as it is.

    Returns:
        The result; ``None`` if it was cancelled.
    """
    if event.is_set():
        work.close()
        return None
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(_settle(work), name="work")
        waiting = tasks.create_task(event.wait(), name="event")
        await asyncio.wait({working, waiting}, return_when="FIRST_COMPLETED")
        working.cancel()
        waiting.cancel()
    if working.cancelled():
        return None
    result, failure = working.result()
    if failure is not None:
        raise failure
    return result


async def _settle(
    work: Coroutine[Any, Any, _Result],
) -> tuple[_Result | None, Exception | None]:
    # In a task group an error would come out as a group of one.
    try:
        return await work, None
    except Exception as error:  # noqa: BLE001 - raised again by the caller
        return None, error
