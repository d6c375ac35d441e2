"""The limits in docs/security.md are those of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"^ *\| [^|]+ \| ([0-9]+)[^|]* \| `([a-z_.]+)\.([A-Z_]+)` \|$", re.MULTILINE
)
LIMITS = ROW.findall((ROOT / "docs" / "security.md").read_text())


def test_there_are_limits():
    assert len(LIMITS) >= 17


@pytest.mark.parametrize(("value", "module", "name"), LIMITS)
def test_a_limit_in_the_document_is_the_codes(value, module, name):
    assert getattr(import_module(f"ssmtunneld.{module}"), name) == int(value)
