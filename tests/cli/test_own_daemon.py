"""A daemon for a command; what ``exec`` makes of its errors is in ``test_exec.py``."""

import signal

import pytest

from ssmtunneld.cli.daemon_client import NotRunning, SeveralRunning, find
from ssmtunneld.cli.ending_signals import EndingSignals
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.own_daemon import _check_hope, ready_daemon
from ssmtunneld.cli.readiness import Patience
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import Household, document, serving, tunnel_document
from tests.integration.world import configuration, tunnel


@pytest.fixture
def emulator(monkeypatch):
    """An emulator that the environment of daemons leads to."""
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator


def test_a_daemon_that_runs_is_used_and_not_ended(operator):
    with ready_daemon(None, ["db"], Patience(10)) as served:
        assert served.process is None
        assert served.daemon.document["pid"] == 7
    assert find(None).document["pid"] == 7


def test_one_of_our_own_ends_with_the_block(home, emulator):
    path = home / "config.toml"
    path.write_text(configuration(emulator.endpoint_url, tunnel("web", port=1)))
    with ready_daemon(path, ["web"], Patience(60)) as served:
        assert served.daemon.document["pid"] == served.process.pid
    assert served.process.poll() is not None
    with pytest.raises(NotRunning):
        find(path)


def test_a_second_signal_hurries_it_and_does_not_leave_it(home, emulator):
    path = home / "config.toml"
    path.write_text(configuration(emulator.endpoint_url, tunnel("web", port=1)))

    def ended_twice(signals):
        with signals.interrupting(), ready_daemon(path, [], Patience(60)) as served:
            daemons.append(served.process)
            # The second one comes while the first one is obeyed.
            served.process.stdin.close = lambda close=served.process.stdin.close: (
                close(),
                signal.raise_signal(signal.SIGTERM),
            )
            signal.raise_signal(signal.SIGTERM)

    daemons = []
    with EndingSignals() as signals, pytest.raises(SystemExit):
        ended_twice(signals)
    # By itself, or by a signal that came when all was done.
    assert daemons[0].poll() in {0, -signal.SIGTERM}
    assert {s["status"] for s in emulator.sessions()} == {"Terminated"}


def test_the_tunnels_of_a_group_are_all_that_it_has_unless_some_are_named(
    home, emulator
):
    path = home / "config.toml"
    both = (tunnel("web", port=1, groups=["x"]), tunnel("db", port=1))
    path.write_text(configuration(emulator.endpoint_url, *both))

    def names(*chosen):
        with ready_daemon(path, chosen, Patience(60), ["x"]) as served:
            return [t["name"] for t in served.daemon.document["tunnels"]]

    assert names() == ["web"]
    assert names("db") == ["web", "db"]


def hopeless(name, state="waiting", reason="denied", *, lasting=True):
    facts = {"usable": False, "reason": reason, "advice": f"mend {name}"}
    return tunnel_document(name, state=state, lasting=lasting, **facts)


@pytest.mark.parametrize(
    ("tunnels", "code", "lines"),
    [
        ([hopeless("a")], 4, ["a: giving up: denied; mend a"]),
        (
            [hopeless("a"), hopeless("b", "needs_login", "expired"), hopeless("c")],
            4,
            [
                "a, c: giving up: denied; mend a",
                "b: giving up: expired; mend b",
            ],
        ),
        (
            [hopeless("a", "unbound", "taken"), hopeless("b", lasting=False)],
            1,
            ["a: giving up: taken; mend a"],
        ),
        ([hopeless("a", "failed", "")], 4, ["a: giving up: it is failed; mend a"]),
    ],
)
def test_what_only_somebody_can_mend_is_a_line_for_each_reason(tunnels, code, lines):
    with pytest.raises(CommandError) as caught:
        _check_hope(tunnels)
    assert [*caught.value.problems, str(caught.value)] == lines
    assert caught.value.code == code


@pytest.mark.parametrize("state", ["needs_access", "access_rejected"])
def test_a_daemon_stays_for_a_request_and_for_what_passes(state):
    _check_hope([hopeless("a", state), hopeless("b", lasting=False)])


def test_of_several_daemons_or_the_usual_file_one_must_be_named(home):
    usual = home / "config" / "ssmtunneld" / "config.toml"
    one, two = home / "one.toml", home / "two.toml"

    def advice():
        with (
            pytest.raises(SeveralRunning) as caught,
            ready_daemon(None, [], Patience(1)),
        ):
            pytest.fail("one was taken")
        assert caught.value.code == 2
        return caught.value.advice

    listed = f"name one with -c: {one}, {two}"
    with (
        serving(Household(document(config=str(one))), one),
        serving(Household(document(config=str(two))), two),
    ):
        assert sorted(advice()) == sorted(listed)
        usual.parent.mkdir(parents=True)
        usual.touch()
        assert advice().endswith(
            f"; or {usual}, which gets a daemon as long as the command runs"
        )
        usual.unlink()
        usual.symlink_to(one)
        one.touch()
        assert sorted(advice()) == sorted(listed)
