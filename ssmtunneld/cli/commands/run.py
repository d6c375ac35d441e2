"""``ssmtunneld run``."""

from pathlib import Path

import click

from ssmtunneld.cli.options import config_option, load


@click.command()
@config_option
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
def run(
    config_path: Path | None, log_level: str | None, log_format: str | None
) -> None:
    """Run the daemon in the foreground.

    It ends on SIGTERM or SIGINT (Ctrl-C): the first signal lets open connections
    finish, within drain_timeout; a second one resets them. SIGHUP reloads the
    configuration. Service managers start this command.
    """
    from ssmtunneld.base.deadline import Deadline
    from ssmtunneld.daemon.signals import Signals

    def report() -> None:
        from ssmtunneld.daemon.process import report_rest

        report_rest()

    # Before what takes long: a signal that comes meanwhile must not be lost.
    with Deadline(report) as deadline, Signals(deadline) as signals:
        from ssmtunneld.config import DaemonSettings
        from ssmtunneld.daemon.process import run_daemon
        from ssmtunneld.observe import logs

        def log_as(settings: DaemonSettings) -> None:
            logs.configure(
                log_level or settings.log_level, log_format or settings.log_format
            )

        config = load(config_path)
        log_as(config.daemon)
        run_daemon(config, signals, log_as, deadline)
