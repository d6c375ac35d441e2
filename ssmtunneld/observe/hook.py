"""The command that is run when a tunnel changes state: a notification, a page."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.log import EventLog
from ssmtunneld.base.redaction import redact
from ssmtunneld.observe.status import DaemonStatus, TunnelState, TunnelStatus

LOOK: Final = 1.0
"""Seconds between looks at the states, while there is a command."""
PAUSE: Final = 10.0
"""Seconds between two commands for the same tunnel: one that flaps is not news."""
TIMEOUT: Final = 10.0
"""Seconds that a command can take."""

# What a tunnel begins with when all is as it should be.
_ORDINARY: Final = frozenset(
    {
        TunnelState.READY,
        TunnelState.IDLE,
        TunnelState.STARTING,
        TunnelState.ASLEEP,
        TunnelState.DISABLED,
    }
)
PASSED_ON: Final = frozenset(
    {
        *("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ"),
        *("USER", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY"),
        "WAYLAND_DISPLAY",
    }
)
"""Variables that the command inherits, besides ``LC_*``: what a program needs to run
and to show a notification. Credentials, proxies and the service manager's variables are
not among them."""
VALUE_LIMIT: Final = 4096
"""Characters of a variable's value; Linux takes 131,072 bytes, with its name."""


class StateHook:
    """Runs a command for changes of state, one at a time.

    Args:
        survey: Returns the tunnels as they are now.
        environ: The command inherits those of it that are in :data:`PASSED_ON`.
        log: Where failures are noted.

    Attributes:
        command: What to run, without a shell; empty for nothing. May be replaced.
    """

    def __init__(
        self,
        survey: Callable[[], Awaitable[DaemonStatus]],
        environ: Mapping[str, str],
        log: EventLog,
    ) -> None:
        self.command: tuple[str, ...] = ()
        self._survey = survey
        self._environ = {
            name: value
            for name, value in environ.items()
            if name in PASSED_ON or name.startswith("LC_")
        }
        self._log = log
        self._told: dict[str, TunnelState] = {}
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        """Watch the states until cancelled, which ends the command as well."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK)
            if not self.command:
                continue
            tunnels = (await self._survey()).tunnels
            for found in list(self._news(tunnels, loop.time())):
                self._told[found.name] = found.state
                self._not_before[found.name] = loop.time() + PAUSE
                await self._tell(found)

    def _news(
        self, tunnels: Iterable[TunnelStatus], now: float
    ) -> Iterator[TunnelStatus]:
        found = {status.name: status for status in tunnels}
        for name in self._told.keys() - found.keys():
            del self._told[name]
            self._not_before.pop(name, None)
        for name, status in found.items():
            usual = status.state if status.state in _ORDINARY else TunnelState.STARTING
            told = self._told.setdefault(name, usual)
            if status.state is not told and now >= self._not_before.get(name, now):
                yield status

    async def _tell(self, status: TunnelStatus) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environ | _facts(status),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._fail(status, clean(str(error)))
            return
        try:
            async with asyncio.timeout(TIMEOUT):
                code = await process.wait()
            if code:
                self._fail(status, f"it exited with {code}")
        except TimeoutError:
            self._fail(status, f"it took longer than {TIMEOUT:g} s")
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    def _fail(self, status: TunnelStatus, reason: str) -> None:
        self._log.warning(
            "hook.failed", tunnel=status.name, command=self.command[0], reason=reason
        )


def _facts(status: TunnelStatus) -> dict[str, str]:
    facts = {
        "SSMTUNNELD_TUNNEL": status.name,
        "SSMTUNNELD_STATE": status.state.value,
        "SSMTUNNELD_REASON": status.reason,
        "SSMTUNNELD_ADVICE": status.advice,
    }
    # Most of it quotes others: an environment takes no zero and no megabytes.
    return {name: clean(redact(text), VALUE_LIMIT) for name, text in facts.items()}
