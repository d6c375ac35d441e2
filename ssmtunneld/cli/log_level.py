"""``ssmtunneld log-level``."""

from pathlib import Path

import click

from ssmtunneld.cli.client import find
from ssmtunneld.cli.options import daemon_option


@click.command(name="log-level")
@click.argument("level", type=click.Choice(["debug", "info", "warning", "error"]))
@daemon_option
def log_level(level: str, config_path: Path | None) -> None:
    """Change what the running daemon logs, until it ends."""
    # The request is as old as the socket: protocol 0 knows it.
    find(config_path).ask("PUT", "/log-level", {"level": level}, needs=0)
    click.echo(f"log level: {level}")
