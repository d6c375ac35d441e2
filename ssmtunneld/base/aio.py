"""Two things that asyncio lacks: work that an event ends, and an orderly server end."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from ssmtunneld.base.small_event import SmallEvent

_Result = TypeVar("_Result")


async def run_until(
    work: Coroutine[Any, Any, _Result], event: asyncio.Event | SmallEvent
) -> _Result | None:
    """Do ``work`` and return its result; if ``event`` comes first, cancel it.

    If ``event`` is set already, ``work`` does not begin. Cancelling is safe if ``work``
    is. What ``work`` raises is passed on unchanged.

    Returns:
        The result; ``None`` if it was cancelled.
    """
    if event.is_set():
        work.close()
        return None
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(_catch(work), name="work")
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


async def _catch(
    work: Coroutine[Any, Any, _Result],
) -> tuple[_Result | None, Exception | None]:
    # In a task group an error would come out as a group of one.
    try:
        return await work, None
    except Exception as error:  # noqa: BLE001 - raised again by the caller
        return None, error


# Turns of the loop from accept() until the protocol has its connection: the task that
# makes the transport begins, the transport is made, the protocol is called.
_TURNS: Final = 3


async def close_server(server: asyncio.Server) -> None:
    """Close ``server`` once all that it has accepted have reached their protocols.

    Between accept() and the transport, asyncio's own loop takes a turn. Closing a
    server in just that turn makes the transport fail half-way and silently: nothing
    closes the connection, and its client waits until the garbage is collected. So we
    stop accepting first, and close the server some turns later. Connections that
    are not accepted yet are refused by the kernel; TLS handshakes can still be under
    way. Idempotent. The caller closes the connections.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
    else:
        server.close()  # uvloop makes the transport at once
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()
