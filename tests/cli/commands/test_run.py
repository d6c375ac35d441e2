"""``ssmtunneld run`` in this very process: what it is told, and how it ends."""

import json
import os
import re
import signal
import socket

import pytest

from ssmtunneld.cli.main import main
from ssmtunneld.daemon.instance_lock import claim_instance
from ssmtunneld.testing import EmulatorThread
from tests.cli.household import call
from tests.integration import world
from tests.integration.terminal import Terminal
from tests.integration.world import configuration, tunnel


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


class Stopper:
    """A standard error that sends a signal to us as soon as it reads some words."""

    def __init__(self, words, number):
        self.text = ""
        self._words = words
        self._number = number

    def write(self, text):
        known = self._words in self.text
        self.text += text
        if not known and self._words in self.text:
            os.kill(os.getpid(), self._number)

    def flush(self):
        pass

    def isatty(self):
        return False

    @property
    def lines(self):
        return self.text.splitlines()


def run(monkeypatch, *options, words="daemon.ready", number=signal.SIGTERM):
    """Run the command until it has said ``words``; return its code and its lines."""
    screen = Stopper(words, number)
    monkeypatch.setattr("sys.stderr", screen)
    with pytest.raises(SystemExit) as caught:
        main(["run", *map(str, options)])
    return caught.value.code, screen.lines


@pytest.fixture
def config(tmp_path):
    """A configuration file for an emulator that runs."""
    path = tmp_path / "config.toml"
    with EmulatorThread() as service:
        text = configuration(service.endpoint_url, tunnel("x", port=1))
        path.write_text(text.replace("[daemon]\n", '[daemon]\nlog_format = "json"\n'))
        yield path
        assert {s["status"] for s in service.sessions()} == {"Terminated"}


@pytest.fixture
def auto(config):
    """The same file without a form of its log."""
    config.write_text(config.read_text().replace('log_format = "json"\n', ""))
    return config


def test_on_a_terminal_it_speaks_in_short_lines_and_shows_a_table(auto, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal("-m", "ssmtunneld", "run", "-c", auto, columns=100)
    terminal.wait_for(r"NAME +STATE +LISTEN")
    terminal.wait_for(r"x .*ready.* 127\.0\.0\.1:[0-9]+")
    terminal.type("\x03")
    assert terminal.close() == 0
    said = terminal.raw
    assert re.search(r"(?m)^[0-9:]{8} x: listens on 127\.0\.0\.1:[0-9]+\r$", said)
    assert re.search(r"(?m)^[0-9:]{8} ready\r$", said)
    assert said.endswith(" ended\r\n")
    assert "daemon.started" not in said


def test_on_a_terminal_it_shows_the_table_though_a_tunnel_does_not_get_ready(
    config, tmp_path, monkeypatch
):
    # Nobody answers at the other endpoint.
    text = config.read_text().replace('log_format = "json"\n', "")
    broken = tunnel("y", port=1, endpoint_url="http://127.0.0.1:9")
    config.write_text(f"{text}\n{broken}")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal("-m", "ssmtunneld", "run", "-c", config, columns=100)
    terminal.wait_for(r"y: could not start a session: .* \(next attempt in [0-9]+ s\)")
    terminal.wait_for(r"NAME +STATE +LISTEN")
    terminal.wait_for(r"x +(ready|waiting|starting)")
    terminal.type("\x03")
    assert terminal.close() == 0
    assert " ready\r\n" not in re.sub("session [0-9]+ is ready", "", terminal.raw)


def test_all_facts_are_there_on_demand(auto):
    terminal = Terminal("-m", "ssmtunneld", "run", "-v", "-c", auto, columns=200)
    terminal.wait_for(r"daemon\.ready")
    terminal.type("\x03")
    assert terminal.close() == 0
    assert re.search(r"took_ms.*=.*[0-9]+", terminal.raw)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_a_signal_and_ends_with_0(config, monkeypatch, number):
    code, lines = run(monkeypatch, "-c", config, number=number)
    events = [json.loads(line)["event"] for line in lines]
    assert not code
    assert (events[0], events[-1]) == ("daemon.started", "daemon.stopped")
    assert "daemon.draining" in events


def test_options_win_over_the_file(config, monkeypatch):
    quiet = config.read_text().replace("[daemon]\n", '[daemon]\nlog_level = "error"\n')
    config.write_text(quiet)
    options = ("--log-level", "info", "--log-format", "text")
    with claim_instance(config):
        code, lines = run(monkeypatch, "-c", config, *options)
    assert not code
    assert "[warning  ] daemon.not_alone" in lines[0]
    assert str(config) in lines[0]
    assert "daemon.stopped" in lines[-1]


def test_a_daemon_that_can_listen_nowhere_gives_up_with_1(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        text = configuration("http://127.0.0.1:9", tunnel("db", listen=taken, port=1))
        path.write_text(text)
        code, lines = run(monkeypatch, "--config", path, "--log-level", "error")
    assert code == 1
    assert len(lines) == 2
    assert f"cannot listen on 127.0.0.1:{taken}: Address already in use" in lines[0]
    assert lines[1] == "ssmtunneld: no tunnel can listen on its addresses"


def test_a_second_one_says_that_the_first_one_runs_and_nothing_else(
    tmp_path, monkeypatch
):
    path = tmp_path / "config.toml"
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        text = configuration("http://127.0.0.1:9", tunnel("db", listen=taken, port=1))
        path.write_text(text)
        with claim_instance(path):
            code, lines = run(monkeypatch, "--config", path)
    assert code == 1
    assert lines == [
        f"ssmtunneld: a daemon runs this file already (pid {os.getpid()}); see it: "
        "ssmtunneld status; read the file again: ssmtunneld reload"
    ]


def test_a_wrong_file_ends_it_with_2_before_anything_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    path.write_text("[tunnels.db]\nlisten = 1\n")
    code, lines = run(monkeypatch, "--config", path)
    assert code == 2
    assert all(line.startswith(f"ssmtunneld: {path}:") for line in lines)


def test_only_the_tunnels_of_a_group_run(config, monkeypatch):
    other = tunnel("other", port=1, groups=["orders"])
    config.write_text(config.read_text() + other)
    code, lines = run(monkeypatch, "-c", config, "--group", "orders")
    events = [json.loads(line) for line in lines]
    assert not code
    assert events[0]["tunnels"] == 1
    assert {line["tunnel"] for line in events if "tunnel" in line} == {"other"}


def test_a_group_that_does_not_exist_is_told_with_those_that_do(tmp_path, capsys):
    path = tmp_path / "config.toml"
    path.write_text(tunnel("other", port=1, groups=["orders"]))
    code, _, err = call(capsys, "run", "-c", path, "--group", "order")
    assert (code, err) == (
        2,
        f"ssmtunneld: {path}: no tunnel is in group order; did you mean orders? "
        "the groups are: orders\n",
    )


def test_a_file_of_disabled_tunnels_is_run_until_one_is_enabled(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    path.write_text(tunnel("x", port=1, enabled=False))
    code, lines = run(monkeypatch, "-c", path, "--log-format", "json")
    events = [json.loads(line)["event"] for line in lines]
    assert not code
    assert "daemon.ready" in events
    assert "listener.bound" not in events
