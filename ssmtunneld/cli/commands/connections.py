"""``ssmtunneld connections``."""

import json
from pathlib import Path
from typing import Any

import click

from ssmtunneld.cli.daemon_client import find
from ssmtunneld.cli.daemon_requests import ask_connections
from ssmtunneld.cli.options import complete_names, daemon_option


@click.command()
@click.argument("name", required=False, metavar="[NAME]", shell_complete=complete_names)
@daemon_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--watch", is_flag=True, help="Show live until Ctrl-C.")
def connections(
    name: str | None, config_path: Path | None, *, as_json: bool, watch: bool
) -> None:
    """Show who is connected: user, program, bytes, session, destination.

    Shows the open connections of all tunnels, or of tunnel NAME. User and program are
    those of this machine, as far as its kernel tells; other users' programs are seen by
    a daemon that runs as root. `ssmtunneld kill ID` ends one.
    """
    if as_json and watch:
        raise click.UsageError("--json and --watch exclude each other; choose one")
    document = ask_connections(find(config_path), name)
    if watch:
        from ssmtunneld.cli.terminal.connection_table import watch_connections

        watch_connections(lambda: ask_connections(find(config_path), name))
    elif as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _print(document)


def _print(document: dict[str, Any]) -> None:
    from ssmtunneld.cli.terminal.connection_table import connection_table, headline
    from ssmtunneld.cli.terminal.table import open_console

    click.echo(headline(document))
    if not document["connections"]:
        return
    console = open_console()
    with console.capture() as drawn:
        console.print(connection_table(document["connections"], console.width))
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())
