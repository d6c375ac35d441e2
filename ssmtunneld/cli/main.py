"""The command group: what commands there are, and how they end.

Exit codes (design section 6): 0 fine, 1 failed, 2 usage or configuration, 3 not
running, 4 AWS refused (``exits.py``). Errors are one line each on standard error: what
happened, why, and what to do.
"""

import importlib
import keyword
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click
from typing_extensions import override

from ssmtunneld.cli.exits import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    EXIT_USAGE,
    CommandError,
)
from ssmtunneld.errors import AwsError, ConfigError, SsmtunneldError
from ssmtunneld.version import __version__

PROGRAM: Final = "ssmtunneld"
COMPLETE_VARIABLE: Final = "_SSMTUNNELD_COMPLETE"
"""Set by a shell that wants completions instead of a command (``completion.py``)."""

_COMMANDS: Final = {
    "open": "Open tunnels without a file, for as long as the command runs.",
    "init": "Write a first configuration file.",
    "add": "Add a tunnel to the file.",
    "remove": "Remove a tunnel from the file.",
    "import": "Turn other programs' tunnels into ours.",
    "discover": "List databases, caches and more that tunnels may lead to.",
    "ssh": "Log in to a target with your own ssh.",
    "targets": "List the targets of an account and region.",
    "run": "Run the daemon in the foreground.",
    "status": "Show how the daemon and its tunnels are.",
    "wait": "Wait until tunnels are ready.",
    "exec": "Run a command while tunnels are ready.",
    "reload": "Let the daemon read its configuration again.",
    "drain": "End a tunnel's connections, politely.",
    "pause": "Let a tunnel take no connections.",
    "resume": "Let a paused tunnel take connections again.",
    "log-level": "Change what the daemon logs.",
    "proxy": "Connect standard input and output to a port: for ssh.",
    "ssh-config": "Print or write what ssh must be told.",
    "sessions": "List the sessions that AWS knows, and end some.",
    "doctor": "Walk a tunnel's way, and say where it is broken.",
    "login": "Log in as whoever a tunnel is towards AWS.",
    "db-token": "Print an IAM token for a database.",
    "env": "Print the environment for a database's programs.",
    "hosts": "Give tunnels the real names of their hosts in /etc/hosts.",
    "service": "Install the daemon as a service of systemd or launchd.",
    "config": "Show the sample configuration, and what holds.",
    "check": "Check a configuration file.",
    "demo": "Try it without AWS: emulator, destinations and daemon in one.",
    "emulator": "Serve the AWS side of Session Manager on loopback.",
    "schema": "Print the JSON Schema of the configuration, for editors.",
    "completion": "Print what makes a shell complete our commands.",
}


class _LazyGroup(click.Group):
    """Imports a command's module only when the command is used or asked for help."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        # A module cannot be called what Python itself says.
        name += "_" if keyword.iskeyword(name) else ""
        module = importlib.import_module(f"ssmtunneld.cli.{name}")
        return next(
            value
            for value in vars(module).values()
            if isinstance(value, click.Command) and value.name == cmd_name
        )

    @override
    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ssmtunneld")
def cli() -> None:
    """Warm port-forwarding tunnels through AWS Session Manager."""


def describe(error: SsmtunneldError) -> list[str]:
    """Return what to tell the user, one line for each problem."""
    if isinstance(error, ConfigError):
        return error.problems
    problems = error.problems if isinstance(error, CommandError) else ()
    text = " ".join(str(error).split())
    return [*problems, f"{text}; {error.advice}" if error.advice else text]


def exit_code(error: SsmtunneldError) -> int:
    """Return the documented exit code for ``error``."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, ConfigError):
        return EXIT_USAGE
    return EXIT_REFUSED if isinstance(error, AwsError) else EXIT_FAILED


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; never returns."""
    options: dict[str, Any] = {
        "prog_name": PROGRAM,
        "complete_var": COMPLETE_VARIABLE,
        "standalone_mode": False,
    }
    try:
        # Returns what a command returned, or gave to ctx.exit().
        code = cli.main(args=None if arguments is None else list(arguments), **options)
    except SsmtunneldError as error:
        for line in describe(error):
            click.echo(f"ssmtunneld: {line}", err=True)
        sys.exit(exit_code(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code or 0)
