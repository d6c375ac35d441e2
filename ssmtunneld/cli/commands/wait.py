"""``ssmtunneld wait``."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from ssmtunneld.cli.daemon_client import NotAnswering, NotRunning, disabled, find
from ssmtunneld.cli.daemon_sockets import VARIABLE
from ssmtunneld.cli.options import (
    daemon_option,
    group_option,
    load,
    names_argument,
    timeout_option,
)
from ssmtunneld.cli.readiness import await_ready, patience_for


@click.command()
@click.option("--ready", is_flag=True, help="The default, and the only condition.")
@names_argument
@group_option("Wait for the tunnels of this group")
@timeout_option("60s", "Limit for waiting")
@daemon_option
def wait(
    names: tuple[str, ...],
    groups: tuple[str, ...],
    config_path: Path | None,
    timeout: float,
    **_: bool,
) -> None:
    """Wait until tunnels are ready.

    Waits for the tunnels called NAME and those of a group, or for all required ones.
    Starts the targets of those that are named where they sleep (start_target), and
    then waits up to 3 minutes unless --timeout says otherwise; without names one that
    sleeps counts as ready.
    Exits with 1, and the reasons, if they are not ready in time; with 3 if no daemon
    runs by then; with 2 at once if there is no such tunnel or group, if it is disabled,
    or if --config names no usable file.
    """
    _check_hope(config_path, names, groups)
    await_ready(lambda: find(config_path), names, patience_for(timeout), groups)


def _check_hope(
    config_path: Path | None, names: Sequence[str], groups: Sequence[str]
) -> None:
    """Raise what waiting cannot mend, if no daemon runs yet for the file that is named.

    Raises:
        ConfigError: The file does not exist, or cannot be used, or has no such group.
        CommandError: It has no tunnel of such a name, or disables it.
    """
    named = config_path or os.environ.get(VARIABLE)
    if not named:
        return
    try:
        find(config_path)
    except (NotRunning, NotAnswering):
        from ssmtunneld.cli.destination import tunnel_named
        from ssmtunneld.config.groups import in_groups

        config = load(Path(named))
        for name in names:
            if not tunnel_named(config, name).enabled:
                raise disabled(name) from None
        in_groups(config, groups)
