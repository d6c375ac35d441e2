"""``ssmtunneld pause``."""

from pathlib import Path

import click

from ssmtunneld.cli.client import find, select
from ssmtunneld.cli.options import daemon_option, name_argument


@click.command()
@name_argument
@daemon_option
def pause(name: str, config_path: Path | None) -> None:
    """Let tunnel NAME take no connections, until `ssmtunneld resume NAME`.

    Whoever connects is refused, or waits if systemd holds the socket. Connections that
    are there go on (`ssmtunneld drain` ends them); sessions that none of them needs are
    given up.
    """
    daemon = find(config_path)
    select(daemon.document, [name])
    daemon.ask("POST", f"/mappings/{name}/pause")
    click.echo(f"{name}: paused")
