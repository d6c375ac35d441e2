"""``ssmtunneld wait``."""

from pathlib import Path

import click

from ssmtunneld.cli.client import find
from ssmtunneld.cli.options import daemon_option, names_argument, timeout_option
from ssmtunneld.cli.readiness import Patience, await_ready


@click.command()
@click.option("--ready", is_flag=True, help="The default, and the only thing to await.")
@names_argument
@timeout_option("60s", "How long to wait")
@daemon_option
def wait(
    names: tuple[str, ...], config_path: Path | None, timeout: float, **_: bool
) -> None:
    """Wait until tunnels take connections: those called NAME, or all required ones.

    Ends with 1, and says why, if they are not ready in time; with 3 if no daemon runs
    by then; with 2 at once if there is no such tunnel.
    """
    await_ready(lambda: find(config_path), names, Patience(timeout))
