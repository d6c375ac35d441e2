"""``ssmtunneld config``: the sample, the file's place, and what holds."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssmtunneld.cli.options import config_option, load
from ssmtunneld.cli.terminal.text import printable
from ssmtunneld.cli.usage import SuggestingGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssmtunneld.config import Config


@click.group(cls=SuggestingGroup)
def config() -> None:
    """Show the sample configuration, the file's place, or what applies."""


@config.command()
def example() -> None:
    """Print the sample configuration, which explains every setting."""
    from ssmtunneld.config.sample import sample

    click.echo(sample(), nl=False)


@config.command()
@config_option
def path(config_path: Path | None) -> None:
    """Print which file is read; exit with 2 if there is none."""
    from ssmtunneld.config import find_config

    click.echo(find_config(config_path, os.environ))


@config.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@config_option
def show(names: tuple[str, ...], config_path: Path | None, *, as_json: bool) -> None:
    """Print the settings in effect for tunnels, as TOML.

    Those of the tunnels called NAME, or of all, after defaults and variables. What is
    printed is a configuration of its own,
    in which nothing is left to defaults or to included files.
    """
    found = load(config_path)
    document = effective(found, names)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    from ssmtunneld.cli.destination import files_of

    click.echo(f"# Settings in effect from {printable(files_of(found))}")
    click.echo(_as_toml(found, document), nl=False)


def _as_toml(config: "Config", document: dict[str, Any]) -> str:
    """Return ``document`` as TOML, with a comment at what another file says."""
    import tomlkit

    from ssmtunneld.cli.destination import origin_of

    text = tomlkit.parse(tomlkit.dumps(document))
    for name in document["tunnels"]:
        if origin := origin_of(config, name):
            text["tunnels"][name].comment(printable(origin))
    return tomlkit.dumps(text)


def effective(config: "Config", names: "Sequence[str]") -> dict[str, Any]:
    """Return all settings of a configuration, as a file would spell them.

    Raises:
        CommandError: There is no tunnel of such a name.
    """
    from ssmtunneld.cli.destination import tunnel_named

    tunnels = [tunnel_named(config, name) for name in names] or config.tunnels
    daemon = config.daemon.model_dump(mode="json", exclude_none=True)
    return {
        "daemon": daemon,
        "tunnels": {
            tunnel.name: tunnel.model_dump(
                mode="json", exclude_none=True, exclude={"name"}
            )
            for tunnel in tunnels
        },
    }
