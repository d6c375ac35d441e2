"""The reason for an access request: what AWS takes, and how it is asked for."""

import os

import click
import pytest

from ssmtunneld.cli.terminal.reason import ask_reason, check_reason
from tests.integration.terminal import Terminal

ASK = """
import signal
from ssmtunneld.cli.terminal.reason import ask_reason
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print("answer:", ask_reason("name:bastion\x1b[31m"))
except KeyboardInterrupt:
    print("had enough")
"""


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("a broken index", "a broken index"),
        ("  a\n b\t\x1b[31mc ", "a b c"),
        ("x" * 256, "x" * 256),
        ("Störung", "Störung"),
    ],
)
def test_a_reason_is_one_line(given, taken):
    assert check_reason(given) == taken


@pytest.mark.parametrize("given", ["", " \n", "\x00", "x" * 257, "x" * 100_000])
def test_what_aws_would_refuse_is_none(given):
    with pytest.raises(click.BadParameter, match="reason"):
        check_reason(given)


def ask():
    return Terminal("-c", ASK, columns=100, env=dict(os.environ))


def test_it_is_asked_for_on_the_terminal():
    terminal = ask()
    try:
        terminal.wait_for("Reason for access to name:bastion: ")
        terminal.type("a broken index\r")
        terminal.wait_for("answer: a broken index")
    finally:
        assert terminal.close() == 0


def test_ctrl_c_ends_the_question():
    terminal = ask()
    try:
        terminal.wait_for("Reason for access")
        terminal.type("\x03")
        terminal.wait_for("had enough")
    finally:
        assert terminal.close() == 0


def test_without_a_terminal_there_is_no_answer(monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(6, "No such device or address")

    monkeypatch.setattr("builtins.open", refuse)
    assert ask_reason("i-1") is None
