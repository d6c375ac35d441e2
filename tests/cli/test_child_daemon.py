"""A daemon that ends with its parent: the thread that waits for that."""

import os
import subprocess
import sys
from pathlib import Path

from ssmtunneld.cli import child_daemon
from tests.interop.programs import environment

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "ssmtunneld.cli.child_daemon"]

# A daemon would take SIGTERM as the wish to end politely; this stands for one.
_PATIENT = """
import signal, sys, threading
from ssmtunneld.cli import child_daemon
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
def run(arguments):
    print(arguments, flush=True)
    done.wait(30)
child_daemon.run_command = run
child_daemon.main()
print("ended politely", flush=True)
"""


def test_it_is_run_with_its_options_until_standard_input_ends():
    command = [sys.executable, "-c", _PATIENT, "--log-level", "error"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"['run', '--log-level', 'error']\n"
        process.stdin.write(b"nobody should")
        process.stdin.flush()
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.readline() == b"ended politely\n"
        assert process.wait(30) == 0


def test_a_configuration_that_cannot_be_used_ends_it_as_run_does(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "--config", str(tmp_path / "none.toml")],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert b"cannot be read" in process.stderr.read()
        assert process.wait(30) == 2


def test_its_end_is_a_signal_to_itself(monkeypatch):
    sent = []
    reader, writer = os.pipe()
    monkeypatch.setattr(child_daemon, "_STDIN", reader)
    monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
    os.write(writer, b"xy")
    os.close(writer)
    child_daemon._await_end()
    os.close(reader)
    assert sent == [(os.getpid(), 15)]
