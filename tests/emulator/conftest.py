"""An emulator on the test's own loop."""

from contextlib import AsyncExitStack

import pytest

from ssmtunneld.emulator.server import Emulator
from ssmtunneld.emulator.settings import EmulatorSettings, Pace


@pytest.fixture
async def emulate():
    """Start emulators: ``await emulate("drop=0.1", pace=Pace.REAL)``; stop them all."""
    async with AsyncExitStack() as stack:

        async def start(*faults, **settings):
            settings.setdefault("pace", Pace.NONE)
            settings.setdefault("drain_time", 0.2)
            return await stack.enter_async_context(
                Emulator(EmulatorSettings(faults=faults, **settings))
            )

        yield start
