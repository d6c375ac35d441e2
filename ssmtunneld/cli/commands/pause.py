"""``ssmtunneld pause``."""

from pathlib import Path

import click

from ssmtunneld.cli.daemon_client import find, select_enabled
from ssmtunneld.cli.options import (
    check_some,
    daemon_option,
    group_option,
    names_argument,
)


@click.command()
@names_argument
@group_option("Pause the tunnels of this group")
@daemon_option
def pause(
    names: tuple[str, ...], groups: tuple[str, ...], config_path: Path | None
) -> None:
    """Stop accepting new connections.

    New connections to tunnel NAME, or to those of a group, are refused, or wait if
    systemd holds the socket, until `ssmtunneld resume NAME`. Open connections continue
    (`ssmtunneld drain` ends them); sessions without connections are terminated.
    """
    check_some(names, groups)
    daemon = find(config_path)
    for tunnel in select_enabled(daemon.document, names, groups):
        name = tunnel["name"]
        daemon.ask("POST", f"/tunnels/{name}/pause")
        click.echo(f"{name}: paused")
