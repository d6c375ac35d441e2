"""Wrong usage in one line (``test_main.py`` tries it from the command line)."""

import os

import click
import pytest

from ssmtunneld.cli.service.units import LABEL
from ssmtunneld.cli.usage import SuggestingGroup, describe_usage, service_command


def test_an_error_without_a_command_has_the_programs_name():
    assert describe_usage(click.ClickException("It broke.")) == "ssmtunneld: it broke"
    assert describe_usage(click.UsageError("No.")) == "ssmtunneld: no"


def test_what_says_already_what_to_do_gets_no_other_advice():
    context = click.Context(click.Command("x"), info_name="x")
    told = describe_usage(click.UsageError("wrong; do it right", context))
    assert told == "x: wrong; do it right"


def test_the_dots_of_what_can_be_repeated_stay():
    told = describe_usage(click.UsageError("no command; usage: x CMD [ARGS]..."))
    assert told == "ssmtunneld: no command; usage: x CMD [ARGS]..."


def test_several_lines_become_one():
    context = click.Context(click.Command("x"), info_name="x")
    told = describe_usage(click.UsageError("one\n  two.", context))
    assert told == "x: one two; see: x --help"


def test_a_group_still_takes_what_it_has():
    group = SuggestingGroup("g", commands={"go": click.Command("go")})
    context = click.Context(group, info_name="g")
    assert group.resolve_command(context, ["go", "on"])[::2] == ("go", ["on"])
    with pytest.raises(click.UsageError, match="no such command goo; did you mean go"):
        group.resolve_command(context, ["goo"])
    with pytest.raises(click.NoSuchOption):
        group.resolve_command(context, ["--og"])


def test_completion_of_an_unknown_command_is_no_error():
    group = SuggestingGroup("g", commands={"go": click.Command("go")})
    context = click.Context(group, info_name="g", resilient_parsing=True)
    assert group.resolve_command(context, ["og"])[:2] == (None, None)


@pytest.mark.parametrize(
    ("verb", "platform", "command"),
    [
        ("start", "linux", "systemctl --user start ssmtunneld"),
        ("restart", "linux", "systemctl --user restart ssmtunneld"),
        ("stop", "darwin", f"launchctl bootout gui/{os.getuid()}/{LABEL}"),
        ("restart", "darwin", f"launchctl kickstart -k gui/{os.getuid()}/{LABEL}"),
    ],
)
def test_a_service_has_a_command_of_its_manager(verb, platform, command):
    assert service_command(verb, platform) == command
