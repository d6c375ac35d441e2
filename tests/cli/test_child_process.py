"""Running another program as if it were us: exit codes, signals, terminals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssmtunneld.cli.child_process import run_program
from ssmtunneld.cli.exit_codes import CommandError
from tests.integration.terminal import Terminal
from tests.integration.world import PATIENCE

ROOT = Path(__file__).parents[2]


def sh(script, *arguments):
    return ["sh", "-c", script, "sh", *map(str, arguments)]


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_exit_code_is_the_programs(code):
    assert run_program(sh("exit $1", code), os.environ) == code


def test_the_end_by_a_signal_is_told_as_shells_tell_it():
    assert run_program(sh("kill -KILL $$"), os.environ) == 128 + signal.SIGKILL


def test_the_environment_is_the_one_that_was_given(tmp_path):
    path = tmp_path / "said"
    environ = {**os.environ, "WORD": "hello"}
    assert run_program(sh('printf %s "$WORD" > "$1"', path), environ) == 0
    assert path.read_text() == "hello"


def test_what_a_hushed_program_complains_of_is_not_heard(capfd):
    run_program(sh("echo words; echo noise >&2"), os.environ, hushed=True)
    assert capfd.readouterr() == ("words\n", "")


def test_what_cannot_be_run_has_the_codes_of_env(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for command, code in ((tmp_path / "none", 127), (plain, 126), (tmp_path, 126)):
        with pytest.raises(CommandError, match="cannot be run: ") as caught:
            run_program([str(command)], os.environ)
        assert caught.value.code == code


_SUPERVISED = """
import os, signal, sys
from ssmtunneld.cli.child_process import run_program
signal.signal(signal.SIGINT, signal.SIG_DFL)  # in case we were started with "&"
sys.exit(run_program(sys.argv[1:], os.environ))
"""


def test_a_signal_makes_its_way_to_the_program_while_we_wait_for_it():
    script = "trap 'exit 9' USR1; kill -USR1 $PPID; while :; do :; done"
    assert run_program(sh(script), os.environ) == 9


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT]
)
def test_signals_are_passed_on(number):
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 9' {name}; echo up; while :; do read x; done"
    # Of a terminal of its own there is none here, so SIGINT is passed on as well.
    supervised = [sys.executable, "-c", _SUPERVISED, *sh(script)]
    process = subprocess.Popen(
        supervised,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        process.stdin.write(b"\n" * 100)
        process.stdin.flush()
        assert process.stdout.readline() == f"got {name}\n".encode()
        assert process.wait(30) == 9


def test_ctrl_c_reaches_the_program_once():
    script = "trap 'echo got it' INT; echo up; read x; read x; exit 5"
    supervised = ("-c", _SUPERVISED, *sh(script))
    terminal = Terminal(*supervised, columns=80, cwd=ROOT)
    terminal.wait_for("up")
    terminal.type("\x03")
    terminal.wait_for("got it")
    terminal.type("\n\n\n")
    assert terminal.close() == 5
    assert terminal.raw.count("got it") == 1


def test_a_signal_that_comes_before_the_program_is_kept_for_it():
    program = """
import os, signal, subprocess, sys
from ssmtunneld.cli import child_process
start = subprocess.Popen
def late(*arguments, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    return start(*arguments, **options)
subprocess.Popen = late
sys.exit(child_process.run_program(["sleep", "60"], os.environ))
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, check=False)
    assert result.returncode == 128 + signal.SIGTERM


_IGNORANT = """
import os, signal, sys
from ssmtunneld.cli.child_process import run_program
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
before = signal.getsignal(signal.SIGHUP)
code = run_program(sys.argv[1:], os.environ)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
assert signal.getsignal(signal.SIGHUP) is before
sys.exit(code)
"""


def test_what_nohup_has_ignored_the_program_ignores_as_well():
    # To us and to it: a signal that were passed on would end it with another code.
    script = "kill -TERM $PPID; kill -TERM $$; kill -HUP $PPID; read x; exit 9"
    process = subprocess.Popen(
        [sys.executable, "-c", _IGNORANT, *sh(script)], cwd=ROOT, stdin=subprocess.PIPE
    )
    with process:
        assert process.wait(PATIENCE) == 128 + signal.SIGHUP


def test_the_signals_are_ours_again_afterwards():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    run_program(["true"], os.environ)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
