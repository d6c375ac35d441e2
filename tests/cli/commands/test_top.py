"""``ssmtunneld top``: what it needs before it shows anything."""

import os
import sys

import pytest

from ssmtunneld.cli.commands import top as command
from tests.cli.household import call


def be_at_terminal(monkeypatch):
    """Let the standard streams of this moment say that they are a terminal."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)


def test_without_the_extra_one_line_says_what_to_install(home, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "textual", None)
    code, out, err = call(capsys, "top")
    assert (code, out) == (2, "")
    assert err == (
        "ssmtunneld: top needs textual, which is not installed; run: pipx inject "
        "ssmtunneld textual, or add it by pip where pip has "
        "installed ssmtunneld; ssmtunneld status --watch needs nothing\n"
    )


def test_without_a_terminal_it_names_what_scripts_use(operator, capsys):
    pytest.importorskip("textual")
    code, out, err = call(capsys, "top")
    assert (code, out) == (2, "")
    assert err == (
        "ssmtunneld top: top needs a terminal; scripts can use status --json\n"
    )


def test_without_a_daemon_it_ends_with_3(home, monkeypatch, capsys):
    pytest.importorskip("textual")
    be_at_terminal(monkeypatch)
    code, out, err = call(capsys, "top", "-c", "/no/such.toml")
    assert (code, out) == (3, "")
    assert "no daemon runs for /no/such.toml; start one" in err


def test_an_empty_no_color_means_nothing(home, monkeypatch, capsys):
    pytest.importorskip("textual")
    be_at_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "")
    call(capsys, "top")
    assert "NO_COLOR" not in os.environ


def test_the_help_needs_no_textual(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "textual", None)
    code, out, _ = call(capsys, "top", "--help")
    assert code == 0
    assert "pipx inject ssmtunneld textual" in " ".join(out.split())
    assert command.top.help.startswith("Watch tunnels, connections")
