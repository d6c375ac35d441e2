import contextlib
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import __main__ as program
from benchmarks.beside import command_line
from benchmarks.beside.forwarder import PLACEHOLDERS, split
from tests.benchmarks.test_beside_forwarder import STUB

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs the program with arguments."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        return program.main()

    return call


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--beside", "run {port}"], "--beside: {local_port} is missing"),
        (["--beside", "run {local_port} {x}"], "{x} is not known"),
        (["--ours", ""], "--ours: there is no command"),
        (["--path", "delay=soon"], "--path: path 'delay=soon'"),
        (["--pace", "slow"], "--pace: invalid choice"),
    ],
)
def test_what_cannot_be_measured_is_refused(run, capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_help_has_every_placeholder_and_commands_that_work(run, capsys):
    with pytest.raises(SystemExit) as caught:
        run("--help")
    assert caught.value.code == 0
    told = capsys.readouterr().out
    for name in PLACEHOLDERS:
        assert f"{{{name}}}: " in told
    for example in command_line.EXAMPLES:
        assert example in told
        assert split(example)


def test_the_page_has_the_commands_of_the_help():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for example in command_line.EXAMPLES:
        assert example in page
    for name in PLACEHOLDERS:
        assert f"`{{{name}}}`" in page


def test_each_path_has_a_table_and_its_values_are_kept(
    run, capsys, monkeypatch, tmp_path
):
    seen = []

    def measure(contenders, conditions):
        seen.append(([c.words[0] for c in contenders], conditions))
        for contender in contenders:
            contender.figures["download"].append(2.0)
        return [0.5]

    monkeypatch.setattr(command_line, "measure", measure)
    file = tmp_path / "values.json"
    code = run(
        *("--beside", "/opt/their {local_port}", "--ours", "our {local_port}"),
        *("--path", "delay=5ms", "--path", "rate=10mbit", "--pace", "none"),
        *("--runs", "7", "--seconds", "2", "--json", str(file)),
    )
    assert code == 0
    paths = ["delay=5ms", "rate=10mbit"]
    assert seen == [
        (["our", "/opt/their"], command_line.Conditions(path, "none", 7, 2.0))
        for path in paths
    ]
    told = capsys.readouterr().out
    assert told.count("| | ssmtunneld | their | ratio | ssmtunneld is |") == 2
    for path in paths:
        assert f"--path {path}`, medians of 7 in turns:" in told
    assert json.loads(file.read_text()) == {
        path: {
            "ssmtunneld": {"download": [2.0]},
            "their": {"download": [2.0]},
            "relay": {"first byte": [0.5]},
        }
        for path in paths
    }


@pytest.mark.integration
def test_whatever_runs_ends_with_a_request_to_end():
    stub = shlex.join([sys.executable, str(STUB), "{local_port}", "{port}"])
    words = ["--beside", stub, "--ours", stub, "--runs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not any(
            "stub_forwarder" in str(each.cmdline()) for each in tree(process)
        ):
            assert process.poll() is None
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        running = tree(process)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        assert psutil.wait_procs(running, 10)[1] == []
    finally:
        process.kill()
        process.wait()


def tree(process):
    """Return the processes that ``process`` has started and that have not ended."""
    return [
        each
        for each in psutil.Process(process.pid).children(recursive=True)
        if each.is_running() and each.status() != psutil.STATUS_ZOMBIE
    ]
