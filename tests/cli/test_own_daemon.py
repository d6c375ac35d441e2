"""A daemon for a command; what ``exec`` makes of its errors is in ``test_exec.py``."""

import pytest

from ssmtunneld.cli.daemon_client import NotRunning, find
from ssmtunneld.cli.own_daemon import ready_daemon
from ssmtunneld.cli.readiness import Patience
from ssmtunneld.testing import EmulatorThread
from tests.integration.world import configuration, tunnel


def test_a_daemon_that_runs_is_used_and_not_ended(operator):
    with ready_daemon(None, ["db"], Patience(10)) as served:
        assert served.process is None
        assert served.daemon.document["pid"] == 7
    assert find(None).document["pid"] == 7


def test_one_of_our_own_ends_with_the_block(home, monkeypatch):
    path = home / "config.toml"
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        path.write_text(configuration(emulator.endpoint_url, tunnel("web", port=1)))
        with ready_daemon(path, ["web"], Patience(60)) as served:
            assert served.daemon.document["pid"] == served.process.pid
        assert served.process.poll() is not None
    with pytest.raises(NotRunning):
        find(path)


def test_the_tunnels_of_a_group_are_all_that_it_has_unless_some_are_named(
    home, monkeypatch
):
    path = home / "config.toml"
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        both = (tunnel("web", port=1, groups=["x"]), tunnel("db", port=1))
        path.write_text(configuration(emulator.endpoint_url, *both))

        def names(*chosen):
            with ready_daemon(path, chosen, Patience(60), ["x"]) as served:
                return [t["name"] for t in served.daemon.document["tunnels"]]

        assert names() == ["web"]
        assert names("db") == ["web", "db"]
