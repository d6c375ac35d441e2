"""``ssmtunneld run``."""

from pathlib import Path

import click

from ssmtunneld.cli.options import config_option, load


@click.command()
@config_option
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Overrides the file's.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    help="Overrides the file's.",
)
def run(
    config_path: Path | None, log_level: str | None, log_format: str | None
) -> None:
    """Run the daemon in the foreground, until SIGTERM or SIGINT.

    The first signal lets connections finish, within drain_timeout; a second one ends
    them. Service managers start this command.
    """
    from ssmtunneld.daemon import run_daemon
    from ssmtunneld.ops import logs

    config = load(config_path)
    settings = config.daemon
    logs.configure(log_level or settings.log_level, log_format or settings.log_format)
    run_daemon(config)
