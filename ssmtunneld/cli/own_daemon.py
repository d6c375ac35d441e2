"""A daemon for as long as a command runs, unless one runs already."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ssmtunneld.base.interpreter import interpreter
from ssmtunneld.base.paths import real_path
from ssmtunneld.base.sentences import with_advice
from ssmtunneld.cli.daemon_client import (
    Daemon,
    NotAnswering,
    NotRunning,
    OthersDaemon,
    SeveralRunning,
    find,
)
from ssmtunneld.cli.ending_signals import EndingSignals
from ssmtunneld.cli.exit_codes import EXIT_FAILED, EXIT_REFUSED, CommandError
from ssmtunneld.cli.readiness import Patience, await_ready, by_reason, not_ready
from ssmtunneld.cli.terminal.text import printable
from ssmtunneld.errors import ConfigError

# What service managers tell the process that they have started, which is not ours.
_PERSONAL: Final = ("LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")
_LOG_LEVEL: Final = "warning"
_SIGNAL_CHECK: Final = 0.05
"""Seconds between looks at the signals, at the end."""
_REQUESTABLE: Final = frozenset(
    {"needs_access", "access_rejected", "access_revoked", "access_expired"}
)
"""States that end with a request, which is made to the daemon that runs."""


@dataclass(frozen=True, slots=True)
class Served:
    """A daemon whose tunnels are ready."""

    daemon: Daemon
    process: subprocess.Popen[bytes] | None
    """Its process, if it is our own and ends with the block."""


@contextmanager
def ready_daemon(
    config: Path | None,
    names: Sequence[str],
    patience: Patience,
    groups: Sequence[str] = (),
) -> Iterator[Served]:
    """Yield a daemon whose tunnels are ready: one that runs, or else one of our own.

    Args:
        config: The file; None for the daemon that runs, or the file in its usual place.
        names: The tunnels; with no group either, all that are required.
        patience: The limit of the wait.
        groups: Groups of tunnels; a daemon of our own runs no more, unless ``names``
            are given: these can be in other groups, or in none.

    Raises:
        CommandError: They are not ready in time or can never be, one of them does not
            exist or is disabled, or the daemon has ended.
        ConfigError: There is no daemon and no file.
    """
    if _is_running(config):
        daemon = await_ready(lambda: find(config), names, patience, groups)
        yield Served(daemon, None)
        return
    source = _source(config)
    with _companion(source, () if names else groups) as process:
        daemon = _await_own(process, source, names, patience, groups)
        is_ours = daemon.document["pid"] == process.pid
        if is_ours:
            _let_warn(daemon)
        yield Served(daemon, process if is_ours else None)


def _await_own(
    process: subprocess.Popen[bytes],
    source: Path,
    names: Sequence[str],
    patience: Patience,
    groups: Sequence[str],
) -> Daemon:
    """Return the daemon of ``source``, mostly ``process``, once it is ready."""

    def look() -> Daemon:
        ended = process.poll()
        try:
            daemon = find(source)
        except (NotRunning, OthersDaemon) as error:
            if ended is not None:
                raise CommandError(
                    f"the daemon has exited with {ended}",
                    "see its messages above",
                    code=max(ended, EXIT_FAILED),
                ) from None
            if isinstance(error, NotRunning):
                raise
            raise NotRunning(source) from None  # ours does not answer yet
        # Another one may have come first, which goes on when this command has ended.
        if daemon.document["pid"] == process.pid:
            _check_hope(not_ready(daemon.document, names, groups))
        return daemon

    try:
        return await_ready(look, names, patience, groups)
    except NotAnswering:
        raise
    except NotRunning:
        raise CommandError(
            f"the daemon is still starting after {patience.timeout:g} s",
            "allow more with --timeout",
        ) from None


def _is_running(config: Path | None) -> bool:
    try:
        find(config)
    except NotAnswering:
        return True  # it has only just started, perhaps
    except (NotRunning, OthersDaemon):
        return False
    except SeveralRunning as error:
        raise _or_another(error) from None
    return True


def _or_another(error: SeveralRunning) -> SeveralRunning:
    """Return the error with one more choice: the usual file, if no daemon runs it.

    It is not taken unnamed: tunnels of two files can have the same names.
    """
    try:
        usual = _source(None)
    except ConfigError:
        return error
    if str(real_path(usual)) not in error.configs:
        error.advice += f"; or {usual}, which gets a daemon as long as the command runs"
    return error


def _source(config: Path | None) -> Path:
    from ssmtunneld.config import find_config

    return find_config(config, os.environ)


def _check_hope(tunnels: Sequence[dict[str, Any]]) -> None:
    """Raise an error, a line for each reason, if only somebody's action can help.

    Who does what it says runs the command again. A request for access is different:
    it is made to a daemon, so ours stays for it.
    """
    hopeless = [
        tunnel
        for tunnel in tunnels
        if tunnel["lasting"] and tunnel["state"] not in _REQUESTABLE
    ]
    if not hopeless:
        return
    *others, last = [
        _given_up(names, first) for names, (first, *_) in by_reason(hopeless)
    ]
    is_ours = all(tunnel["state"] == "unbound" for tunnel in hopeless)
    raise CommandError(
        last, problems=others, code=EXIT_FAILED if is_ours else EXIT_REFUSED
    )


def _given_up(names: str, tunnel: dict[str, Any]) -> str:
    reason = printable(tunnel["reason"]) or f"it is {tunnel['state']}"
    return with_advice(f"{names}: giving up: {reason}", printable(tunnel["advice"]))


def _let_warn(daemon: Daemon) -> None:
    """Let our daemon log what becomes of its tunnels, of which we say no more."""
    with suppress(CommandError):  # the command can do without
        daemon.ask("PUT", "/log-level", {"level": _LOG_LEVEL}, needs=0)


@contextmanager
def _companion(
    source: Path, groups: Sequence[str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon; end it, and its sessions, with the block."""
    options = [word for group in groups for word in ("--group", group)]
    environ = {k: v for k, v in os.environ.items() if not k.startswith(_PERSONAL)}
    process = subprocess.Popen(  # noqa: S603 - this very program
        [
            *interpreter("-m", "ssmtunneld.cli.child_daemon"),
            *("--config", str(source), "--log-level", _LOG_LEVEL),
            *options,
        ],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=sys.stderr.fileno(),
        # Ctrl-C is for the command alone; it needs the tunnels until its end.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let our daemon end its sessions, and wait for that; a signal hurries it.

    In a container whoever does not wait takes the daemon along.
    """
    assert process.stdin is not None
    with EndingSignals() as signals:
        with suppress(OSError):
            process.stdin.close()
        hurried = False
        while not _has_ended(process):
            if signals.came and not hurried:
                hurried = True
                process.terminate()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_SIGNAL_CHECK)
    except subprocess.TimeoutExpired:
        return False
    return True
