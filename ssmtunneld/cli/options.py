"""Options and arguments that several commands share."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from ssmtunneld.cli.asides import tell

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ssmtunneld.config import Config

_Command = TypeVar("_Command", bound=Callable[..., Any])

APPROVAL_TIMEOUT: Final = "1h"
"""Time for people to approve an access request, unless somebody says otherwise."""
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?")


def config_option(command: _Command) -> _Command:
    """Add ``--config FILE`` for a command that starts a daemon, as ``config_path``."""
    return file_option(
        "Configuration file. By default $SSMTUNNELD_CONFIG, then the user's "
        "configuration directory, then /etc/ssmtunneld/config.toml."
    )(command)


def config_in_use_option(command: _Command) -> _Command:
    """Add ``--config FILE`` for a command that uses `load_in_use`."""
    return file_option(
        "Configuration file. By default $SSMTUNNELD_CONFIG, then the running daemon's "
        "file, then the usual places."
    )(command)


def daemon_option(command: _Command) -> _Command:
    """Add ``--config FILE`` for a command that asks a daemon, as ``config_path``."""
    return file_option(
        "Configuration file. It selects the daemon, if several run. By default "
        "$SSMTUNNELD_CONFIG."
    )(command)


def changed_file_option(command: _Command) -> _Command:
    """Add ``--config FILE`` for a command that changes a file, as ``config_path``."""
    return file_option(
        "The file to change. By default $SSMTUNNELD_CONFIG, then the usual places."
    )(command)


def file_option(
    text: str, kind: click.Path | None = None
) -> Callable[[_Command], _Command]:
    """Add ``--config FILE``, passed as ``config_path``, with a text of its own.

    Args:
        text: The help.
        kind: What is checked of the path; by default nothing.
    """
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=kind or click.Path(path_type=Path),
        metavar="FILE",
        help=text,
    )


def name_argument(command: _Command) -> _Command:
    """Add ``NAME``, one of the daemon's tunnels, passed as ``name``."""
    argument = click.argument("name", metavar="NAME", shell_complete=complete_names)
    return argument(command)


def names_argument(command: _Command) -> _Command:
    """Add ``[NAME]...``, some of the daemon's tunnels, passed as ``names``."""
    return click.argument(
        "names", nargs=-1, metavar="[NAME]...", shell_complete=complete_names
    )(command)


def group_option(text: str) -> Callable[[_Command], _Command]:
    """Add ``--group GROUP``, repeatable, passed as ``groups``.

    Args:
        text: The help: what is done with the tunnels of the group.
    """
    return click.option(
        "--group",
        "groups",
        multiple=True,
        metavar="GROUP",
        shell_complete=complete_groups,
        help=f"{text}; repeatable.",
    )


def check_some(names: Sequence[str], groups: Sequence[str]) -> None:
    """Make sure that a command for some tunnels has been told for which.

    Raises:
        click.UsageError: It has not.
    """
    if not (names or groups):
        raise click.UsageError("which tunnels? name some, or a --group")


def refuse_alone(parameter: str, other: str, *, given: bool) -> None:
    """Refuse an option that was typed without the one that it needs.

    Args:
        parameter: The name that the command has for the option.
        other: What it needs, as it is typed.
        given: Whether that was typed.

    Raises:
        click.UsageError: It has no effect.
    """
    ctx = click.get_current_context()
    if given or ctx.get_parameter_source(parameter) is not ParameterSource.COMMANDLINE:
        return
    (option,) = (p for p in ctx.command.params if p.name == parameter)
    raise click.UsageError(f"{option.opts[-1]} has no effect without {other}")


def timeout_option(default: str, what: str) -> Callable[[_Command], _Command]:
    """Add ``--timeout DURATION``, passed as ``timeout`` in seconds."""
    return click.option(
        "--timeout",
        type=seconds,
        default=default,
        show_default=True,
        metavar="DURATION",
        help=f"{what}: seconds, or a number with ms, s, m or h.",
    )


def one_line(_: click.Context, option: click.Parameter, text: str | None) -> str | None:
    """Return the text of an option: a callback for those that go to other programs.

    Raises:
        UsageError: It is empty, or has what no other program could read.
    """
    if text is not None and not (text and text.isprintable()):
        name = option.opts[0]
        raise click.UsageError(f"{name} should be one line of printable text")
    return text


def seconds(text: str) -> float:
    """Return the seconds in ``60``, ``60s``, ``1.5m``; a type for click.

    Raises:
        click.BadParameter: It is not a duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a duration such as 60s or 2m")
    return float(match[1]) * _UNITS[match[2] or "s"]


def complete_names(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Return the running daemon's tunnels that start with ``incomplete``.

    Those that stand on the command line already are left out. Without a daemon there
    is nothing to offer; an error message would end up in the user's command line.
    """
    from click.shell_completion import CompletionItem

    from ssmtunneld.cli.daemon_client import find
    from ssmtunneld.errors import SsmtunneldError

    try:
        document = find(ctx.params.get("config_path")).document
    except SsmtunneldError:
        return []
    taken = ctx.params.get("names") or ()
    return [
        CompletionItem(tunnel["name"], help=tunnel["state"])
        for tunnel in document["tunnels"]
        if tunnel["name"].startswith(incomplete) and tunnel["name"] not in taken
    ]


def complete_groups(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Return the groups that start with ``incomplete``, of the daemon or the file.

    Those that stand on the command line already are left out.
    """
    from click.shell_completion import CompletionItem

    taken = ctx.params.get("groups") or ()
    return [
        CompletionItem(group)
        for group in _known_groups(ctx.params.get("config_path"))
        if group.startswith(incomplete) and group not in taken
    ]


def _known_groups(config_path: Path | None) -> list[str]:
    from ssmtunneld.cli.daemon_client import find, groups_in
    from ssmtunneld.errors import SsmtunneldError

    try:
        return groups_in(find(config_path).document["tunnels"])
    except SsmtunneldError:
        pass  # the daemon that runs next reads the file
    try:
        config = load(config_path)
    except SsmtunneldError:
        return []
    from ssmtunneld.config.groups import groups_of

    return groups_of(config.tunnels)


def load_in_use(config_path: Path | None, *, told: bool = False) -> "Config":
    """Find and parse the configuration of the daemon that runs, or else the usual one.

    Args:
        config_path: The file that is named; None for the daemon's.
        told: Whether it is said on standard error that a daemon's file was chosen,
            where whoever types nothing could have expected another one.

    Raises:
        CommandError: Several daemons run, and none is named.
        ConfigError: There is none, or it cannot be used.
    """
    from ssmtunneld.cli.running_daemons import followed_file

    followed = followed_file(config_path)
    if told and followed is not None:
        _tell_followed(followed)
    return load(followed or config_path)


def _tell_followed(followed: Path) -> None:
    from ssmtunneld.base.paths import real_path
    from ssmtunneld.cli.terminal.text import visible
    from ssmtunneld.config import find_config
    from ssmtunneld.errors import ConfigError

    try:
        usual = find_config(None, os.environ)
    except ConfigError:
        instead = ""
    else:
        if real_path(usual) == followed:
            return
        instead = f", not {usual}"
    tell(
        visible(
            f"ssmtunneld: taking the running daemon's file, {followed}{instead}; "
            "-c names another"
        )
    )


def load(config_path: Path | None) -> "Config":
    """Find and parse the configuration, whatever daemons run.

    Raises:
        ConfigError: There is none, or it cannot be used.
    """
    from ssmtunneld.config import find_config, load_config

    return load_config(find_config(config_path, os.environ), os.environ)
