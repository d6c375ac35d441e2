"""Wrong usage, told in one line: what is wrong, and what to type instead."""

import os
import sys
from collections.abc import Mapping

import click
from typing_extensions import override

from ssmtunneld.base.nearest import nearest


class SuggestingGroup(click.Group):
    """A group that names the command that was probably meant."""

    synonyms: Mapping[str, str] = {}
    """Advice on words that are no commands here, but are elsewhere."""

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` begin with, and what is left for it.

        Raises:
            click.UsageError: There is no such command.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            if name.startswith("-"):
                self.parse_args(ctx, args)  # raises what is wrong with the option
            near = nearest(name, self.list_commands(ctx))
            hint = f"did you mean {near[0]}?" if near else _help_of(ctx)
            hint = self.synonyms.get(name, hint)
            raise click.UsageError(f"no such command {name}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def service_command(verb: str, platform: str = sys.platform) -> str:
    """Return the service manager's command for the service of this user.

    Args:
        verb: ``start``, ``stop`` or ``restart``.
        platform: As ``sys.platform`` says it.
    """
    if platform != "darwin":
        return f"systemctl --user {verb} ssmtunneld"
    commands = {"start": "kickstart", "stop": "bootout", "restart": "kickstart -k"}
    return f"launchctl {commands[verb]} gui/{os.getuid()}/io.github.ssmtunneld"


def describe_usage(error: click.ClickException) -> str:
    """Return one line: the command, what is wrong with its use, and what to do."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    message = _message(error)
    if ctx is None:
        return f"ssmtunneld: {message}"
    return f"{ctx.command_path}: {message}{_advice(error, ctx, message)}"


def _message(error: click.ClickException) -> str:
    if isinstance(error, click.NoSuchOption):
        # click's own text differs from version to version.
        return f"no such option {error.option_name}"
    text = " ".join(error.format_message().split())
    if not text.endswith("..."):  # of what can be repeated
        text = text.removesuffix(".")
    return text[:1].lower() + text[1:]


def _advice(error: click.ClickException, ctx: click.Context, message: str) -> str:
    if isinstance(error, click.NoSuchOption):
        spellings = {s for p in ctx.command.get_params(ctx) for s in p.opts}
        near = nearest(error.option_name, spellings)
        return f"; did you mean {near[0]}?" if near else f"; {_help_of(ctx)}"
    if ";" in message or "?" in message:
        return ""  # it says already what to do
    if isinstance(error, click.MissingParameter) or "extra argument" in message:
        usage = " ".join(ctx.get_usage().split())
        return f"; {usage[:1].lower()}{usage[1:]}"
    return f"; {_help_of(ctx)}"


def _help_of(ctx: click.Context) -> str:
    return f"see: {ctx.command_path} --help"
