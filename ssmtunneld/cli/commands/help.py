"""``ssmtunneld help``."""

import click
from typing_extensions import override

from ssmtunneld.cli.main import cli
from ssmtunneld.cli.usage import SuggestingGroup


class _Help(click.Command):
    """Offers the names of commands to a shell that completes."""

    @override
    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> "list[click.shell_completion.CompletionItem]":
        from click.shell_completion import CompletionItem

        names = [] if ctx.params.get("words") else cli.list_commands(ctx)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command(name="help", cls=_Help)
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def show_help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of ssmtunneld or of a command.

    `ssmtunneld help service install` is `ssmtunneld service install --help`.
    """
    assert ctx.parent is not None, "help is a command of the program"
    here, command = ctx.parent, ctx.parent.command
    rest = list(words)
    while rest:
        if not isinstance(command, SuggestingGroup):
            raise click.UsageError(f"{here.command_path} has no commands of its own")
        name, found, rest = command.resolve_command(here, rest)
        assert found is not None, "what cannot be resolved is an error"
        command = found
        here = click.Context(command, info_name=name, parent=here)
    click.echo(command.get_help(here))
