"""Notifications of a daemon's life to the service manager."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ssmtunneld.base.compartment import Defects
from ssmtunneld.base.log import get_log
from ssmtunneld.serve.systemd import ServiceManager

STATUS_INTERVAL: Final = 15.0
"""Seconds between sentences for a service manager that has no watchdog."""
AGAIN: Final = 1.0
"""Seconds until a daemon that did not look alive is looked at again."""
ENDING_INTERVAL: Final = 5.0
"""The same while the daemon ends."""
EXTENSION: Final = 20.0
"""Seconds that are asked for each time while the daemon ends: one that hangs then is
killed after these, however long the drain can take."""


class ServiceNotifier:
    """Tells the service manager how the daemon is.

    Args:
        manager: Who listens, and how often it wants to hear.
        describe: Describes the daemon.
        alive: Says whether what must run does run. That the sign of life is sent from
            the event loop shows that the loop does.
        monotonic_us: Returns CLOCK_MONOTONIC in microseconds.
        defects: Where defects are noted: that the service manager cannot be told must
            not keep whoever tells it from its work.
    """

    def __init__(
        self,
        manager: ServiceManager,
        *,
        describe: Callable[[], str],
        alive: Callable[[], bool],
        monotonic_us: Callable[[], int] | None = None,
        defects: Defects | None = None,
    ) -> None:
        self._defects = defects or Defects(get_log())
        self._notifier = manager.notifier
        self._interval = manager.watchdog or STATUS_INTERVAL
        self._describe = describe
        self._alive = alive
        self._monotonic_us = monotonic_us or _monotonic_us
        self._ready = False
        self._ending = asyncio.Event()

    async def run(self) -> None:
        """Tell how the daemon is again and again, until cancelled."""
        if not self._notifier.listening:
            return
        while not self._ending.is_set():
            alive = self._tell()
            # A tunnel that is just being added must not cost half of the patience.
            wait = self._interval if alive else min(self._interval, AGAIN)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._ending.wait()
        while True:
            self._tell()
            self._notifier.extend(EXTENSION)
            await asyncio.sleep(min(self._interval, ENDING_INTERVAL))

    def _tell(self) -> bool:
        alive = self._alive()
        if alive:
            self._notifier.watchdog()
        # Or the next sign of life would come too late: after the pause for a defect.
        with self._defects.guard("notifier"):
            self._notifier.status(self._describe())
        return alive

    def ready(self) -> None:
        """Say that the daemon is up."""
        self._ready = True
        self._tell_ready()

    def reloading(self) -> None:
        """Say that the configuration is read again."""
        # Ready afterwards would be a lie from one that never was.
        if self._ready and self._notifier.listening:
            with self._defects.guard("notifier"):
                self._notifier.reloading(self._monotonic_us())

    def reloaded(self) -> None:
        """Say that this is over, however it went."""
        if self._ready:
            self._tell_ready()

    def _tell_ready(self) -> None:
        if self._notifier.listening:
            with self._defects.guard("notifier"):
                self._notifier.ready(self._describe())

    def ending(self) -> None:
        """Say that the daemon ends, and go on asking for the time that it takes."""
        with self._defects.guard("notifier"):
            self._notifier.stopping(EXTENSION)
        self._ending.set()


def _monotonic_us() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
