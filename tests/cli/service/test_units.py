"""The text of unit files: what stands in them, and that it is read as it was meant."""

import plistlib
import shlex

import pytest

from ssmtunneld.cli.service import units
from ssmtunneld.errors import SsmtunneldError

PROGRAM = ["/usr/local/bin/ssmtunneld"]


def lines(text, key):
    """Return the values of ``key`` in a unit."""
    return [
        line.split("=", 1)[1]
        for line in text.splitlines()
        if line.startswith(f"{key}=")
    ]


def test_a_unit_runs_our_program_and_checks_the_file_before_a_reload():
    text = units.user_unit(PROGRAM, "/etc/c.toml")
    assert lines(text, "ExecStart") == [
        "/usr/local/bin/ssmtunneld run --config /etc/c.toml"
    ]
    assert lines(text, "ExecReload") == [
        "/usr/local/bin/ssmtunneld check --config /etc/c.toml",
        "/bin/kill -HUP $MAINPID",
    ]


def test_a_module_is_a_program_too():
    text = units.system_unit(["/opt/my python", "-m", "ssmtunneld"], "/c.toml")
    (start,) = lines(text, "ExecStart")
    assert start == '"/opt/my python" -m ssmtunneld run --config /c.toml'


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("/usr/bin/x", "/usr/bin/x"),
        ("/a b", '"/a b"'),
        ("/100%", "/100%%"),
        ('/"', '"/\\""'),
        ("/\\", '"/\\\\"'),
        ("/it's", '"/it\'s"'),
        ("/a;b", '"/a;b"'),
        ("/é", "/é"),
        ("", '""'),
    ],
)
def test_systemd_reads_a_word_as_it_was(word, quoted):
    assert units.quote(word) == quoted
    # The shell's quoting is like systemd's as far as this goes.
    assert shlex.split(quoted.replace("%%", "%")) == [word]


@pytest.mark.parametrize("word", ["/a\nExecStartPre=/bin/evil", "/\udcff", "/\x1b[31m"])
def test_a_path_that_could_be_taken_for_something_else_is_refused(word):
    with pytest.raises(SsmtunneldError, match="cannot hold this path") as caught:
        units.user_unit(PROGRAM, word)
    assert str(caught.value).isprintable()


def test_a_dollar_in_a_path_is_no_variable():
    text = units.user_unit(PROGRAM, "/my $HOME.toml")
    (start,) = lines(text, "ExecStart")
    assert start == ':/usr/local/bin/ssmtunneld run --config "/my $HOME.toml"'


def test_what_looks_like_a_placeholder_in_a_path_is_left_alone():
    text = units.user_unit(PROGRAM, "/@HEAD@.toml")
    assert lines(text, "ExecStart")[0].endswith("--config /@HEAD@.toml")


def test_instances_have_everything_apart():
    text = units.system_unit(PROGRAM, "/etc/ssmtunneld/%i.toml", instance="%i")
    assert lines(text, "ExecStart")[0].endswith("--config /etc/ssmtunneld/%i.toml")
    assert lines(text, "StateDirectory") == ["ssmtunneld-%i"]
    assert lines(text, "RuntimeDirectory") == ["ssmtunneld-%i"]
    assert lines(text, "EnvironmentFile") == ["-/etc/ssmtunneld/%i.environment"]
    assert lines(text, "Description")[0].endswith("(%i)")


def test_what_is_ours_says_so_and_nothing_else_does():
    assert units.is_ours(units.user_unit(PROGRAM, "/c.toml"))
    assert units.is_ours(units.system_unit(PROGRAM, "/c.toml"))
    assert units.is_ours(units.agent(PROGRAM, "/log"))
    assert not units.is_ours(units.user_unit(PROGRAM, "/c.toml", head="# mine"))
    assert not units.is_ours("x" * 10_000 + units.MARK)


def test_a_property_list_holds_any_path():
    strange = ["/Users/a & b/<bin>", "run", "--config", '/Users/"c".toml']
    agent = plistlib.loads(units.agent(strange, "/Users/a & b/log").encode())
    assert agent["ProgramArguments"] == strange
    assert agent["StandardErrorPath"] == "/Users/a & b/log"
    assert agent["Label"] == units.LABEL
