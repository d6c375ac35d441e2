"""The program that a service runs, and calls of a service manager's own commands."""

import os
import sys
from pathlib import Path

import pytest

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.service import manager
from ssmtunneld.cli.service.manager import ServicePaths, program, run, said


def executable(path, text="#!/bin/sh\n"):
    """Write a program."""
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_program_is_the_one_that_was_called(tmp_path, monkeypatch):
    path = executable(tmp_path / "ssmtunneld")
    assert program(str(path)) == [str(path)]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program("ssmtunneld") == [str(path)]
    monkeypatch.chdir(tmp_path)
    assert program("./ssmtunneld") == [str(path)]


def test_a_link_is_kept_because_it_outlives_the_version_behind_it(tmp_path):
    path = executable(tmp_path / "ssmtunneld-1.0")
    link = tmp_path / "ssmtunneld"
    link.symlink_to(path)
    assert program(str(link)) == [str(link)]


def test_a_module_is_run_by_this_interpreter(tmp_path):
    module = [sys.executable, "-P", "-m", "ssmtunneld"]
    assert program(str(tmp_path / "__main__.py")) == module
    assert program(str(executable(tmp_path / "__main__.py"))) == module


def test_this_place_is_this_process():
    place = ServicePaths.here()
    assert place.platform == sys.platform
    assert place.uid == os.getuid()
    assert Path(sys.prefix) in place.software


def test_a_command_that_is_not_there_says_what_else_helps():
    with pytest.raises(CommandError, match="nosuchctl cannot be run") as caught:
        run(("nosuchctl", "start"))
    assert "ssmtunneld run" in caught.value.advice


def test_a_command_that_does_not_end_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(manager, "_PATIENCE", 0.01)
    with pytest.raises(CommandError, match="did not end within"):
        run(("tail", "-f", os.devnull))


def test_what_a_command_said_is_one_line():
    assert said(run(("sh", "-c", "echo a; echo b; exit 1"))) == "a b"
    assert said(run(("sh", "-c", "echo a >&2; echo b; exit 1"))) == "a"
    assert said(run(("sh", "-c", "exit 4"))) == "it ended with status 4"
