"""``ssmtunneld exec``."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from ssmtunneld.cli.child_process import run_program
from ssmtunneld.cli.daemon_client import select_enabled
from ssmtunneld.cli.ending_signals import EndingSignals
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.options import (
    complete_names,
    daemon_option,
    group_option,
    timeout_option,
)
from ssmtunneld.cli.own_daemon import ready_daemon
from ssmtunneld.cli.readiness import patience_for
from ssmtunneld.cli.refusals import tell_refusals

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - names, not binds
_NOT_IN_NAMES: Final = re.compile(r"[^A-Z0-9]")


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
@group_option("Wait for the tunnels of this group, and start no other tunnels")
@timeout_option("60s", "Limit for waiting")
@daemon_option
@click.argument("command", metavar="CMD [ARGS]...", nargs=-1, type=click.UNPROCESSED)
def execute(
    names: tuple[str, ...],
    groups: tuple[str, ...],
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
    ready = ready_daemon(config_path, names, patience_for(timeout), groups)
    with EndingSignals() as signals, signals.interrupting(), ready as served:
        tunnels = select_enabled(served.daemon.document, names, groups)
        code = run_program(command, {**os.environ, **addresses(tunnels)})
        # A daemon of our own has said so in its log.
        if code and served.process is None:
            tell_refusals(served.daemon, [tunnel["name"] for tunnel in tunnels])
    raise click.exceptions.Exit(code)


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
