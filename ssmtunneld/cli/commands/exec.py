"""``ssmtunneld exec``."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import click

from ssmtunneld.cli.child_process import ended_by_signals, run_program
from ssmtunneld.cli.daemon_client import (
    Daemon,
    NotAnswering,
    NotRunning,
    find,
    select,
)
from ssmtunneld.cli.exit_codes import EXIT_FAILED, CommandError
from ssmtunneld.cli.options import complete_names, daemon_option, timeout_option
from ssmtunneld.cli.readiness import Patience, await_ready
from ssmtunneld.cli.terminal.tunnel_line import describe

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - names, not binds
_NOT_IN_NAMES: Final = re.compile(r"[^A-Z0-9]")
# What service managers tell the process that they have started, which is not ours.
_PERSONAL: Final = ("LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")


@click.command(name="exec", context_settings={"allow_interspersed_args": False})
@click.option(
    "-t",
    "--tunnel",
    "names",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_names,
    help="Tunnel to wait for; repeatable. By default all required tunnels.",
)
@timeout_option("60s", "Limit for waiting")
@daemon_option
@click.argument("command", metavar="CMD [ARGS]...", nargs=-1, type=click.UNPROCESSED)
def execute(
    names: tuple[str, ...],
    timeout: float,
    config_path: Path | None,
    command: tuple[str, ...],
) -> None:
    """Run a command once tunnels are ready.

    Exits as CMD exits. If no daemon runs for the configuration, one is started and runs
    as long as CMD. CMD gets SSMTUNNELD_<NAME>_HOST and SSMTUNNELD_<NAME>_PORT of each
    tunnel in its environment, or SSMTUNNELD_<NAME>_SOCKET for a Unix socket; NAME is in
    capitals, with _ for -. Signals are passed on. Options after CMD belong to CMD.
    """
    if not command:
        raise click.UsageError(
            "no command; usage: ssmtunneld exec [OPTIONS] -- CMD [ARGS]..."
        )
    with ended_by_signals(), _daemon(config_path, names, Patience(timeout)) as daemon:
        variables = addresses(select(daemon.document, names))
        code = run_program(command, {**os.environ, **variables})
    raise click.exceptions.Exit(code)


@contextmanager
def _daemon(
    config: Path | None, names: Sequence[str], patience: Patience
) -> Iterator[Daemon]:
    """Yield a daemon whose tunnels are ready: one that runs, or else one of our own."""
    if _is_running(config):
        yield await_ready(lambda: find(config), names, patience)
        return
    source = _source(config)
    with _companion(source) as process:

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
                _check_hope(select(daemon.document, names))
            return daemon

        try:
            daemon = await_ready(look, names, patience)
        except NotAnswering:
            raise
        except NotRunning:
            raise CommandError(
                f"the daemon is still starting after {patience.timeout:g} s",
                "allow more with --timeout",
            ) from None
        yield daemon


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
def _companion(source: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon; end it, and its sessions, with the block."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(_PERSONAL)}
    process = subprocess.Popen(  # noqa: S603 - this very program
        # -P: no module of the working directory must come before ours.
        [
            *(sys.executable, "-P", "-m", "ssmtunneld.cli.child_daemon"),
            *("--config", str(source), "--log-level", "warning"),
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


def addresses(tunnels: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the variables with the addresses of tunnels.

    Raises:
        CommandError: Two names differ only in what a variable cannot show.
    """
    variables: dict[str, str] = {}
    owners: dict[str, str] = {}
    for tunnel in tunnels:
        stem = f"SSMTUNNELD_{_NOT_IN_NAMES.sub('_', tunnel['name'].upper())}"
        other = owners.setdefault(stem, tunnel["name"])
        if other != tunnel["name"]:
            raise CommandError(
                f"{other} and {tunnel['name']} would both be {stem}_PORT",
                "rename one, or choose with --tunnel",
            )
        for address in reversed(tunnel["listen"]):  # the first one wins
            variables |= _address(stem, address)
    return variables


def _address(stem: str, address: str) -> dict[str, str]:
    if address.startswith("unix:"):
        return {f"{stem}_SOCKET": address.removeprefix("unix:")}
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return {f"{stem}_HOST": _ANYWHERE.get(host, host), f"{stem}_PORT": port}
