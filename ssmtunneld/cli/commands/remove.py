"""``ssmtunneld remove``: one tunnel fewer in the file."""

from pathlib import Path

import click

from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.options import changed_file_option
from ssmtunneld.cli.setup import config_file


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@changed_file_option
def remove(names: tuple[str, ...], config_path: Path | None) -> None:
    """Remove tunnels from the file, and let a running daemon take that over.

    A tunnel of an included file is removed from that. Comments above a tunnel stay, as
    does everything else. Its connections have drain_timeout to finish.
    """
    path = config_file.place(config_path)
    before = config_file.read(path)
    if before is None:
        raise CommandError(f"there is no file {path}", code=EXIT_USAGE)
    changes = config_file.without_tunnels(config_file.sources(path, before), names)
    config_file.save_files(path, changes)
    for changed, change in changes.items():
        click.echo(f"{changed}: removed {', '.join(change.removed)}")
    tell(config_file.reload_daemon(path))
