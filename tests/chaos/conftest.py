"""Everything here runs real sockets, and some of it real processes."""

from pathlib import Path

import pytest

from tests.chaos.accounting import captured_log
from tests.chaos.household import environment

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Mark whatever lies in this folder."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.integration)


@pytest.fixture
def events():
    """Capture the package's log."""
    with captured_log() as log:
        yield log


@pytest.fixture
def log_in(tmp_path):
    """Valid credentials, and a function that renews them."""
    with environment(tmp_path) as renew:
        yield renew
