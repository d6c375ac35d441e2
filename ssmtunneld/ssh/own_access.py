"""Access to a node for one connection of its own: asked for, awaited, renewed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ssmtunneld.base.aio import run_until
from ssmtunneld.errors import SsmtunneldError
from ssmtunneld.listener.relay import ClientClose
from ssmtunneld.sessions.node_access import NodeAccess


@asynccontextmanager
async def following(
    access: NodeAccess, reason: str | None, gone: asyncio.Future[ClientClose]
) -> AsyncIterator[bool]:
    """Ask for access, and keep it for the length of a block.

    Yields whether there is access: there is none if whoever waits for it has gone.

    Args:
        access: The access to the node.
        reason: Why; None if nobody could be asked.
        gone: Done once nobody waits any more.

    Raises:
        AccessMissing: There is no reason, or the request is over.
        AwsError: The service said no.
    """
    left = asyncio.Event()
    gone.add_done_callback(lambda _: left.set())
    failure: SsmtunneldError | None = None
    async with asyncio.TaskGroup() as tasks:
        attending = tasks.create_task(access.attend(), name="access")
        try:
            await run_until(_await_approval(access, reason), left)
            yield access.is_open
        except SsmtunneldError as error:
            failure = error  # the task group would put it into a group of one
        finally:
            attending.cancel()
    if failure is not None:
        raise failure


async def _await_approval(access: NodeAccess, reason: str | None) -> None:
    changed = asyncio.Event()
    with access.telling(changed.set):
        if reason is not None:
            await access.ask(reason)
        while (missing := access.missing) is not None:
            if not missing.pending:
                raise missing
            changed.clear()
            await changed.wait()
