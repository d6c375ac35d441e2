"""A sleeping target, started for one connection and kept as long as that lasts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ssmtunneld.base.aio import run_until
from ssmtunneld.base.foreign import clean
from ssmtunneld.config import TunnelSettings
from ssmtunneld.errors import NoSessionReady
from ssmtunneld.listener.relay import ClientClose
from ssmtunneld.ssh.bastion_keeper import (
    LINE_LIMIT,
    Report,
    spawn_keeper,
    trouble_of,
)
from ssmtunneld.ssh.progress import Tell, tell_person

_GONE: Final = "the process that starts it has ended"


@asynccontextmanager
async def kept_awake(
    tunnel: TunnelSettings,
    timeout: float,
    gone: asyncio.Future[ClientClose],
    tell: Tell = tell_person,
) -> AsyncIterator[TunnelSettings | None]:
    """Have the target of ``tunnel`` started, and kept for the length of a block.

    Yields the settings with the instance as their target; None if whoever waits has
    gone. Another process does the work, and goes on after the block: it stops the
    target when ``stop_target_after`` has passed.

    Args:
        tunnel: Settings with ``start_target``.
        timeout: Seconds until it must be awake.
        gone: Done once nobody waits any more.
        tell: Where progress is told.

    Raises:
        NoSessionReady: It cannot be started, or is not awake in time.
    """
    if trouble := trouble_of(tunnel).text:
        tell(f"the last time, {trouble}")
    try:
        sock = spawn_keeper(tunnel)
    except OSError as error:
        raise NoSessionReady(f"cannot start a process: {error.strerror}") from None
    reader, writer = await asyncio.open_connection(sock=sock, limit=LINE_LIMIT)
    try:
        left = asyncio.Event()
        gone.add_done_callback(lambda _: left.set())
        waiting = _Wait(tell)
        try:
            async with asyncio.timeout(timeout):
                instance = await run_until(waiting.follow(reader), left)
        except TimeoutError:
            reason = f"not awake within {timeout:g} s: {waiting.reason}"
            raise _not_ready(reason, waiting.advice) from None
        if instance is None:
            yield None
        else:
            yield tunnel.model_copy(update={"target": instance})
    finally:
        writer.close()


def _not_ready(reason: str, advice: str) -> NoSessionReady:
    error = NoSessionReady(reason)
    error.advice = advice
    return error


class _Wait:
    """The wait for a target, and what was last said of it."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.reason = "nothing is known of it"
        self.advice = ""

    async def follow(self, reader: asyncio.StreamReader) -> str:
        """Return the instance once it is awake.

        Raises:
            NoSessionReady: It cannot be started.
        """
        was_asleep = False
        while True:
            line = await reader.readline()
            if not line.endswith(b"\n"):
                raise NoSessionReady(_GONE)
            report = Report(**json.loads(line))
            if report.awake:
                assert report.instance is not None, "awake without an instance"
                if was_asleep:
                    self._tell(f"bastion {report.instance} is ready")
                return report.instance
            if report.final:
                raise _not_ready(clean(report.reason), report.advice)
            # One that runs already is found in a moment, and needs no words.
            if report.instance is not None and report.reason != self.reason:
                was_asleep = True
                self._tell(report.reason)
            self.reason, self.advice = report.reason, report.advice
