"""docs/testing.md: what it names is there."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs/testing.md").read_text()


def test_every_fixture_and_method_of_the_page_exists():
    from ssmtunneld import testing

    fixtures = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert len(fixtures) == 6
    assert all(hasattr(testing, name) for name in fixtures)
    table = TEXT.split("| Of `ssm_emulator` | Does |")[1].split("\n\n", 1)[0]
    names = re.findall(r"`(\w+)(?:\(|`)", table)
    known = set(dir(testing.EmulatorThread))
    assert {name for name in names if name != "state"} <= known
