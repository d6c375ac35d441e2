"""docs/architecture.md names files and rooms that exist."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def _named():
    return {name for name in re.findall(r"`([\w/.-]+)`", PAGE) if "/" in name}


def _exists(name):
    return any((ROOT / place / name).exists() for place in ("", "ssmtunneld"))


def test_every_file_and_folder_that_the_page_names_is_there():
    assert len(_named()) > 60
    assert sorted(name for name in _named() if not _exists(name)) == []


def test_the_page_draws_the_floors_that_the_linter_holds():
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    assert len(layers) <= 12
    drawing = PAGE.split("```")[1]
    floors = [re.findall(r"\w+", layer) for layer in layers if layer != "__main__"]
    lines = [line for line in drawing.splitlines() if line.strip()]
    assert len(lines) == len(floors)
    for floor, line in zip(floors, lines, strict=True):
        assert line.split()[: len(floor)] == floor
