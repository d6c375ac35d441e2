"""The manual pages: as the commands say, and without a warning."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from ssmtunneld.cli import main as program
from ssmtunneld.cli.manual import FOLDER, pages, write

ROOT = Path(__file__).parents[2]


def test_the_committed_pages_are_what_the_commands_say():
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert sorted(committed) == sorted(pages())
    stale = [name for name, text in pages().items() if committed[name] != text]
    assert stale == [], "run: python -m ssmtunneld.cli.manual"


def test_every_command_has_a_page_that_the_programs_page_names():
    found = pages()
    for name in program._COMMANDS:
        assert f"ssmtunneld-{name}.1" in found
        escaped = name.replace("-", "\\-")
        assert f"\\fBssmtunneld\\-{escaped}\\fR(1)" in found["ssmtunneld.1"]


def test_every_option_is_on_its_page():
    context = click.Context(program.cli)
    for name in program._COMMANDS:
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
        """.Begins as a request does. And more.

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


def test_the_wheel_brings_them_to_where_man_looks():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"] == {"man": "share/man/man1"}
