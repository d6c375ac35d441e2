"""Prometheus' own checker of what a scrape gets, and of rules."""

import os
import shutil
import subprocess

import pytest


def check_metrics(text):
    """Let ``promtool check metrics`` read ``text``; whatever it complains of fails."""
    result = promtool("check", "metrics", text=text)
    said = result.stdout + result.stderr
    assert (result.returncode, said) == (0, ""), said


def promtool(*arguments, text=None):
    """Run ``promtool`` with ``text`` to read; return the completed process.

    The program is ``$PROMTOOL`` or on the PATH. Without it the test is skipped, or with
    SSMTUNNELD_REQUIRE_INTEROP, as in CI, a failure.
    """
    program = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if program is None:
        if os.environ.get("SSMTUNNELD_REQUIRE_INTEROP"):
            pytest.fail("not installed: promtool")
        pytest.skip("not installed: promtool")
    return subprocess.run(
        [program, *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
