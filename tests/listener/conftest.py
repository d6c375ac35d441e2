"""Everything here runs on both event loops that the daemon may have."""

import asyncio

import pytest
import structlog
import uvloop

from ssmtunneld.base.log import EventLog


def pytest_asyncio_loop_factories():
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def lines():
    """What was logged: (level, event, facts)."""
    return []


@pytest.fixture
def log(lines):
    def keep(_, level, facts):
        lines.append((level, facts.pop("event"), facts))
        raise structlog.DropEvent

    logger = structlog.wrap_logger(None, processors=[keep])
    return EventLog(logger)
