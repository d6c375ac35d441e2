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
from ssmtunneld.cli.daemon_client import (
    Daemon,
    NotAnswering,
    NotRunning,
    find,
    select_enabled,
)
from ssmtunneld.cli.exit_codes import EXIT_FAILED, CommandError
from ssmtunneld.cli.readiness import Patience, await_ready
from ssmtunneld.cli.terminal.tunnel_line import describe

# What service managers tell the process that they have started, which is not ours.
_PERSONAL: Final = ("LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")


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

        def look() -> Daemon:
            ended = process.poll()
            try:
                daemon = find(source)
            except (NotRunning, NotAnswering):
                if ended is None:
                    raise
                raise CommandError(
                    f"the daemon has exited with {ended}",
                    "see its messages above",
                    code=max(ended, EXIT_FAILED),
                ) from None
            # Another one may have come first; its file may still be corrected.
            if daemon.document["pid"] == process.pid:
                _check_hope(select_enabled(daemon.document, names, groups))
            return daemon

        try:
            daemon = await_ready(look, names, patience, groups)
        except NotAnswering:
            raise
        except NotRunning:
            raise CommandError(
                f"the daemon is still starting after {patience.timeout:g} s",
                "allow more with --timeout",
            ) from None
        is_ours = daemon.document["pid"] == process.pid
        yield Served(daemon, process if is_ours else None)


def _is_running(config: Path | None) -> bool:
    try:
        find(config)
    except NotAnswering:
        return True  # it has only just started, perhaps
    except NotRunning:
        return False
    return True


def _source(config: Path | None) -> Path:
    from ssmtunneld.config import find_config

    return find_config(config, os.environ)


def _check_hope(tunnels: Sequence[dict[str, Any]]) -> None:
    """Raise an error for failures that waiting cannot mend."""
    failed = [tunnel for tunnel in tunnels if tunnel["state"] == "failed"]
    if failed:
        raise CommandError(
            "some tunnels cannot become ready: " + ", ".join(m["name"] for m in failed),
            "correct the configuration",
            problems=[describe(tunnel) for tunnel in failed],
        )


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
            *("--config", str(source), "--log-level", "warning"),
            *options,
        ],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=sys.stderr.fileno(),
        # Ctrl-C is for the command alone; it needs the tunnels until its end.
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        with suppress(OSError):
            process.stdin.close()
        process.wait()
