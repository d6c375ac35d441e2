"""Reading the configuration again while the daemon runs (design D12)."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from ssmtunneld.config import Config, load_config
from ssmtunneld.config.reload import Changes
from ssmtunneld.errors import ConfigError, SsmtunneldError
from ssmtunneld.herald import Herald
from ssmtunneld.log import get_log
from ssmtunneld.race import unless
from ssmtunneld.watch import ConfigWatch


class Reloader:
    """Reads the file again, one reload after the other.

    Args:
        source: The file.
        apply: Takes over what has changed.
        herald: Is told before and after.
        stop: Set when the daemon ends, which also ends a reload.

    Attributes:
        refusal: Why the file as it is now cannot be used; empty if it is in use.
    """

    def __init__(
        self,
        source: Path,
        apply: Callable[[Config], Awaitable[Changes]],
        *,
        herald: Herald,
        stop: asyncio.Event,
    ) -> None:
        self.refusal = ""
        self._source = source
        self._apply = apply
        self._herald = herald
        self._stop = stop
        self._turn = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._watch = ConfigWatch(source, self.request)
        self._log = get_log()

    def watch_file(self, *, enabled: bool) -> None:
        """Say whether a change of the file is a request."""
        self._watch.enable(enabled=enabled)

    def request(self) -> None:
        """Ask for a reload as soon as one can be done; its result is in the log."""
        self._wanted.set()

    async def run(self) -> None:
        """Answer requests until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run(), name="watch")
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                # Whoever asked did not wait for an answer.
                with suppress(SsmtunneldError):
                    await self.reload()

    async def reload(self) -> Changes:
        """Read the file again; return what has changed.

        Cancelling is safe: what has been taken over by then stays.

        Raises:
            ConfigError: The file cannot be used; nothing has changed.
            SsmtunneldError: The daemon is ending.
        """
        async with self._turn:
            self._herald.reloading()
            try:
                changes = await unless(self._stop, self._reload())
            finally:
                self._herald.reloaded()
        if changes is None:
            raise ending()
        return changes

    async def _reload(self) -> Changes:
        self._watch.note()
        try:
            # In a thread: a large file takes longer than connections should wait.
            config = await asyncio.to_thread(load_config, self._source, os.environ)
        except ConfigError as error:
            self.refusal = error.problems[0]
            self._log.error(
                "reload.refused",
                reason="; ".join(error.problems),
                advice="correct the file; the daemon goes on as before",
            )
            raise
        self.refusal = ""
        changes = await self._apply(config)
        self._log.info(
            "reload.applied",
            added=changes.added,
            removed=changes.removed,
            changed=changes.changed,
            unchanged=changes.unchanged,
        )
        return changes


def ending() -> SsmtunneldError:
    """Return the error of whoever wants something of a daemon that ends."""
    error = SsmtunneldError("the daemon is ending")
    error.advice = "wait until it has ended, then start it again"
    return error
