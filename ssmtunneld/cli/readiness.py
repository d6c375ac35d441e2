"""Waiting until tunnels are ready, for ``wait`` and ``exec``."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from ssmtunneld.cli.daemon_client import (
    Daemon,
    NotAnswering,
    NotRunning,
    select_enabled,
)
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.terminal.tunnel_line import describe, is_usable

POLL_INTERVAL: Final = 0.2
"""Seconds between looks at a daemon: 2 ms of its time each."""
QUIET: Final = 2.0
"""Seconds of waiting in silence; then it is said what is awaited, on standard error."""


def _clock() -> float:
    return time.monotonic_ns() / 1e9


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _tell(line: str) -> None:
    click.echo(f"ssmtunneld: {line}", err=True)


@dataclass(frozen=True, slots=True)
class Patience:
    """The limit of a wait, its clock, and where its progress is told.

    Attributes:
        timeout: Seconds.
        clock: Returns seconds.
        pause: Waits for so many seconds.
        tell: Gets a line whenever something else is awaited, after `QUIET` seconds.
    """

    timeout: float
    clock: Callable[[], float] = _clock
    pause: Callable[[float], None] = _pause
    tell: Callable[[str], None] = _tell


def await_ready(
    look: Callable[[], Daemon],
    names: Sequence[str],
    patience: Patience,
    groups: Sequence[str] = (),
) -> Daemon:
    """Return the daemon once its tunnels are ready.

    Args:
        look: Finds the daemon; asked again and again. What it raises ends the waiting,
            but for `NotRunning` and `NotAnswering`: a daemon could be about to start.
        names: The tunnels; with no group either, all that are required.
        patience: The limit.
        groups: Groups whose tunnels are waited for, without disabled ones.

    Raises:
        NotRunning: There was no daemon in all that time.
        NotAnswering: There was one that could not be asked.
        CommandError: They are not ready in time, or one of them does not exist or is
            disabled.
    """
    deadline = patience.clock() + patience.timeout
    told = ""
    while True:
        daemon, absence = _look(look)
        missing = [] if daemon is None else not_ready(daemon.document, names, groups)
        if daemon is not None and not missing:
            return daemon
        left = deadline - patience.clock()
        if left <= 0:
            raise absence or _too_late(missing, patience.timeout)
        if patience.timeout - left >= QUIET and (awaited := _awaited(missing)) != told:
            told = awaited
            patience.tell(f"waiting up to {patience.timeout:g} s for {told}")
        patience.pause(min(POLL_INTERVAL, left))


def _awaited(missing: Sequence[dict[str, Any]]) -> str:
    """Return what is awaited: states without reasons, which change all the time."""
    names = [f"{tunnel['name']} ({tunnel['state']})" for tunnel in missing]
    return ", ".join(names) or "a daemon"


def _look(look: Callable[[], Daemon]) -> tuple[Daemon | None, CommandError | None]:
    try:
        daemon = look()
    except (NotRunning, NotAnswering) as error:
        return None, error
    # One that is on its way to its end takes no connections: the next one may.
    return (None, NotRunning()) if daemon.document.get("draining") else (daemon, None)


def not_ready(
    document: dict[str, Any], names: Sequence[str], groups: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the tunnels that would not serve a connection now.

    One that opens its sessions on demand is ready while it is idle.

    Raises:
        CommandError: There is no tunnel of such a name or group, or it is disabled.
    """
    return [
        tunnel
        for tunnel in select_enabled(document, names, groups)
        if (names or groups or tunnel["required"]) and not is_usable(tunnel)
    ]


def _too_late(missing: Sequence[dict[str, Any]], timeout: float) -> CommandError:
    names = ", ".join(tunnel["name"] for tunnel in missing)
    return CommandError(
        f"not ready within {timeout:g} s: {names}",
        problems=[describe(tunnel) for tunnel in missing],
    )
