"""The command group: help, version, exit codes, and errors of one line each."""

import importlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ssmtunneld import __version__
from ssmtunneld.base.threads import NoThread
from ssmtunneld.cli import main as program
from ssmtunneld.cli.exit_codes import MEANINGS
from ssmtunneld.cli.main import cli, describe, exit_code, main
from ssmtunneld.cli.usage import service_command
from ssmtunneld.errors import (
    AccessDenied,
    AddressInUse,
    ConfigError,
    SsmtunneldError,
    TargetNotConnected,
)


def call(capsys, *arguments):
    """Return the exit code, and what was printed on both streams."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code, *capsys.readouterr()


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_every_command_with_what_it_does(capsys, option):
    code, out, err = call(capsys, option)
    assert (code, err) == (0, "")
    for name, words in program.COMMANDS.items():
        assert f"  {name}" in out
        assert words.split(".")[0][:30] in out


def test_help_has_each_command_once_under_what_it_is_for(capsys):
    _, out, _ = call(capsys, "--help")
    commands = re.findall(r"^  ([a-z][a-z-]*) {2,}\S", out, re.MULTILINE)
    assert commands == list(program.COMMANDS)
    headings = re.findall(r"^(\S.*):$", out, re.MULTILINE)
    assert headings == ["Options", *program.GROUPS]
    found = re.findall(r"^  [a-z][a-z-]* {2,}(?=\S)", out, re.MULTILINE)
    columns = {len(words) for words in found}
    assert len(columns) == 1, "all summaries begin in one column"


@pytest.mark.parametrize("name", program._SYNONYMS)
def test_words_of_other_programs_lead_to_ours(capsys, name):
    assert name not in program.COMMANDS
    code, _, err = call(capsys, name)
    assert (code, err.count("\n")) == (2, 1)
    assert f"no such command {name}; " in err
    for named in re.findall(r"(?:mean|or) ([a-z]+)[?,]", err):
        assert named in program.COMMANDS


@pytest.mark.parametrize("command", list(program.COMMANDS))
def test_every_command_exists_and_has_help(capsys, command):
    code, out, err = call(capsys, command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: ")
    help_text = cli.get_command(click.Context(cli), command).help
    assert help_text.splitlines()[0] == program.COMMANDS[command]
    assert program.COMMANDS[command].split(":")[0][:30] in out


def test_shells_are_offered_every_command():
    assert cli.list_commands(click.Context(cli)) == list(program.COMMANDS)


def test_help_names_every_exit_code(capsys):
    out = " ".join(call(capsys, "--help")[1].split())
    for code, words in MEANINGS.items():
        assert f"{code} {words}" in out


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_the_packages(capsys, option):
    assert call(capsys, option) == (0, f"ssmtunneld, version {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["statsu"], "ssmtunneld: no such command statsu; did you mean status?"),
        (["xyzzy"], "ssmtunneld: no such command xyzzy; see: ssmtunneld --help"),
        (
            ["--verison"],
            "ssmtunneld: no such option --verison; did you mean --version?",
        ),
        (
            ["list"],
            "ssmtunneld: no such command list; did you mean status, or targets?",
        ),
        (
            ["stop"],
            "ssmtunneld: no such command stop; Ctrl-C ends run; the service: "
            + service_command("stop"),
        ),
        (
            ["service", "restart"],
            "ssmtunneld service: no such command restart; the service manager does "
            "that: " + service_command("restart"),
        ),
        (
            ["service", "instal"],
            "ssmtunneld service: no such command instal; did you mean install?",
        ),
        (
            ["config", "exampel"],
            "ssmtunneld config: no such command exampel; did you mean example?",
        ),
        (
            ["check", "--liv"],
            "ssmtunneld check: no such option --liv; did you mean --live?",
        ),
        (
            ["check", "--colour"],
            "ssmtunneld check: no such option --colour; see: ssmtunneld check --help",
        ),
        (
            ["run", "--log-level", "loud"],
            "ssmtunneld run: invalid value for '--log-level': 'loud' is not one of "
            "'debug', 'info', 'warning', 'error'; see: ssmtunneld run --help",
        ),
        (
            ["drain"],
            "ssmtunneld drain: missing argument 'NAME'; "
            "usage: ssmtunneld drain [OPTIONS] NAME",
        ),
        (
            ["drain", "a", "b"],
            "ssmtunneld drain: got unexpected extra argument (b); "
            "usage: ssmtunneld drain [OPTIONS] NAME",
        ),
        (
            ["status", "--json", "--watch"],
            "ssmtunneld status: --json and --watch exclude each other; choose one",
        ),
        (
            ["login"],
            "ssmtunneld login: pass either the NAME of a tunnel or --profile PROFILE; "
            "see: ssmtunneld login --help",
        ),
    ],
)
def test_wrong_usage_is_one_line_with_what_to_do_and_ends_with_2(
    capsys, arguments, line
):
    assert call(capsys, *arguments) == (2, "", f"{line}\n")


def test_without_a_command_there_is_help(capsys):
    code, out, err = call(capsys)
    assert code in {0, 2}  # click 8.2 changed its mind
    assert "Run and watch:" in out + err


ERRORS = [
    (ConfigError(["a:1: x: y", "a:2: z: w"]), 2, ["a:1: x: y", "a:2: z: w"]),
    (
        AddressInUse("127.0.0.1:1", "taken", "sshd, pid 1"),
        1,
        [
            "cannot listen on 127.0.0.1:1: taken (held by sshd, pid 1); "
            "stop sshd, pid 1, or choose another address"
        ],
    ),
    (SsmtunneldError("no\nnewline"), 1, ["no newline"]),
    (
        AccessDenied("StartSession", "AccessDenied", "no", "ask"),
        4,
        ["StartSession failed: AccessDenied: no; ask"],
    ),
    (
        TargetNotConnected("StartSession", "TargetNotConnected", "i-1"),
        4,
        ["StartSession failed: TargetNotConnected: i-1"],
    ),
]


@pytest.mark.parametrize(("error", "code", "lines"), ERRORS)
def test_every_error_has_its_exit_code_and_its_lines(
    capsys, monkeypatch, error, code, lines
):
    assert exit_code(error) == code
    assert describe(error) == lines

    def fail(**_):
        raise error

    command = click.Command("fail", callback=fail)
    monkeypatch.setattr(cli, "get_command", lambda *_: command)
    expected = "".join(f"ssmtunneld: {line}\n" for line in lines)
    assert call(capsys, "fail") == (code, "", expected)


def test_a_system_that_allows_no_thread_is_one_line(capsys, monkeypatch):
    def fail(**_):
        raise NoThread

    command = click.Command("fail", callback=fail)
    monkeypatch.setattr(cli, "get_command", lambda *_: command)
    code, out, err = call(capsys, "fail")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("ssmtunneld: no further thread can be started: see ")


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (click.Abort(), 130), (click.exceptions.Exit(7), 7)],
)
def test_an_interrupted_command_ends_as_a_shell_expects(
    capsys, monkeypatch, error, code
):
    def fail(**_):
        raise error

    command = click.Command("fail", callback=fail)
    monkeypatch.setattr(cli, "get_command", lambda *_: command)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert call(capsys, "fail")[0] == code
        # The interpreter's own end takes time: nobody wants a trace from there.
        interrupted = code == 130
        assert (signal.getsignal(signal.SIGINT) is signal.SIG_DFL) is interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def test_control_characters_of_an_error_do_not_reach_the_terminal(capsys, monkeypatch):
    def fail(**_):
        raise SsmtunneldError("no \x1b[31mtarget\x07")

    command = click.Command("fail", callback=fail)
    monkeypatch.setattr(cli, "get_command", lambda *_: command)
    err = call(capsys, "fail")[2]
    assert "\\u001b[31mtarget" in err
    assert err.replace("\n", "").isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="a device of Linux")
def test_a_full_standard_output_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ssmtunneld", "version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    said = "ssmtunneld: cannot write: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_the_arguments_are_the_processes_unless_given(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ssmtunneld", "--version"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert __version__ in capsys.readouterr().out


_PROBE = """
import json, sys
sys.argv = ["ssmtunneld", {argument!r}]
try:
    import runpy
    runpy.run_module("ssmtunneld", run_name="__main__")
except SystemExit as end:
    code = end.code
heavy = ["boto3", "botocore", "aiohttp", "pydantic", "websockets", "uvloop", "asyncio"]
loaded = [name for name in heavy if name in sys.modules]
sys.stderr.write(json.dumps([code, loaded]))
"""


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_does_not_wait_for_what_it_does_not_need(argument):
    result = subprocess.run(
        [sys.executable, "-c", _PROBE.format(argument=argument)],
        capture_output=True,
        text=True,
        check=True,
    )
    code, loaded = json.loads(result.stderr)
    assert not code
    assert loaded == [name for name in loaded if name == "asyncio"]


def test_the_module_runs_the_command_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ssmtunneld", "--version"])
    module = importlib.import_module("ssmtunneld.__main__")
    with pytest.raises(SystemExit):
        module.main()
    assert __version__ in capsys.readouterr().out
