"""``ssmtunneld resume``."""

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
@group_option("Resume the tunnels of this group")
@daemon_option
def resume(
    names: tuple[str, ...], groups: tuple[str, ...], config_path: Path | None
) -> None:
    """Accept connections again, after a pause or a drain."""
    check_some(names, groups)
    daemon = find(config_path)
    for tunnel in select_enabled(daemon.document, names, groups):
        name = tunnel["name"]
        daemon.ask("POST", f"/tunnels/{name}/resume")
        click.echo(f"{name}: resumed")
