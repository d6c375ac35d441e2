"""The manual pages: as the commands say, and without a warning."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from ssmtunneld.cli import main as program
from ssmtunneld.cli.exit_codes import MEANINGS
from ssmtunneld.cli.manual import pages, write

ROOT = Path(__file__).parents[2]


_PROBE = """
import json, sys
before = set(sys.modules)
from ssmtunneld.cli.manual import pages
pages()
found = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(found - sys.stdlib_module_names - {"ssmtunneld"})))
"""


def test_a_build_has_every_library_that_making_the_pages_imports():
    result = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True
    )
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    required = settings["build-system"]["requires"]
    names = {re.split("[>=]", text)[0].replace("-", "_") for text in required}
    assert set(json.loads(result.stdout)) == names - {"hatchling"}
    # The same versions as those that users get.
    assert set(required) - {"hatchling>=1.27"} <= set(
        settings["project"]["dependencies"]
    )


def test_the_exit_codes_are_on_the_programs_page():
    page = pages()["ssmtunneld.1"].replace("\\-", "-")
    for code, words in MEANINGS.items():
        assert f"\\fB{code}\\fR\n{words[0].upper()}{words[1:]}.\n" in page


def test_every_command_has_a_page_that_the_programs_page_names():
    found = pages()
    for name in program.COMMANDS:
        assert f"ssmtunneld-{name}.1" in found
        escaped = name.replace("-", "\\-")
        assert f"\\fBssmtunneld\\-{escaped}\\fR(1)" in found["ssmtunneld.1"]


def test_every_option_is_on_its_page():
    context = click.Context(program.cli)
    for name in program.COMMANDS:
        text = pages()[f"ssmtunneld-{name}.1"].replace("\\-", "-")
        for option in program.cli.get_command(context, name).params:
            if isinstance(option, click.Option):
                assert all(spelling in text for spelling in option.opts)


@pytest.mark.parametrize("name", sorted(pages()))
def test_man_has_nothing_to_complain_about(name, tmp_path):
    page = tmp_path / name
    page.write_text(pages()[name])
    checkers = {
        "mandoc": ["mandoc", "-Tlint", "-Wwarning", page],
        "man": ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
    }
    found = [argv for tool, argv in checkers.items() if shutil.which(tool)]
    if not found:
        pytest.skip("neither man nor mandoc is installed")
    for argv in found:
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (0, "")
        if argv[0] == "mandoc":
            assert result.stdout == ""


def test_requests_and_quotes_in_a_help_are_only_text(monkeypatch):
    @click.command()
    @click.option("--hidden-one", hidden=True)
    @click.option(
        "-n", "--count-it", default=3, show_default=True, help="'Quoted' \\x."
    )
    @click.argument("what", type=click.Choice(["a", "b"]))
    def odd(**_):
        """.Begins as a request does.
        And more.

        \b
        .a  kept
        'b  apart
        """

    odd.help = odd.help.replace("\\b", "\b")
    monkeypatch.setattr(program.cli, "list_commands", lambda _: ["odd"])
    monkeypatch.setattr(program.cli, "get_command", lambda *_: odd)
    page = pages()["ssmtunneld-odd.1"]
    assert "ssmtunneld\\-odd \\- .Begins as a request does\n" in page
    assert "\n\\&.Begins as a request does. And more.\n" in page
    assert "\n.nf\n\\&.a  kept\n\\(aqb  apart\n.fi\n" in page
    assert "\n\\(aqQuoted\\(aq \\ex. The default is 3.\n" in page
    assert "\\fB\\-n\\fR, \\fB\\-\\-count\\-it\\fR \\fICOUNT_IT\\fR" in page
    assert "[OPTIONS] a|b" in page
    assert "hidden" not in page


def test_a_group_has_a_page_for_each_of_its_commands(monkeypatch):
    group = click.Group("household", help="Several things.")
    group.add_command(click.Command("clean", help="Do it."))
    monkeypatch.setattr(program.cli, "list_commands", lambda _: ["household"])
    monkeypatch.setattr(program.cli, "get_command", lambda *_: group)
    found = pages()
    assert sorted(found) == [
        "ssmtunneld-household-clean.1",
        "ssmtunneld-household.1",
        "ssmtunneld.1",
    ]
    assert "[OPTIONS] COMMAND [...]" in found["ssmtunneld-household.1"]


def test_writing_them_takes_away_those_of_commands_that_are_gone(tmp_path):
    folder = tmp_path / "man"
    write(folder)
    (folder / "ssmtunneld-gone.1").write_text("")
    (folder / "notes.txt").write_text("stay")
    write(folder)
    assert {path.name for path in folder.iterdir()} == {*pages(), "notes.txt"}


def test_it_is_a_program_that_writes_them(tmp_path):
    command = [sys.executable, "-m", "ssmtunneld.cli.manual", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == pages()
