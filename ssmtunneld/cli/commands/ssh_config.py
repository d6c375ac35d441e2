"""``ssmtunneld ssh-config``: the lines that ssh needs, written once."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ssmtunneld.base.paths import home
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.options import file_option
from ssmtunneld.cli.running_daemons import running
from ssmtunneld.cli.service.manager import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ssmtunneld.config import TunnelSettings
    from ssmtunneld.ssh.config_blocks import SshTunnel

_PORT: Final = 22


@click.command(name="ssh-config")
@click.option(
    "--write",
    is_flag=True,
    help="Write the file, include it in ~/.ssh/config, show a diff.",
)
@click.option(
    "--print", "only_print", is_flag=True, help="Only show, which is the default."
)
@click.option("--profile", metavar="NAME", help="AWS profile for i-* and mi-*.")
@click.option("--region", metavar="REGION", help="AWS region for i-* and mi-*.")
@click.option(
    "--instance-connect",
    is_flag=True,
    help="Log in to i-* with a new key for each login, which the instance accepts for "
    "a minute (EC2 Instance Connect).",
)
@click.option(
    "--no-fdpass",
    is_flag=True,
    help="Write no ProxyUseFdpass: for programs other than ssh that read its "
    "configuration, and for ssh with another ProxyCommand on the command line.",
)
@file_option(
    "Configuration file whose tunnels to port 22 get a name each. By default "
    "$SSMTUNNELD_CONFIG, then the usual places, and all running daemons.",
    click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True),
)
def ssh_config(
    config_path: Path | None,
    profile: str | None,
    region: str | None,
    *,
    write: bool,
    only_print: bool,
    instance_connect: bool,
    no_fdpass: bool,
) -> None:
    """Print or write the ssh configuration for Session Manager.

    With it, `ssh i-...` goes through Session Manager. Each tunnel to a port 22, or with
    the probe banner:SSH-, gets a name too: `ssh NAME` connects to its local address,
    and its host key is stored under its target, so that ports on localhost never
    clash. --write puts all of it into ~/.ssh/ssmtunneld.conf, adds one Include line to
    ~/.ssh/config, and shows the changes; repeating it changes nothing. With --print it
    only shows what it would change.
    """
    from ssmtunneld.cli.ssh_files import keys_directory
    from ssmtunneld.ssh.config_blocks import render
    from ssmtunneld.ssh.fd_passing import IS_USUAL

    options = {"--config": config_path, "--profile": profile, "--region": region}
    words = [*program(sys.argv[0]), "proxy"]
    for option, value in options.items():
        words += [] if value is None else [option, str(value)]
    keys = keys_directory() if instance_connect else None
    text = render(words, _doors(config_path), keys, passes=IS_USUAL and not no_fdpass)
    if write:
        _write(text, pretend=only_print)
    else:
        click.echo(text, nl=False)


def _write(text: str, *, pretend: bool) -> None:
    from ssmtunneld.cli.ssh_files import plan_changes

    # ssh does not look at $HOME, but whoever sets it wants to be taken at their word.
    changes = plan_changes(home() / ".ssh", text)
    for change in changes:
        click.echo(change.diff(), nl=False)
        if change.needed and not pretend:
            change.apply()
    if not any(change.needed for change in changes):
        tell("Nothing to change.")


def _doors(config: Path | None) -> "list[SshTunnel]":
    """Return the tunnels to ssh servers: of daemons that run, then of the file."""
    from ssmtunneld.ssh.config_blocks import SshTunnel

    found: dict[str, SshTunnel] = {}
    for document in running(config):
        for tunnel in document["tunnels"]:
            host, _, port = tunnel["destination"].rpartition(":")
            if port == str(_PORT) and tunnel["listen"]:
                door = SshTunnel(
                    tunnel["name"], tunnel["target"], host, tunnel["listen"][0]
                )
                found.setdefault(door.name, door)
    for door in _configured(config):
        known = found.get(door.name)
        if known is None and not door.address.endswith(":0"):
            found[door.name] = door
        elif known is not None and (known.target, known.host) == (
            door.target,
            door.host,
        ):
            # The daemon knows where it listens, the file whose key it pushes.
            found[door.name] = replace(door, address=known.address)
    return list(found.values())


def _configured(config: Path | None) -> "Iterator[SshTunnel]":
    from ssmtunneld.config import load_config
    from ssmtunneld.ssh.config_blocks import SshTunnel
    from ssmtunneld.ssh.settings import find_source

    source = find_source(config, os.environ)
    if source is None:
        return
    for tunnel in load_config(source, os.environ).enabled:
        if _leads_to_ssh(tunnel):
            yield SshTunnel(
                tunnel.name,
                tunnel.target,
                tunnel.host or "localhost",
                _first_address(tunnel),
                tunnel.port or _PORT,
                tunnel.instance_connect_user,
                tunnel.instance_connect_key,
            )


def _first_address(tunnel: "TunnelSettings") -> str:
    # As a running daemon spells it, which has two addresses for this name.
    return str(tunnel.listen[0]).replace("localhost:", "127.0.0.1:")


def _leads_to_ssh(tunnel: "TunnelSettings") -> bool:
    return tunnel.port == _PORT or str(tunnel.probe).startswith("banner:SSH")
