"""Settings and fixtures of all tests: hypothesis's effort, and a log for each test."""

import gc
import logging
import os
import sys

import pytest
import structlog
from hypothesis import settings

from ssmtunneld.base import redaction
from ssmtunneld.base.log import EventLog
from ssmtunneld.observe import logs

# A deadline would make a slow machine look like a defect.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("brief", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=5000, deadline=None)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)


SLOW = (
    *("chaos", "hostile", "interop", "integration", "doctor", "browser", "packaging"),
    "typed",
)
"""Rooms of tests that take minutes. First, so that at the end, when one of the workers
has nothing left, the other one has no minutes before it."""


UNMEASURED = ("chaos", "fuzz", "hostile", "properties")
"""Rooms of tests that do thousands of times what others do once. They add nothing to
the coverage, and measuring it doubles their time."""


def _room(item):
    return item.nodeid.split("/")[1]  # such as tests/chaos/test_x.py::test_y


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: _room(item) not in SLOW)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    coverage = sys.modules.get("coverage")
    measured = coverage and coverage.Coverage.current()
    if not measured or _room(item) not in UNMEASURED:
        return (yield)
    measured.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # nor its processes
        try:
            return (yield)
        finally:
            measured.start()


@pytest.fixture(autouse=True)
def _redaction(monkeypatch):
    """Forget the secrets that a test has made, which others may say in the clear."""
    fresh = redaction.Redactor()
    for value in redaction._process._own.values:  # those that modules have as constants
        fresh.register(value)
    monkeypatch.setattr(redaction, "_process", fresh)


@pytest.fixture(autouse=True)
def _logging():
    """Put back what a command configures for its whole process."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.configure(**before)
    root.handlers = handlers
    root.setLevel(level)
    logs.set_level("info")


@pytest.fixture(autouse=True)
def _collector():
    """Put back what a daemon sets for its whole process."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.fixture
def lines():
    """Collect the lines of ``log``: (level, event, facts)."""
    return []


@pytest.fixture
def log(lines):
    def keep(_, level, facts):
        lines.append((level, facts.pop("event"), facts))
        raise structlog.DropEvent

    logger = structlog.wrap_logger(None, processors=[keep])
    return EventLog(logger)
