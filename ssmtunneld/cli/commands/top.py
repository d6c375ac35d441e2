"""``ssmtunneld top``."""

import importlib.util
import os
import sys
from pathlib import Path

import click

from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError
from ssmtunneld.cli.options import daemon_option


@click.command()
@daemon_option
def top(config_path: Path | None) -> None:
    """Watch tunnels, connections, sessions and events, and act on them by key.

    Pause, resume, drain or diagnose a tunnel, kill a connection: ? shows the keys, q
    quits. Needs textual: `pipx inject ssmtunneld textual`, or an installation with the
    extra `tui`. `ssmtunneld status --watch` shows the tunnels without it. Exits with 3
    if no daemon runs.
    """
    if importlib.util.find_spec("textual") is None:
        raise CommandError(
            "top needs textual, which is not installed",
            "run: pipx inject ssmtunneld textual, or add it by pip where pip has "
            "installed ssmtunneld; ssmtunneld status --watch needs nothing",
            code=EXIT_USAGE,
        )
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        raise click.UsageError("top needs a terminal; scripts can use status --json")
    if os.environ.get("NO_COLOR") == "":
        del os.environ["NO_COLOR"]  # means nothing, but textual would take it

    from ssmtunneld.cli.top.app import run
    from ssmtunneld.cli.top.daemon_source import DaemonSource

    source = DaemonSource(config_path)
    run(source, source.look())
