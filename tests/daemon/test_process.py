"""The process around a daemon: signals, files, the event loop."""

import os
import resource
import signal
import sys
from contextlib import ExitStack

import pytest
import structlog
import uvloop

from ssmtunneld.config import load_config
from ssmtunneld.daemon.instance_lock import instance_name
from ssmtunneld.daemon.process import (
    ENDING_TIME,
    loop_factory,
    raise_file_limit,
    run_daemon,
)
from ssmtunneld.daemon.signals import Signals
from ssmtunneld.sessions.bastion import END_PATIENCE
from ssmtunneld.testing import EmulatorThread
from tests.integration import world
from tests.integration.world import configuration, tunnel
from tests.support.threads import no_thread


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


class SignalOnceReady:
    """A structlog processor that keeps all names, and kills us when we are ready."""

    def __init__(self, number):
        self.names = []
        self._number = number

    def __call__(self, _logger, _method, event):
        if "component" not in event:  # the emulator's
            self.names.append(event["event"])
        if event["event"] == "daemon.ready":
            os.kill(os.getpid(), self._number)
        raise structlog.DropEvent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_a_signal_and_gives_the_signals_back(
    tmp_path, monkeypatch, number
):
    path = tmp_path / "config.toml"
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    process = SignalOnceReady(number)
    before = structlog.get_config()
    structlog.configure(processors=[process])
    try:
        with EmulatorThread() as service:
            path.write_text(configuration(service.endpoint_url, tunnel("x", port=1)))
            for name, value in service.environment.items():
                monkeypatch.setenv(name, value)
            with Signals() as signals:
                run_daemon(load_config(path, {}), signals)
            assert {s["status"] for s in service.sessions()} == {"Terminated"}
            (reason,) = [s["reason"] for s in service.sessions()]
    finally:
        structlog.configure(**before)
    assert process.names[-1] == "daemon.stopped"
    assert "daemon.not_alone" not in process.names
    assert reason.startswith("ssmtunneld/")
    assert reason.endswith(f"[{instance_name(path)}/x]")
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_it_ends_in_order_where_no_thread_can_be_started_any_more(
    tmp_path, monkeypatch
):
    path = tmp_path / "config.toml"
    process = SignalOnceReady(signal.SIGTERM)
    before = structlog.get_config()
    with ExitStack() as stack:

        def refuse_at_the_end(_, __, event):
            if event["event"] == "daemon.stopped":
                stack.enter_context(no_thread())
            return event

        structlog.configure(processors=[refuse_at_the_end, process])
        stack.callback(structlog.configure, **before)
        service = stack.enter_context(EmulatorThread())
        path.write_text(configuration(service.endpoint_url, tunnel("x", port=1)))
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        with Signals() as signals:
            run_daemon(load_config(path, {}), signals)
    assert process.names[-1] == "daemon.stopped"


@pytest.mark.parametrize(
    ("settings", "more"),
    [({}, 0.0), ({"start_target": True, "stop_target_after": "1h"}, END_PATIENCE)],
)
def test_a_signal_leaves_time_to_stop_what_was_started(
    tmp_path, monkeypatch, settings, more
):
    path = tmp_path / "config.toml"
    before = structlog.get_config()
    structlog.configure(processors=[SignalOnceReady(signal.SIGTERM)])
    try:
        with EmulatorThread() as service:
            text = configuration(service.endpoint_url, tunnel("x", port=1, **settings))
            path.write_text(text)
            for name, value in service.environment.items():
                monkeypatch.setenv(name, value)
            with Signals() as signals:
                run_daemon(load_config(path, {}), signals)
                assert signals.budget() == 5.0 + more + ENDING_TIME
    finally:
        structlog.configure(**before)


def test_the_loop_is_uvloops_where_it_imports(monkeypatch):
    assert loop_factory() is uvloop.new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None


def test_as_many_files_may_be_opened_as_the_system_allows():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_file_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
