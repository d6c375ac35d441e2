"""docs/commands.md: its tables are those that the commands make."""

import re

import pytest

from ssmtunneld.cli.main import COMMANDS
from tests.cli import reference
from tests.cli.reference import DOCUMENT, renewed

ROOT = DOCUMENT.parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_tables_of_the_document_are_what_the_commands_say():
    text = DOCUMENT.read_text("utf-8")
    assert renewed(text) == text, "run: make reference"
    for name in reference.TABLES:
        assert f"<!-- {name}: " in text


def test_a_table_that_is_out_of_date_is_replaced():
    stale = DOCUMENT.read_text("utf-8").replace("| 3 | no daemon", "| 3 | nothing")
    assert renewed(stale) == DOCUMENT.read_text("utf-8")


_NAMED = re.compile(r"(?:`|^|\$ |\(|&& )ssmtunneld ([a-z][a-z-]+)", re.MULTILINE)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_command_that_a_document_names_exists(path):
    assert set(_NAMED.findall(path.read_text("utf-8"))) <= set(COMMANDS)


def test_documents_name_most_commands():
    named = {name for path in TEXTS for name in _NAMED.findall(path.read_text("utf-8"))}
    assert len(named) > len(COMMANDS) // 2
