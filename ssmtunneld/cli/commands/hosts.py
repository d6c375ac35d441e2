"""``ssmtunneld hosts``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssmtunneld.base.interpreter import interpreter
from ssmtunneld.base.paths import real_path
from ssmtunneld.cli import hosts_block
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.hosts_block import HOSTS_FILE
from ssmtunneld.cli.options import config_in_use_option, load_in_use

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.option(
    "--write", is_flag=True, help="Write the file, instead of only showing the change."
)
@click.option("--remove", is_flag=True, help="Remove the block.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=HOSTS_FILE,
    show_default=True,
    help="Hosts file.",
)
@config_in_use_option
def hosts(config_path: Path | None, file: Path, *, write: bool, remove: bool) -> None:
    """Map tunnels' host names to loopback addresses in /etc/hosts.

    Shows the change; --write applies it, within a marked block. A tunnel takes part if
    it has a host, and listens on an address such as 127.0.1.2 that no other host has.
    """
    wanted: dict[str, str] = {}
    source = None
    if not remove:
        config = load_in_use(config_path, told=True)
        source = real_path(config.source)
        wanted, without = hosts_block.entries(config.enabled)
        _tell_without(without)
    before = hosts_block.read(file)
    after = hosts_block.merge(before, wanted, file)
    if before == after:
        tell(f"{file} is up to date")
        return
    difference = hosts_block.difference(before, after, file)
    # Bytes that are not UTF-8 come out as they went in.
    click.echo(difference.encode("utf-8", "surrogateescape"), nl=False)
    if write:
        _write(file, after, remove=remove, source=source)


def _tell_without(names: Sequence[str]) -> None:
    if names:
        tell(
            f"without a loopback address of their own: {', '.join(names)}; give each "
            'host its own, such as listen = "127.0.1.2:5432"'
        )


def _write(file: Path, text: str, *, remove: bool, source: Path | None) -> None:
    try:
        hosts_block.replace(file, text)
    except OSError as error:
        words = interpreter("-m", "ssmtunneld", "hosts", "--write")
        words += ["--remove"] if remove else []
        words += [] if file == HOSTS_FILE else ["--file", str(file.absolute())]
        words += [] if source is None else ["--config", str(source)]
        denied = isinstance(error, PermissionError)
        raise CommandError(
            f"cannot write {file}: {error.strerror}",
            f"run: sudo {shlex.join(words)}" if denied else "",
        ) from None
    tell(f"{file} has been written")
