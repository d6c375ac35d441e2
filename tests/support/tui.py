"""The extra ``tui``, and what an application shows."""

import asyncio
import os
from contextlib import asynccontextmanager
from importlib.util import find_spec

import pytest

PATIENCE = 30.0
"""Seconds until a test gives up waiting for what never comes."""


def need_textual():
    """Skip the module that is being imported where textual is not installed.

    With SSMTUNNELD_REQUIRE_INTEROP, as in CI, that is a failure.
    """
    if find_spec("textual") is None:
        if os.environ.get("SSMTUNNELD_REQUIRE_INTEROP"):
            pytest.fail("not installed: textual", pytrace=False)
        pytest.skip("not installed: textual", allow_module_level=True)


@asynccontextmanager
async def showing(app, columns=80, rows=24):
    """Run ``app`` without a terminal; yield its pilot."""
    async with app.run_test(size=(columns, rows)) as pilot:
        await pilot.pause()
        yield pilot


def screen_of(app):
    """Return the lines that ``app`` shows now."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


async def await_screen(pilot, wanted):
    """Wait until ``wanted(text)`` is true of all that is shown; return that."""
    shown = ""

    def is_shown():
        nonlocal shown
        shown = "\n".join(screen_of(pilot.app))
        return wanted(shown)

    try:
        await await_fact(pilot, is_shown)
    except TimeoutError:
        raise AssertionError(f"never came:\n{shown}") from None
    return shown


async def await_fact(pilot, fact):
    """Wait until ``fact()`` is true; ``pilot`` lets the app go on meanwhile."""
    async with asyncio.timeout(PATIENCE):
        while not fact():
            await pilot.pause(0.01)
