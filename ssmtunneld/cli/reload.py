"""``ssmtunneld reload``."""

import json
from pathlib import Path

import click

from ssmtunneld.cli.client import RELOAD_TIMEOUT, find
from ssmtunneld.cli.options import daemon_option
from ssmtunneld.cli.wording import counted


@click.command()
@daemon_option
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
def reload(config_path: Path | None, *, as_json: bool) -> None:
    """Let the daemon read its configuration file again.

    Only tunnels whose settings have changed are touched; connections of others do not
    notice, and those of tunnels that are gone may finish. A file with a mistake is
    refused as a whole, with 2: the daemon goes on as before.
    """
    daemon = find(config_path)
    changes = daemon.ask("POST", "/reload", timeout=RELOAD_TIMEOUT)
    if as_json:
        click.echo(json.dumps(changes, indent=2))
        return
    for verb in ("added", "removed", "changed"):
        if names := changes.get(verb):
            click.echo(f"{verb}: {', '.join(names)}")
    click.echo(f"unchanged: {counted(changes.get('unchanged', 0), 'tunnel')}")
