"""``ssmtunneld log-level``."""

from pathlib import Path

import click

from ssmtunneld.cli.daemon_client import find
from ssmtunneld.cli.options import daemon_option


@click.command(name="log-level")
@click.argument("level", type=click.Choice(["debug", "info", "warning", "error"]))
@daemon_option
def log_level(level: str, config_path: Path | None) -> None:
    """Change the log level of the running daemon.

    The change lasts until the daemon ends, or reloads another log_level.
    """
    # The request is as old as the socket: protocol 0 knows it.
    find(config_path).ask("PUT", "/log-level", {"level": level}, needs=0)
    click.echo(f"log level: {level}")
