"""Reading the configuration again while the daemon runs (design D12)."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ssmtunneld.base.aio import run_until
from ssmtunneld.base.compartment import Defects, run_compartment
from ssmtunneld.base.log import get_log
from ssmtunneld.config import Config, load_config
from ssmtunneld.config.groups import in_groups
from ssmtunneld.config.includes import KEY, Includes
from ssmtunneld.config.reload import Changes
from ssmtunneld.daemon.config_watch import ConfigWatch
from ssmtunneld.daemon.service_notifier import ServiceNotifier
from ssmtunneld.errors import ConfigError, SsmtunneldError, Unforeseen

READING_TIME: Final = 30.0
"""Seconds to read the file, at most: it can be a pipe, or lie on a server."""


class Reloader:
    """Reads the file, and those it includes, again: one reload after the other.

    Args:
        source: The main file.
        apply: Takes over what has changed.
        notifier: Is told before and after.
        stop: Set when the daemon ends, which also ends a reload.
        defects: Where defects are noted.
        include: The patterns of further files that are in use.
        groups: Only tunnels of these groups count; all without any.

    Attributes:
        refusal: Why the file as it is now cannot be used; empty if it is in use.
    """

    def __init__(
        self,
        source: Path,
        apply: Callable[[Config], Awaitable[Changes]],
        *,
        notifier: ServiceNotifier,
        stop: asyncio.Event,
        defects: Defects | None = None,
        include: Sequence[str] = (),
        groups: Sequence[str] = (),
    ) -> None:
        self.refusal = ""
        self._source = source
        self._apply = apply
        self._notifier = notifier
        self._stop = stop
        self._turn = asyncio.Lock()
        self._reading: asyncio.Future[Config] | None = None
        self._wanted = asyncio.Event()
        self._groups = groups
        includes = Includes.of(source, {KEY: [*include]}, os.environ)
        self._watch = ConfigWatch(source, self.request, includes)
        self._log = get_log()
        self._defects = defects or Defects(self._log)

    def watch_file(self, *, enabled: bool) -> None:
        """Say whether a change of the files is a request."""
        self._watch.enable(enabled=enabled)

    def request(self) -> None:
        """Ask for a reload as soon as one can be done; its result is in the log."""
        self._wanted.set()

    async def run(self) -> None:
        """Answer requests until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            watching = run_compartment("watch", self._watch.run, self._defects)
            tasks.create_task(watching, name="watch")
            answering = run_compartment("reload", self._answer, self._defects)
            tasks.create_task(answering, name="requests")

    async def _answer(self) -> None:
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
            SsmtunneldError: The daemon is ending; or it could not take over everything.
        """
        async with self._turn:
            self._notifier.reloading()
            try:
                changes = await run_until(self._reload(), self._stop)
            finally:
                self._notifier.reloaded()
        if changes is None:
            raise ending()
        return changes

    async def _reload(self) -> Changes:
        try:
            config = await self._read()
        except ConfigError as error:
            self.refusal = error.problems[0]
            self._log.error(
                "reload.refused",
                reason="; ".join(error.problems),
                advice="correct the file; the daemon keeps the previous configuration",
            )
            raise
        self.refusal = ""
        try:
            changes = await self._apply(config)
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            broken = SsmtunneldError(str(self._defects.note("reload", error)))
            broken.advice = Unforeseen.advice
            raise broken from None
        self._log.info(
            "reload.applied",
            added=changes.added,
            removed=changes.removed,
            changed=changes.changed,
            unchanged=changes.unchanged,
            daemon=changes.daemon,
        )
        return changes

    async def _read(self) -> Config:
        try:
            async with asyncio.timeout(READING_TIME):
                if self._reading is not None:
                    # One that hangs must not hold a further thread at each attempt.
                    await asyncio.wait([self._reading])
                # In a thread: a large file takes longer than connections should wait.
                loop = asyncio.get_running_loop()
                self._reading = loop.run_in_executor(None, self._load)
                return await asyncio.shield(self._reading)
        except ConfigError:
            raise
        except TimeoutError:
            problem = f"it could not be read within {READING_TIME:g} s"
        except RecursionError:
            problem = "it is nested too deeply"
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            problem = str(self._defects.note("reload", error))
        raise ConfigError([f"{self._source}: {problem}"])

    def _load(self) -> Config:
        # Each is noted before it is read: what changes meanwhile is a change.
        self._watch.note()
        config = load_config(
            self._source, os.environ, about_to_include=self._watch.note
        )
        return in_groups(config, self._groups)


def ending() -> SsmtunneldError:
    """Return the error of whoever wants something of a daemon that ends."""
    error = SsmtunneldError("the daemon is ending")
    error.advice = "wait until it has ended, then start it again"
    return error
