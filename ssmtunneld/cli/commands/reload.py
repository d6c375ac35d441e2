"""``ssmtunneld reload``."""

import json
from pathlib import Path

import click

from ssmtunneld.cli.daemon_client import RELOAD_TIMEOUT, find
from ssmtunneld.cli.options import daemon_option
from ssmtunneld.cli.terminal.text import counted


@click.command()
@daemon_option
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
def reload(config_path: Path | None, *, as_json: bool) -> None:
    """Reload the configuration file.

    Only tunnels whose settings changed are touched; connections of others continue, and
    connections of removed tunnels get drain_timeout to finish. Settings of [daemon]
    apply at once, too. An invalid file is refused as a whole, with exit code 2, and the
    daemon runs on as before.
    """
    daemon = find(config_path)
    changes = daemon.ask("POST", "/reload", timeout=RELOAD_TIMEOUT)
    if as_json:
        click.echo(json.dumps(changes, indent=2))
        return
    for verb in ("added", "removed", "changed"):
        if names := changes.get(verb):
            click.echo(f"{verb}: {', '.join(names)}")
    if keys := changes.get("daemon"):
        click.echo(f"changed in [daemon]: {', '.join(keys)}; none needs a restart")
    click.echo(f"unchanged: {counted(changes.get('unchanged', 0), 'tunnel')}")
