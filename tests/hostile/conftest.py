"""Mark the tests of this folder that run a daemon; give each an AWS of its own."""

from pathlib import Path

import pytest

from tests.integration.world import use_loopback_aws

_INSTANT = {"test_conversations.py"}
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Mark what starts daemons."""
    for item in items:
        if item.path.is_relative_to(_HERE) and item.path.name not in _INSTANT:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    use_loopback_aws(monkeypatch, tmp_path)
