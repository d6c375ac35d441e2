"""``ssmtunneld resume``."""

from pathlib import Path

import click

from ssmtunneld.cli.daemon_client import find, select
from ssmtunneld.cli.options import daemon_option, name_argument


@click.command()
@name_argument
@daemon_option
def resume(name: str, config_path: Path | None) -> None:
    """Accept connections again, after a pause or a drain."""
    daemon = find(config_path)
    select(daemon.document, [name])
    daemon.ask("POST", f"/tunnels/{name}/resume")
    click.echo(f"{name}: resumed")
