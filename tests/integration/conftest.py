"""Every test of this folder is an integration test with an AWS setup of its own."""

from pathlib import Path

import pytest

from tests.integration.world import logging, use_loopback_aws

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Mark whatever lies in this folder."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
async def events():
    """Everything that is logged during the test."""
    async with logging() as caught:
        yield caught
