"""A home in which no daemon runs but those that a test serves."""

import logging

import pytest
import structlog

from ssmtunneld.ops import logs
from tests.cli.household import Household, serving, use_home


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


@pytest.fixture
def home(monkeypatch, tmp_path):
    """The folder in which daemons and files are looked for."""
    use_home(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture
def operator(home):
    """What answers at the control socket; its document has one tunnel, ``db``."""
    household = Household()
    with serving(household):
        yield household
