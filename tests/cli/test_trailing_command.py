"""Words behind ``--``, which click never sees."""

import click
import pytest
from click.testing import CliRunner

from ssmtunneld.cli.trailing_command import TrailingCommand, trailing


@click.command(cls=TrailingCommand)
@click.argument("words", nargs=-1)
@click.option("--flag", is_flag=True)
@click.pass_context
def command(ctx, words, flag):
    click.echo(repr((words, flag, trailing(ctx))))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ((), False, ())),
        (["a", "--flag"], (("a",), True, ())),
        (["a", "--", "b", "--flag"], (("a",), False, ("b", "--flag"))),
        (["--"], ((), False, ())),
        (["a", "--", "b", "--", "c"], (("a",), False, ("b", "--", "c"))),
    ],
)
def test_what_stands_behind_belongs_to_somebody_else(arguments, expected):
    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, result.output) == (0, f"{expected!r}\n")


def test_without_words_nothing_was_kept():
    assert trailing(click.Context(command)) == ()
