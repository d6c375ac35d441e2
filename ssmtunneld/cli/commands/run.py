"""``ssmtunneld run``."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from ssmtunneld.cli.options import config_option, group_option, load


@click.command()
@config_option
@group_option("Run only the tunnels of this group")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Minimum severity to log, instead of the file's.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    help="Format of log lines, instead of the file's.",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="On a terminal, log lines with all facts, as elsewhere.",
)
def run(
    config_path: Path | None,
    groups: tuple[str, ...],
    log_level: str | None,
    log_format: str | None,
    *,
    verbose: bool,
) -> None:
    """Run the daemon in the foreground.

    On a terminal it says in short lines what happens, and shows a table of the tunnels
    once they are ready, and after 5 s if they are not.

    It ends on SIGTERM or SIGINT (Ctrl-C): the first signal lets open connections
    finish, within drain_timeout; a second one resets them. SIGHUP reloads the
    configuration, of which --group goes on choosing the tunnels. Service managers start
    this command.
    """
    from ssmtunneld.base.deadline import Deadline
    from ssmtunneld.daemon.signals import Signals

    def report() -> None:
        from ssmtunneld.daemon.process import report_rest

        report_rest()

    # Before what takes long: a signal that comes meanwhile must not be lost.
    with Deadline(report) as deadline, Signals(deadline) as signals:
        from ssmtunneld.config import DaemonSettings
        from ssmtunneld.config.groups import in_groups
        from ssmtunneld.daemon.process import run_daemon
        from ssmtunneld.observe import logs

        def log_as(settings: DaemonSettings) -> None:
            form = log_format or settings.log_format
            if form == "auto" and watched and not verbose:
                form = "short"
            logs.configure(log_level or settings.log_level, form)

        watched = sys.stderr.isatty() and "JOURNAL_STREAM" not in os.environ
        config = in_groups(load(config_path), groups)
        log_as(config.daemon)
        announce = _show_table if watched else _show_nothing
        run_daemon(config, signals, log_as, deadline, announce, groups)


def _show_nothing(_: dict[str, Any]) -> None:
    """Show nothing: nobody looks on."""


def _show_table(document: dict[str, Any]) -> None:
    """Write the table of ``status`` behind what has been logged."""
    from ssmtunneld.cli.terminal.table import drawn_status
    from ssmtunneld.observe import logs

    logs.say(drawn_status(document["tunnels"]))
