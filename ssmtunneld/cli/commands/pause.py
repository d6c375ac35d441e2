"""``ssmtunneld pause``."""

from pathlib import Path

import click

from ssmtunneld.cli.daemon_client import find, select
from ssmtunneld.cli.options import daemon_option, name_argument


@click.command()
@name_argument
@daemon_option
def pause(name: str, config_path: Path | None) -> None:
    """Stop accepting new connections.

    New connections to tunnel NAME are refused, or wait if systemd holds the socket,
    until `ssmtunneld resume NAME`. Open connections continue (`ssmtunneld drain` ends
    them); sessions without connections are terminated.
    """
    daemon = find(config_path)
    select(daemon.document, [name])
    daemon.ask("POST", f"/tunnels/{name}/pause")
    click.echo(f"{name}: paused")
