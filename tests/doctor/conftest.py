"""An emulator, an AWS configuration of its own, and a walk along one tunnel."""

import asyncio
import os
import socket
import ssl
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import structlog

from ssmtunneld.base.log import EventLog
from ssmtunneld.config import parse_config
from ssmtunneld.doctor.walk import DoctorContext, examine
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.testing import EmulatorThread
from tests.aws.conftest import AwsFiles, aws_files, stub  # noqa: F401 - these are fixtures
from tests.emulator.test_server import certificate  # noqa: F401 - this is a fixture
from tests.integration.world import tunnel

NAME = "db.example.internal"
SILENT = EventLog(
    structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(50))
)


class Findings(list):
    """The findings of a walk, in its order."""

    @property
    def broken(self):
        """The hop that is broken."""
        return [finding.hop for finding in self if finding.verdict == "fail"]

    def of(self, hop):
        return next(finding for finding in reversed(self) if finding.hop == hop)

    @property
    def skipped_behind(self):
        """True if all hops after the broken one were skipped."""
        verdicts = [finding.verdict for finding in self]
        return set(verdicts[verdicts.index("fail") + 1 :]) <= {"skip"}


class Surgery:
    """An emulator and a destination; what is wrong with them is up to the test."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self.aws = None
        self.port = None
        self.listening = None

    @contextmanager
    def open(self, **settings):
        aliases = {NAME: "127.0.0.1"}
        chosen = EmulatorSettings(pace=Pace.NONE, host_aliases=aliases, **settings)
        with (
            EmulatorThread(chosen) as self.aws,
            socket.create_server(("127.0.0.1", 0)) as self.listening,
        ):
            self.port = self.listening.getsockname()[1]
            for name, value in self.aws.environment.items():
                self._monkeypatch.setenv(name, value)
            yield self
            ended = {session["status"] for session in self.aws.sessions()}
            assert ended <= {"Terminated"}

    def examine(self, **settings):
        """Walk along a tunnel with these settings; return what was found."""
        found = Findings()
        well = asyncio.run(self.walk(found, **settings))
        assert well == (not found.broken)
        return found

    async def walk(
        self,
        found,
        *,
        ahead=0,
        agent_patience=30.0,
        patience=30.0,
        api_patience=30.0,
        **settings,
    ):
        """The same, in a task; ``found`` collects what was found."""
        settings = {"host": NAME, "port": self.port, **settings}
        given = {key: value for key, value in settings.items() if value is not None}
        text = tunnel("db", **given)
        only = parse_config(text, "test.toml", {}).tunnels[0]
        world = DoctorContext(
            lambda: datetime.now(UTC).timestamp() + ahead,
            SILENT,
            agent_patience,
            patience,
            api_patience,
        )
        return await examine(only, world, found.append)

    @staticmethod
    def context(bundle):
        """Return what makes a TLS context that trusts ``bundle``."""
        return lambda: ssl.create_default_context(cafile=bundle)


@pytest.fixture
def surgery(monkeypatch, aws_files):  # noqa: F811 - the way of pytest
    """Return a starter of emulators; remove the environment's proxies."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return Surgery(monkeypatch)


@pytest.fixture
def theatre(surgery):
    """The same, with a healthy emulator running."""
    with surgery.open():
        yield surgery


@pytest.fixture
def closed_port():
    """A port of loopback that refuses."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # held, but nobody listens
        yield held.getsockname()[1]
