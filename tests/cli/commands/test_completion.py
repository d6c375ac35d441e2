"""``ssmtunneld completion``: in the real shells, with tunnels of a running daemon."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.household import call, document, tunnel_document, waiting

BIN = Path(sys.executable).parent

_BASH = """
source <(ssmtunneld completion bash)
complete -p ssmtunneld
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_ssmtunneld_completion ssmtunneld "${@: -1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
_FISH = """
ssmtunneld completion fish | source
complete --do-complete $argv[1]
"""


def run(*command):
    """Run a shell that finds our command; return the lines that it writes."""
    if not (BIN / "ssmtunneld").exists():
        pytest.skip("the package is not installed here")
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["env", f"PATH={path}", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


def need(shell):
    """Return the shell's program, or skip."""
    return shutil.which(shell) or pytest.skip(f"{shell} is not installed")


def bash(*words):
    """Return what bash offers for the last of ``words``."""
    shell = need("bash")
    registered, *offered = run(shell, "--norc", "-c", _BASH, "bash", *words)
    assert registered.endswith("-F _ssmtunneld_completion ssmtunneld")
    return sorted(filter(None, offered))


def test_bash_completes_commands_options_and_choices(home):
    assert bash("ssmtunneld", "st") == ["status"]
    assert "log-level" in bash("ssmtunneld", "")
    assert "--watch" in bash("ssmtunneld", "status", "--")
    assert bash("ssmtunneld", "completion", "z") == ["zsh"]


def test_bash_completes_the_tunnels_of_the_daemon_that_runs(operator):
    operator.documents = [
        document(tunnel_document("db"), waiting("dead"), tunnel_document("web"))
    ]
    assert bash("ssmtunneld", "drain", "d") == ["db", "dead"]
    assert bash("ssmtunneld", "status", "db", "") == ["dead", "web"]
    assert bash("ssmtunneld", "exec", "-t", "w") == ["web"]


def test_bash_offers_no_tunnels_where_no_daemon_runs(home):
    assert bash("ssmtunneld", "drain", "d") == []


def test_fish_completes_with_the_states_of_tunnels(operator):
    fish = need("fish")
    operator.documents = [document(tunnel_document("db"), waiting("dead"))]
    offered = run(fish, "--no-config", "-c", _FISH, "ssmtunneld drain d")
    assert offered == ["db\tready", "dead\twaiting"]
    assert run(fish, "--no-config", "-c", _FISH, "ssmtunneld completion z") == ["zsh"]


def test_zsh_takes_the_script_and_registers_it(operator):
    zsh = need("zsh")
    script = (
        "autoload -Uz compinit && compinit -D && source <(ssmtunneld completion zsh) "
        "&& print $_comps[ssmtunneld]"
    )
    assert run(zsh, "-f", "-c", script) == ["_ssmtunneld_completion"]


def test_zsh_is_offered_tunnels_with_their_states(operator, monkeypatch):
    monkeypatch.setenv("_SSMTUNNELD_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "ssmtunneld drain d")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run("ssmtunneld") == ["plain", "db", "ready"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_us(home, capsys, shell):
    code, out, _ = call(capsys, "completion", shell)
    assert code == 0
    assert f"_SSMTUNNELD_COMPLETE={shell}_complete" in out


def test_another_shell_is_wrong_usage_and_the_help_says_how_to_install(home, capsys):
    assert call(capsys, "completion", "tcsh")[0] == 2
    _, out, _ = call(capsys, "completion", "--help")
    assert "source <(ssmtunneld completion bash)" in out
    assert "~/.config/fish/completions/ssmtunneld.fish" in out
