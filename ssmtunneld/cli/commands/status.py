"""``ssmtunneld status``."""

import json
import time
from pathlib import Path
from typing import Any

import click

from ssmtunneld.cli.daemon_client import find, select
from ssmtunneld.cli.options import daemon_option, group_option, names_argument


@click.command()
@names_argument
@group_option("Show the tunnels of this group")
@daemon_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print the status document as JSON."
)
@click.option("--watch", is_flag=True, help="Show live, with throughput, until Ctrl-C.")
def status(
    names: tuple[str, ...],
    groups: tuple[str, ...],
    config_path: Path | None,
    *,
    as_json: bool,
    watch: bool,
) -> None:
    """Show the state of the daemon and its tunnels.

    Shows all tunnels, or only those called NAME or of a group; exits with 3 if no
    daemon runs. A tunnel that is not ready has the reason and what to do below it.
    Columns that do not fit the terminal are left out; a pipe gets all of them.
    """
    if as_json and watch:
        raise click.UsageError("--json and --watch exclude each other; choose one")
    document = find(config_path).document
    tunnels = select(document, names, groups)
    if watch:
        from ssmtunneld.cli.terminal.live import watch_daemon

        watch_daemon(config_path, names, groups)
    elif as_json:
        click.echo(json.dumps({**document, "tunnels": tunnels}, indent=2))
    else:
        _print(document, tunnels)


def _print(document: dict[str, Any], tunnels: list[dict[str, Any]]) -> None:
    from ssmtunneld.cli.terminal.table import (
        audit_notices,
        config_notices,
        defect_notices,
        headline,
        login_notices,
        open_console,
        status_table,
    )

    console = open_console()
    with console.capture() as drawn:
        console.print(headline(document), soft_wrap=True)
        if tunnels:
            console.print(status_table(tunnels, console.width))
        for line in login_notices(document, tunnels, time.time_ns() / 1e9):
            console.print(line, soft_wrap=True)
        for line in (
            *config_notices(document),
            *defect_notices(document, tunnels),
            *audit_notices(document),
        ):
            console.print(line, soft_wrap=True)
    # Cells are filled up with spaces, which would only be in the way of copying.
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())
