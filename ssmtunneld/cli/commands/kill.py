"""``ssmtunneld kill``."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ssmtunneld.cli.daemon_client import find
from ssmtunneld.cli.daemon_requests import ask_connections, kill_connection
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.options import daemon_option
from ssmtunneld.cli.terminal.text import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

LONGEST_ID: Final = 64
"""Characters of an id: those of the daemon have about ten."""


def _complete(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Return the ids of open connections that start with ``incomplete``."""
    from click.shell_completion import CompletionItem

    from ssmtunneld.errors import SsmtunneldError

    try:
        document = ask_connections(find(ctx.params.get("config_path")), None)
    except SsmtunneldError:
        return []
    taken = ctx.params.get("ids") or ()
    return [
        CompletionItem(
            each["id"], help=f"{each['tunnel']}, {each['program'] or each['peer']}"
        )
        for each in document["connections"]
        if each["id"].startswith(incomplete) and each["id"] not in taken
    ]


@click.command()
@click.argument(
    "ids", nargs=-1, required=True, metavar="ID...", shell_complete=_complete
)
@daemon_option
def kill(ids: tuple[str, ...], config_path: Path | None) -> None:
    """End open connections; their clients see a reset.

    `ssmtunneld connections` shows the IDs. Nothing keeps a client from connecting
    again: see `ssmtunneld pause`. Stops at the first ID that is not open.
    """
    for each in ids:
        if not (0 < len(each) <= LONGEST_ID and each.isascii()):
            shown = each if len(each) <= LONGEST_ID else f"{each[:LONGEST_ID]}..."
            raise CommandError(
                f"'{printable(shown)}' is not the id of a connection",
                "ssmtunneld connections lists those that are open",
                code=EXIT_USAGE,
            )
    daemon = find(config_path)
    for each in dict.fromkeys(ids):
        tunnel = kill_connection(daemon, each)
        click.echo(f"{printable(each)}: ended a connection of {printable(tunnel)}")
