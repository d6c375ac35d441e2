"""``ssmtunneld version``."""

import click

from ssmtunneld.cli.main import PROGRAM
from ssmtunneld.version import __version__


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"{PROGRAM}, version {__version__}")
