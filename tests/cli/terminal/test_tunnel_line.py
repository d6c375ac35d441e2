"""A tunnel in one line."""

from ssmtunneld.cli.terminal.tunnel_line import describe
from tests.cli.household import waiting


def test_reasons_are_one_harmless_line():
    assert describe(waiting(reason="a\nb\x1b[2J", advice="")) == (
        "dead: waiting: a b\\u001b[2J"
    )
