"""docs/commands.md: its tables are those that the commands make."""

from tests.cli import reference
from tests.cli.reference import DOCUMENT, renewed


def test_the_tables_of_the_document_are_what_the_commands_say():
    text = DOCUMENT.read_text("utf-8")
    assert renewed(text) == text, "run: make commands"
    for name in reference.TABLES:
        assert f"<!-- {name}: " in text


def test_a_table_that_is_out_of_date_is_replaced():
    stale = DOCUMENT.read_text("utf-8").replace("| 3 | no daemon", "| 3 | nothing")
    assert renewed(stale) == DOCUMENT.read_text("utf-8")
