"""Variables of a script, where a command uses them."""

import pytest

from ssmtunneld.importing.commands import read_commands
from ssmtunneld.importing.shell import read_shell
from ssmtunneld.importing.variables import Variables, brief, is_open

ID = "i-0123456789abcdef0"
WEB = (
    "--document-name AWS-StartPortForwardingSession "
    "--parameters portNumber=80,localPortNumber=8080"
)


def expanded(script, text):
    """Return what ``text`` is behind ``script``."""
    variables = Variables()
    for command in read_shell(script):
        variables.follow(command)
    return variables.expand(text, 9, [])


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("A=b", "b"),
        ("A='b c'; A+=d", "b cd"),
        ("export -n X=y A=b", "b"),
        ("B=c; A=$B-${B}", "c-c"),
        ("A=b; A=$A$A", "bb"),
        ("A=b; unset A", "${A}"),
        ("A=b command", "${A}"),
        ("(A=b)", "${A}"),
        ("A=a; (A=b; unset A)", "a"),
        ("f() { local A=b; }", "b"),
        ("A=(b c)", "b"),
        ("A=" + "x" * 5000, "${A}"),
        ("case x in a) A=b;; esac", "b"),
        ("while read -r A; do", "${A}"),
    ],
)
def test_the_last_assignment_holds(script, expected):
    assert expanded(script, "$A") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A:-c}${E:-c}${N:-c}", "bcc"),
        ("${A-c}${N-$A}", "bb"),
        ("${A:+c}${N:+c}", "c"),
        ("${A:?no}${N:?no}", "b${N}"),
        ("$1 ${2} $@ ${A%x}", "$1 ${2} $@ ${A%x}"),
    ],
)
def test_forms_with_a_default_have_it(text, expected):
    assert expanded("A=b; E=", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a ${B} $c", False), ("$1", True), ("${A%x}", True), ("$(a)", True), ("`", True)],
)
def test_what_only_a_run_knows_is_open(text, expected):
    assert is_open(text) is expected


def test_long_values_are_shown_shortened_and_on_one_line():
    assert brief("a\n  b") == "a b"
    assert brief("x" * 81) == "x" * 80 + "..."


@pytest.mark.parametrize(
    ("before", "target", "shown", "note"),
    [
        ("", "$ID", "${ID}", (2, "ID is not set in this file: it must be in the en")),
        ("ID=$(cat id)", "$ID", "${ID}", (1, "ID comes from a command, $(cat id): ")),
        ("ID=`cat id`", "$ID", "${ID}", (1, "ID comes from a command, `cat id`: ")),
        ("ID=$1", "$ID", "${ID}", (1, "ID is $1: set it in the environment")),
        ("read -r ID", "$ID", "${ID}", (1, "ID is read from its input: ")),
        ("for ID in a b; do", "$ID", "${ID}", (1, "ID is set by a loop: ")),
        ("ID=$A-b", "$ID", "${A}-b", (1, "A is not set in this file")),
        ("ID=${1:-a}", "$ID", "a", (1, "argument 1 of the script has a default: a")),
        ("", "${ID:-a}", "a", (2, "ID has no value in this file: its default is")),
        (": ${ID:=a}", "$ID", "a", (1, "ID has no value in this file: its default")),
        (
            'if [ "$1" ]; then ID=a; else ID=b; fi',
            "$ID",
            "b",
            (1, "ID depends on a branch: b is taken"),
        ),
        (
            "case $1 in a) ID=a;; *) ID=b;; esac",
            "$ID",
            "b",
            (1, "ID depends on a branch: b is taken"),
        ),
    ],
)
def test_what_a_script_does_not_say_itself_is_said_once(before, target, shown, note):
    call = f'aws ssm start-session --target "{target}" {WEB}\n'
    found = read_commands(f"{before}\n{call}{call}")
    assert [t.settings["target"] for t in found.tunnels] == [shown, shown]
    assert [n.line for n in found.notes] == [note[0]]
    assert found.notes[0].text.startswith(note[1])


def test_a_value_of_the_branch_that_a_call_stands_in_is_its_own():
    found = read_commands(
        f"if x; then\n  ID={ID}\n  aws ssm start-session --target $ID {WEB}\nfi\n"
    )
    assert [t.settings["target"] for t in found.tunnels] == [ID]
    assert found.notes == []


def test_a_variable_that_no_tunnel_uses_is_not_spoken_of():
    found = read_commands(
        f"NOW=$(date)\necho $HOME\naws ssm start-session --target {ID} {WEB}\n"
    )
    assert found.notes == []
