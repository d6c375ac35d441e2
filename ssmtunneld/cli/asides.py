"""Words on standard error: beside what a command is for, and never in its way."""

import sys
from contextlib import suppress

import click


def tell(line: str) -> None:
    """Write ``line`` to standard error: behind the log's lines, where there is one.

    Whoever does not read there, or cannot, must neither keep a command from its work
    nor change what it ends with: a full disk, a pipe or terminal that has gone.
    """
    logs = sys.modules.get("ssmtunneld.observe.logs")  # takes long to import
    if logs is None or not logs.say(line):
        tell_part(f"{line}\n")


def tell_part(text: str) -> None:
    """Write ``text`` to standard error as :func:`tell` does, but past the log."""
    with suppress(OSError):
        click.echo(text, nl=False, err=True)


class Aside:
    """Standard error as a stream, for whoever writes more than lines to one."""

    def write(self, text: str, /) -> None:
        """Write ``text``, where it can be."""
        tell_part(text)

    def flush(self) -> None:
        """Do nothing: all is written at once."""
