"""``ssmtunneld logs``."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from ssmtunneld.base.paths import exists
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.daemon_client import Daemon, NotRunning, find, select
from ssmtunneld.cli.daemon_requests import ask_log
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.options import complete_names, daemon_option


@click.command()
@click.argument("name", required=False, metavar="[NAME]", shell_complete=complete_names)
@daemon_option
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Lines of the past.",
)
def logs(
    name: str | None, config_path: Path | None, *, follow: bool, lines: int
) -> None:
    """Show the daemon's log, or what it says of a tunnel.

    With NAME, only lines of that tunnel. Reads the journal where the daemon writes to
    that, or the file that its standard error is (as under launchd), or else the
    daemon's memory: the last 200 lines from `info` up. Without a daemon, what the
    service of `ssmtunneld service` said last.
    """
    with suppress(KeyboardInterrupt):
        for line in _lines(name, config_path, follow=follow, count=lines):
            click.echo(line)


def _lines(
    name: str | None, config_path: Path | None, *, follow: bool, count: int
) -> Iterator[str]:
    try:
        daemon = find(config_path)
    except NotRunning as error:
        commands = _service_commands(_look_back(count, name), follow=follow)
        if not commands:
            raise
        tell(f"{error}; this is what its service said last")
        return _printed(commands[0], name, None if follow else count)
    if name is not None:
        select(daemon.document, [name])
    return _lines_of(daemon, name, config_path, follow=follow, count=count)


def _lines_of(
    daemon: Daemon,
    name: str | None,
    config_path: Path | None,
    *,
    follow: bool,
    count: int,
) -> Iterator[str]:
    place = ask_log(daemon, 0)["place"]
    command = _command(place, _look_back(count, name), follow=follow)
    shown = 0
    if command is not None:
        try:
            for line in _printed(command, name, None if follow else count):
                shown += 1
                yield line
        except CommandError as error:
            # Who may ask the daemon may not read everybody's journal.
            tell(f"{error}; this is what the daemon remembers")
        else:
            if not shown and not follow:
                tell(_why_empty(name, _look_back(count, name)))
            return
    if not shown:
        yield from _remembered(name, config_path, follow=follow, count=count)


def _remembered(
    name: str | None, config_path: Path | None, *, follow: bool, count: int
) -> Iterator[str]:
    from ssmtunneld.cli.log_reader import remembered

    again = partial(_ask_whoever_runs, config_path)
    shown = 0
    for line in remembered(
        again, name, count=count, follow=follow, missed=_tell_missed
    ):
        shown += 1
        yield line
    if not shown:
        about = f" about {name}" if name else ""
        tell(f"the daemon remembers no line{about}")


def _why_empty(name: str | None, looked: int) -> str:
    if name is None:
        return "the log has no lines yet"
    return (
        f"nothing about {name} in the last {looked} lines of the log; a larger -n "
        "looks further back"
    )


def _tell_missed(error: CommandError) -> None:
    next_one = "waiting for one" if isinstance(error, NotRunning) else "asking again"
    tell(f"ssmtunneld: {error}; {next_one}")


def _ask_whoever_runs(config_path: Path | None, after: int) -> dict[str, Any]:
    return ask_log(find(config_path), after)


def _look_back(count: int, name: str | None) -> int:
    from ssmtunneld.cli.log_reader import look_back

    return look_back(count, name)


def _command(place: dict[str, Any], lines: int, *, follow: bool) -> list[str] | None:
    from ssmtunneld.cli.log_reader import file_command, journal_command

    if place["unit"]:
        unit, user = place["unit"], place["user"]
        return journal_command(unit, user=user, lines=lines, follow=follow)
    if place["file"]:
        return file_command(place["file"], lines=lines, follow=follow)
    return None


def _printed(command: list[str], name: str | None, count: int | None) -> Iterator[str]:
    """Return the lines of ``command`` about ``name``: the last ``count``, or all."""
    from ssmtunneld.cli.log_reader import last, of_tunnel, printed

    found = filter(of_tunnel(name), printed(command))
    return found if count is None else last(found, count)


def _service_commands(lines: int, *, follow: bool) -> list[list[str]]:
    """Return what prints the logs of services that `ssmtunneld service` installed."""
    from ssmtunneld.cli.log_reader import file_command, journal_command
    from ssmtunneld.cli.service.launchctl import Launchd
    from ssmtunneld.cli.service.manager import ServicePaths
    from ssmtunneld.cli.service.systemctl import UNIT, Systemd

    place = ServicePaths.here()
    if sys.platform == "darwin":
        file = Launchd(place).log
        return [file_command(str(file), lines=lines, follow=follow)] * exists(file)
    found = [
        journal_command(UNIT, user=not system, lines=lines, follow=follow)
        for system in (False, True)
        if exists(Systemd(place, system=system).path)
    ]
    return [command for command in found if command is not None]
