"""Starts of our own interpreter, which import nothing from the working directory."""

import ast
import subprocess
from pathlib import Path

import pytest

from ssmtunneld.base.interpreter import interpreter

PACKAGE = Path(__file__).parents[2] / "ssmtunneld"


@pytest.mark.parametrize("start", ["-c", "-m"])
def test_no_module_of_the_working_directory_comes_before_ours(tmp_path, start):
    (tmp_path / "json").mkdir()
    for name in ("__init__", "tool"):
        (tmp_path / "json" / f"{name}.py").write_text("raise SystemExit('hostile')")
    argument = {"-c": "import json.tool", "-m": "json.tool"}[start]
    done = subprocess.run(
        interpreter(start, argument),
        input=b"{}",
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def _users_of(name):
    """Return the files of the package that read ``sys.NAME``."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr == name)
        or (isinstance(node, ast.ImportFrom) and name in {n.name for n in node.names})
    }


def test_it_is_started_from_one_place_only():
    assert _users_of("executable") == {"base/interpreter.py"}
