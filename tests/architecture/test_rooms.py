"""The rooms of the house: what stands at the top, and what each room says of itself."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ssmtunneld"

# What a person imports or runs; everything else has a room.
AT_THE_TOP = {"__init__", "__main__", "api", "demo", "errors", "testing", "version"}

ROOMS = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))[1:]


def test_only_what_a_person_imports_or_runs_stands_at_the_top():
    assert {path.stem for path in PACKAGE.glob("*.py")} == AT_THE_TOP


@pytest.mark.parametrize("room", ROOMS, ids=lambda r: r.relative_to(PACKAGE).as_posix())
def test_a_room_says_what_comes_in_and_what_goes_out(room):
    text = (room / "__init__.py").read_text(encoding="utf-8")
    said = ast.get_docstring(ast.parse(text))
    assert said is not None
    assert re.search(r"\bIn: .*\bOut: |``main.py`` lists", said, re.DOTALL)
    # Five lines or so: more is for docs/architecture.md.
    assert len(said.splitlines()) <= 9


def test_an_entry_of_the_file_has_one_name():
    # Python's own type is the only one of that word.
    root = PACKAGE.parent
    pages = [root / "README.md", *root.glob("docs/**/*.md")]
    strange = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in [*PACKAGE.rglob("*.py"), *pages]
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\bmappings?\b", line)
    ]
    assert strange == []
