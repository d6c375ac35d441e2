"""``ssmtunneld import``: tunnels of other programs."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssmtunneld.base.paths import expanded
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.exit_codes import EXIT_FAILED, EXIT_USAGE, CommandError
from ssmtunneld.cli.options import file_option, refuse_alone
from ssmtunneld.errors import ConfigError

if TYPE_CHECKING:
    from ssmtunneld.importing import Found

_FORMATS = ("aws", "ssh", "basti", "tunneld")
_LARGEST = 8 * 1024 * 1024
_STDIN = "-"


@click.command(
    name="import",
    epilog="Examples: `ssmtunneld import ~/.ssh/config`; "
    "`ssmtunneld import tunnel.sh --add`; "
    "`history | ssmtunneld import -`; "
    "`ssmtunneld import .basti.yaml --target tag:Role=bastion`.",
)
@click.argument("source", metavar="[FILE|-]", default=_STDIN)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    help="What the file is, where that cannot be told.",
)
@click.option("--target", metavar="TARGET", help="For tunnels that name none.")
@click.option("--profile", metavar="NAME", help="For tunnels that name none.")
@click.option("--region", metavar="REGION", help="For tunnels that name none.")
@click.option("--add", is_flag=True, help="Add them to the file, instead of printing.")
@file_option("With --add, the file to add them to.")
@click.pass_context
def import_tunnels(
    ctx: click.Context,
    /,
    source: str,
    form: str | None,
    config_path: Path | None,
    *,
    add: bool,
    **given: str | None,
) -> None:
    """Print the tunnels of another program's file as TOML, or add them.

    What has no equivalent is said line by line. It reads scripts and aliases with
    `aws ssm start-session`, an ssh_config whose hosts have Session Manager as their
    ProxyCommand, basti's .basti.yaml, and tunneld's TOML. Nothing that it reads is run.
    It ends with 1 if what it prints needs a person before it can be used.
    """
    refuse_alone("config_path", "--add", given=add)
    from ssmtunneld.cli.setup import config_file
    from ssmtunneld.importing import read

    name = "standard input" if source == _STDIN else source
    try:
        found = read(_text(source), form)
    except ValueError as error:
        raise CommandError(f"{name} {error}", code=EXIT_USAGE) from None
    _fill_in(found, given)
    path = config_file.place(config_path)
    before = config_file.read(path) if add else None
    text = before or ""
    others = config_file.sources(path, text).included if add else ()
    texts = config_file.texts(text, others)
    found = found.settled(
        [name for each in texts for name in config_file.names_in(each)],
        [port for each in texts for port in config_file.ports_in(each)],
    )
    for note in found.notes:
        where = f"{source}:{note.line}: " if note.line else f"{source}: "
        tell(f"{where}{_clean(note.text)}")
    tunnels = {tunnel.name: tunnel.settings for tunnel in found.tunnels}
    if not tunnels:
        raise CommandError(f"{name} has no tunnel that could be imported")
    if add:
        config_file.save(path, before, config_file.with_tunnels(text, tunnels, others))
        click.echo(f"{path}: added {', '.join(tunnels)}")
        tell(config_file.reload_daemon(path))
        return
    printed = config_file.render(config_file.with_defaults(tunnels))
    click.echo(printed, nl=False)
    ctx.exit(_verdict(printed, found))


def _fill_in(found: "Found", given: dict[str, str | None]) -> None:
    for tunnel in found.tunnels:
        for key, value in given.items():
            if value is not None:
                tunnel.settings.setdefault(key, value)
        if "target" not in tunnel.settings:
            found.note(
                tunnel.line,
                f"{tunnel.name} names no target: give --target; ssmtunneld targets "
                "lists them",
            )


def _text(source: str) -> str:
    try:
        if source == _STDIN:
            raw = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with expanded(source).open("rb") as file:
                raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise CommandError(f"cannot read {source}: {error.strerror}") from None
    if len(raw) > _LARGEST:
        raise ValueError("is larger than 8 MiB")
    return raw.decode("utf-8-sig", "replace")


def _verdict(text: str, found: "Found") -> int:
    """Say what a person must mend before the text can be used."""
    from ssmtunneld.config import parse_config

    if any("target" not in tunnel.settings for tunnel in found.tunnels):
        return EXIT_FAILED  # said already
    try:
        parse_config(text, "what is printed", os.environ)
    except ConfigError as error:
        for problem in error.problems:
            tell(problem)
        return EXIT_FAILED
    return 0


def _clean(text: str) -> str:
    from ssmtunneld.base.foreign import clean

    return clean(text)
