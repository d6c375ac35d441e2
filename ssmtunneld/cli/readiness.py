"""Waiting until tunnels are ready, for ``wait`` and ``exec``."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click
from click.core import ParameterSource

from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.daemon_client import (
    Daemon,
    NotAnswering,
    NotRunning,
    select_enabled,
)
from ssmtunneld.cli.daemon_requests import wake_target
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.terminal.tunnel_line import describe, is_usable, sleeps

POLL_INTERVAL: Final = 0.2
"""Seconds between looks at a daemon: 2 ms of its time each."""
QUIET: Final = 2.0
"""Seconds of waiting in silence; then it is said what is awaited, on standard error."""
START_TIMEOUT: Final = 180.0
"""Seconds for targets that must be started, unless somebody says otherwise: a minute
for the start of an instance, another one for its agent, and some more."""


def _clock() -> float:
    return time.monotonic_ns() / 1e9


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _tell(line: str) -> None:
    tell(f"ssmtunneld: {line}")


@dataclass(frozen=True, slots=True)
class Patience:
    """The limit of a wait, its clock, and where its progress is told.

    Attributes:
        timeout: Seconds.
        clock: Returns seconds.
        pause: Waits for so many seconds.
        tell: Gets a line whenever something else is awaited, after `QUIET` seconds.
        start_timeout: Seconds if a target must be started first, if they are more.
    """

    timeout: float
    clock: Callable[[], float] = _clock
    pause: Callable[[float], None] = _pause
    tell: Callable[[str], None] = _tell
    start_timeout: float = START_TIMEOUT


def patience_for(timeout: float) -> Patience:
    """Return the patience of a command with an option ``--timeout``.

    Args:
        timeout: Seconds; with what somebody has typed, targets have no more to start.
    """
    source = click.get_current_context().get_parameter_source("timeout")
    unsaid = source is ParameterSource.DEFAULT
    return Patience(timeout, start_timeout=START_TIMEOUT if unsaid else timeout)


def await_ready(
    look: Callable[[], Daemon],
    names: Sequence[str],
    patience: Patience,
    groups: Sequence[str] = (),
) -> Daemon:
    """Return the daemon once its tunnels are ready.

    Those that are named, or in one of ``groups``, are wanted by somebody: their targets
    are started where they sleep. Otherwise one that sleeps is ready.

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
    begun, limit = patience.clock(), patience.timeout
    told: list[tuple[str, ...]] | None = None
    asked: set[str] = set()
    while True:
        daemon, absence = _look(look)
        missing = [] if daemon is None else not_ready(daemon.document, names, groups)
        if daemon is not None and not missing:
            return daemon
        if daemon is not None and wake_targets(daemon, missing, asked):
            limit = max(limit, patience.start_timeout)
        left = begun + limit - patience.clock()
        if left <= 0:
            raise absence or _too_late(missing, limit)
        awaited = [awaited_facts(tunnel) for tunnel in missing]
        if limit - left >= QUIET and awaited != told:
            told, whom = awaited, awaited_states(missing) or "a daemon"
            patience.tell(f"waiting up to {limit:g} s for {whom}")
        patience.pause(min(POLL_INTERVAL, left))


def wake_targets(
    daemon: Daemon, tunnels: Sequence[dict[str, Any]], asked: set[str]
) -> bool:
    """Let ``daemon`` start the targets of ``tunnels`` that sleep.

    Args:
        daemon: The daemon.
        tunnels: Tunnels of its document.
        asked: Names for which it was asked before; completed. What was refused before
            that may be allowed by now.

    Returns:
        Whether one of them is on its way up.

    Raises:
        CommandError: It does not; or it is known that one cannot be started.
    """
    for tunnel in tunnels:
        name, refused = tunnel["name"], tunnel.get("bastion") and tunnel["lasting"]
        if refused and name in asked:
            raise CommandError(describe(tunnel))
        if refused or tunnel["state"] == "asleep":
            asked.add(name)
            wake_target(daemon, name)
    return any(map(sleeps, tunnels))


def awaited_states(tunnels: Sequence[dict[str, Any]]) -> str:
    """Return the names of tunnels that somebody waits for, with state and reason."""
    return ", ".join(f"{names} ({words})" for names, words in _told(tunnels))


def _told(tunnels: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield names, and what holds for them: state, reason and what to do."""
    for names, (first, *_) in by_reason(tunnels):
        yield names, describe(first).removeprefix(f"{first['name']}: ")


def by_reason(
    tunnels: Sequence[dict[str, Any]],
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return tunnels of the same state and reason together, with all their names.

    What is missing is mostly missing for all: one login, one permission. The advice of
    each can name the tunnel itself; that of one helps all of them.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for tunnel in tunnels:
        found.setdefault((tunnel["state"], tunnel["reason"]), []).append(tunnel)
    return [(", ".join(t["name"] for t in alike), alike) for alike in found.values()]


def awaited_facts(tunnel: dict[str, Any]) -> tuple[str, ...]:
    """Return what is told again of a tunnel that somebody waits for, once it changes.

    Another reason is news where somebody must act or decide, and where a target is on
    its way up, which has few steps and takes minutes. Attempts that are repeated can
    fail for another reason each time.
    """
    undecided = tunnel["state"] == "awaiting_approval"
    stays = sleeps(tunnel) or undecided or tunnel.get("lasting")
    return tunnel["name"], tunnel["state"], tunnel["reason"] if stays else ""


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

    One that opens its sessions on demand is ready while it is idle, and one whose
    target sleeps if it is not named.

    Raises:
        CommandError: There is no tunnel of such a name or group, or it is disabled.
    """
    named = bool(names or groups)
    return [
        tunnel
        for tunnel in select_enabled(document, names, groups)
        if not is_usable(tunnel) or (named and sleeps(tunnel))
        if named or tunnel["required"]
    ]


def _too_late(missing: Sequence[dict[str, Any]], timeout: float) -> CommandError:
    names = ", ".join(tunnel["name"] for tunnel in missing)
    return CommandError(
        f"not ready within {timeout:g} s: {names}",
        f"ssmtunneld doctor {missing[0]['name']} tests the path hop by hop",
        problems=[f"{names}: {words}" for names, words in _told(missing)],
    )
