"""Formats are told apart by what only one of them has."""

import pytest

from ssmtunneld.importing import read
from ssmtunneld.importing.detect import FORMATS, detect


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=1\naws ssm start-session --target i-1\n", "aws"),
        ("aws ssm \\\n  start-session\n", "aws"),
        ("Host a\n ProxyCommand aws ssm start-session\n", "ssh"),
        ("host=a\n", "ssh"),
        ("Include config.d/*\n", "ssh"),
        ("targets: {}\nconnections:\n  a:\n", "basti"),
        ('{"connections": {}}', "basti"),
        ("[daemon]\n[[tunnels]]\nname = 'a'\n", "tunneld"),
    ],
)
def test_each_has_its_marks(text, expected):
    assert detect(text) == expected
    assert detect(text) in FORMATS


def test_anything_else_is_refused():
    with pytest.raises(ValueError, match="has nothing that could be imported"):
        read("hello")


def test_a_format_may_be_named():
    assert read("hello", "aws").tunnels == []
