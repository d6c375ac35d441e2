"""``ssmtunneld help``: the same as ``--help``, for those who type that."""

import click
import pytest

from ssmtunneld.cli.commands.help import show_help
from ssmtunneld.cli.main import COMMANDS, cli
from tests.cli.household import call


@pytest.mark.parametrize(
    "words", [(), ("status",), ("service",), ("service", "install"), ("sessions",)]
)
def test_it_is_the_help_of_the_program_or_of_a_command(capsys, words):
    code, out, err = call(capsys, "help", *words)
    assert (code, err) == (0, "")
    assert out == call(capsys, *words, "--help")[1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("statsu",), "ssmtunneld: no such command statsu; did you mean status?"),
        (
            ("service", "instal"),
            "ssmtunneld service: no such command instal; did you mean install?",
        ),
        (
            ("status", "db"),
            "ssmtunneld help: ssmtunneld status has no commands of its own; "
            "see: ssmtunneld help --help",
        ),
    ],
)
def test_what_does_not_exist_is_said(capsys, words, line):
    assert call(capsys, "help", *words) == (2, "", f"{line}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_summaries_of_a_commands_commands_fit_into_a_line(name):
    command = cli.get_command(click.Context(cli), name)
    if not isinstance(command, click.Group):
        return
    context = click.Context(command, info_name=f"ssmtunneld {name}", terminal_width=80)
    listed = command.get_help(context).partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(command.commands)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_shells_are_offered_the_commands():
    context = click.Context(show_help)
    offered = [item.value for item in show_help.shell_complete(context, "st")]
    assert offered == ["status"]
    context.params = {"words": ("status",)}
    assert show_help.shell_complete(context, "st") == []
