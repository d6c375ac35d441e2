"""The command group: what commands there are, and how they end.

Exit codes (design section 6): 0 fine, 1 failed, 2 usage or configuration, 3 not
running, 4 AWS refused. Errors are one line each on standard error: what happened, why,
and what to do.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click
from typing_extensions import override

from ssmtunneld.errors import AwsError, ConfigError, SsmtunneldError
from ssmtunneld.version import __version__

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2
EXIT_NOT_RUNNING: Final = 3
EXIT_REFUSED: Final = 4

_COMMANDS: Final = {
    "run": "Run the daemon in the foreground.",
    "status": "Show how the daemon and its tunnels are.",
    "check": "Check a configuration file.",
    "demo": "Try it without AWS: emulator, destinations and daemon in one.",
    "emulator": "Serve the AWS side of Session Manager on loopback.",
    "schema": "Print the JSON Schema of the configuration, for editors.",
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
        module = importlib.import_module(f"ssmtunneld.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

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
    text = " ".join(str(error).split())
    return [f"{text}; {error.advice}" if error.advice else text]


def exit_code(error: SsmtunneldError) -> int:
    """Return the documented exit code for ``error``."""
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    return EXIT_REFUSED if isinstance(error, AwsError) else EXIT_FAILED


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; never returns."""
    options: dict[str, Any] = {"standalone_mode": False}
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
        sys.exit(130)
    sys.exit(code or 0)
