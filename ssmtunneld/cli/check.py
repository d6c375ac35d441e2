"""``ssmtunneld check``."""

from pathlib import Path

import click

from ssmtunneld.cli.options import config_option, load


@click.command()
@config_option
def check(config_path: Path | None) -> None:
    """Check a configuration file and list its tunnels; exit with 2 if it is wrong."""
    config = load(config_path)
    click.echo(f"{config.source}: {len(config.tunnels)} tunnels")
    for tunnel in config.tunnels:
        listen = ", ".join(map(str, tunnel.listen))
        way = f"{listen} -> {tunnel.target} -> {tunnel.destination}"
        click.echo(f"  {tunnel.name}: {way}")
