"""``ssmtunneld drain``."""

from pathlib import Path

import click

from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.daemon_client import find, select_enabled
from ssmtunneld.cli.options import daemon_option, name_argument
from ssmtunneld.cli.terminal.text import counted


@click.command()
@name_argument
@daemon_option
def drain(name: str, config_path: Path | None) -> None:
    """Stop accepting new connections, and wait for open ones to end.

    Open connections of tunnel NAME have the daemon's drain_timeout to finish; then they
    are reset, and this command exits with 1. Ctrl-C ends only the waiting.
    `ssmtunneld resume NAME` undoes it.
    """
    daemon = find(config_path)
    (tunnel,) = select_enabled(daemon.document, [name])
    count = tunnel["connections"]
    waits = "; Ctrl-C ends the waiting, not the drain" if count else ""
    tell(f"{name}: draining, {counted(count, 'connection')}{waits}")
    # The daemon keeps the time: no limit of ours could be right.
    answer = daemon.ask("POST", f"/tunnels/{name}/drain", timeout=None)
    cut = answer.get("cut", 0)
    if cut:
        raise click.exceptions.Exit(_say_cut(name, cut))
    click.echo(f"{name}: drained")


def _say_cut(name: str, cut: int) -> int:
    click.echo(f"{name}: drained; {counted(cut, 'connection')} had to be reset")
    return 1
