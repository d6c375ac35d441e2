"""Commands that take another program's words after ``--``."""

from typing import Final

import click
from typing_extensions import override

_KEY: Final = "ssmtunneld.trailing"


class TrailingCommand(click.Command):
    """A command that keeps what stands behind ``--`` for somebody else.

    click itself would read those words as further arguments.
    """

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_KEY] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])


def trailing(ctx: click.Context) -> tuple[str, ...]:
    """Return the words behind ``--``; empty if there are none."""
    words: tuple[str, ...] = ctx.meta.get(_KEY, ())
    return words
