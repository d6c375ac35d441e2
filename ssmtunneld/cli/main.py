"""The command group: what commands there are, and how they end.

Errors are one line each on standard error: what happened, why, and what to do. Exit
codes are in ``exit_codes.py``.
"""

import errno
import importlib
import keyword
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import click
from typing_extensions import override

from ssmtunneld.base.redaction import redact, register_environment
from ssmtunneld.base.sentences import with_advice
from ssmtunneld.base.threads import NoThread
from ssmtunneld.cli.asides import tell
from ssmtunneld.cli.exit_codes import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    EXIT_USAGE,
    MEANINGS,
    CommandError,
)
from ssmtunneld.cli.terminal.text import visible
from ssmtunneld.cli.usage import SuggestingGroup, describe_usage, service_command
from ssmtunneld.errors import AwsError, ConfigError, SsmtunneldError
from ssmtunneld.version import __version__

PROGRAM: Final = "ssmtunneld"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of a standard output that takes no more."""
COMPLETE_VARIABLE: Final = "_SSMTUNNELD_COMPLETE"
"""Set by a shell that wants completions instead of a command.

``cli/commands/completion.py`` prints what sets it.
"""

GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "Try and set up": {
        "open": "Open tunnels without a file, for as long as the command runs.",
        "demo": "Try ssmtunneld without AWS: emulator, destinations and daemon.",
        "init": "Write a first configuration file, and say what to type next.",
        "add": "Add a tunnel to the file, and let a running daemon take it over.",
        "remove": (
            "Remove tunnels from the file, and let a running daemon take that over."
        ),
        "import": "Print the tunnels of another program's file as TOML, or add them.",
        "check": "Check a configuration file, and optionally its tunnels.",
    },
    "Run and watch": {
        "run": "Run the daemon in the foreground.",
        "service": "Install the daemon as a systemd or launchd service.",
        "status": "Show the state of the daemon and its tunnels.",
        "top": (
            "Watch tunnels, connections, sessions and events, and act on them by key."
        ),
        "connections": (
            "Show who is connected: user, program, bytes, session, destination."
        ),
        "logs": "Show the daemon's log, or what it says of a tunnel.",
        "doctor": "Diagnose tunnels hop by hop.",
    },
    "Use and control a running daemon": {
        "wait": "Wait until tunnels are ready.",
        "exec": "Run a command once tunnels are ready.",
        "reload": "Reload the configuration file.",
        "pause": "Stop accepting new connections.",
        "resume": "Accept connections again, after a pause or a drain.",
        "drain": "Stop accepting new connections, and wait for open ones to end.",
        "kill": "End open connections; their clients see a reset.",
        "log-level": "Change the log level of the running daemon.",
    },
    "Databases and clusters": {
        "connect": "Run the client that fits a tunnel, and end as it ends.",
        "env": "Print what database programs need, as variables or in a form to paste.",
        "db-token": "Print an IAM password for a database user.",
        "kubeconfig": "Print or write a kubectl context for a cluster behind a tunnel.",
        "hosts": "Map tunnels' host names to loopback addresses in /etc/hosts.",
    },
    "ssh": {
        "ssh": "Log in to a target with your own ssh, and end as it ends.",
        "ssh-config": "Print or write the ssh configuration for Session Manager.",
        "proxy": "Connect standard input and output to a port, as ssh's ProxyCommand.",
    },
    "AWS": {
        "login": "Log in to AWS with a tunnel's identity.",
        "targets": "List the targets of an account and region that are online.",
        "discover": (
            "List databases, caches, clusters and load balancers of an account."
        ),
        "sessions": "List the sessions that AWS knows, or terminate some.",
        "request": "Ask for access to a tunnel's node, where that takes an approval.",
    },
    "Other": {
        "config": "Show the sample configuration, the file's place, or what applies.",
        "schema": "Print the JSON Schema of the configuration, for editors.",
        "emulator": "Emulate the AWS side of Session Manager on loopback.",
        "completion": "Print a shell completion script.",
        "version": "Print the version.",
        "help": "Show the help of ssmtunneld or of a command.",
    },
}
"""The commands by what they are for, each with its summary.

That is also the first line of the command's own help.

They stand here because the list of commands must not import them all. The manual and
``docs/commands.md`` are made from them.
"""
COMMANDS: Final = {
    name: words for group in GROUPS.values() for name, words in group.items()
}
"""Each command and its summary, in the order of all lists."""

_SYNONYMS: Final = {
    **dict.fromkeys(("list", "ls", "ps"), "did you mean status, or targets?"),
    **dict.fromkeys(
        ("forward", "port-forward", "start-session", "tunnel"), "did you mean open?"
    ),
    **dict.fromkeys(("install", "uninstall"), "did you mean service?"),
    **dict.fromkeys(
        ("start", "up"), f"did you mean run? The service: {service_command('start')}"
    ),
    **dict.fromkeys(
        ("stop", "down"), f"Ctrl-C ends run; the service: {service_command('stop')}"
    ),
    "restart": f"did you mean reload? The service: {service_command('restart')}",
    **dict.fromkeys(("validate", "lint"), "did you mean check?"),
    **dict.fromkeys(("test", "diagnose", "ping"), "did you mean doctor?"),
    **dict.fromkeys(("psql", "mysql", "redis-cli"), "did you mean connect?"),
}
"""Words of other programs, and what they are here; ``nearest`` knows only letters."""


class _LazyGroup(SuggestingGroup):
    """Imports a command's module only when the command is used, or for its help."""

    synonyms = _SYNONYMS

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        # A module cannot be called what Python itself says.
        name += "_" if keyword.iskeyword(name) else ""
        module = importlib.import_module(f"ssmtunneld.cli.commands.{name}")
        return next(
            value
            for value in vars(module).values()
            if isinstance(value, click.Command) and value.name == cmd_name
        )

    @override
    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        width = max(map(len, COMMANDS))
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                # All summaries begin in one column.
                rows = [(name.ljust(width), words) for name, words in commands.items()]
                formatter.write_dl(rows)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Exit codes: {'; '.join(f'{c} {words}' for c, words in MEANINGS.items())}.",
)
@click.version_option(__version__, "-V", "--version", prog_name=PROGRAM)
def cli() -> None:
    """Warm port-forwarding tunnels through AWS Session Manager."""


def describe(error: SsmtunneldError) -> list[str]:
    """Return what to tell the user, one line for each problem."""
    if isinstance(error, ConfigError):
        return error.problems
    problems = error.problems if isinstance(error, CommandError) else ()
    text = " ".join(str(error).split())
    return [*problems, with_advice(text, error.advice)]


def exit_code(error: SsmtunneldError) -> int:
    """Return the documented exit code for ``error``."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, ConfigError):
        return EXIT_USAGE
    return EXIT_REFUSED if isinstance(error, AwsError) else EXIT_FAILED


def _tell_lack(error: OSError) -> None:
    """Say of what this machine gives no more.

    Raises:
        OSError: It is not that: ``error`` itself.
    """
    if isinstance(error, NoThread):
        tell(f"{PROGRAM}: {error.strerror}")
    elif error.errno in _FULL:
        tell(f"{PROGRAM}: cannot write: {error.strerror}")
        # What is still in its buffer would be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    else:
        raise error


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; never returns."""
    register_environment(os.environ)
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
            tell(visible(f"{PROGRAM}: {redact(line)}"))
        sys.exit(exit_code(error))
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 has it
            error.show()
        else:
            tell(visible(describe_usage(error)))
        sys.exit(error.exit_code)
    except OSError as error:
        _tell_lack(error)
        sys.exit(EXIT_FAILED)
    except (click.Abort, KeyboardInterrupt):
        # The next one would interrupt the interpreter's own end, which prints traces.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code or 0)
