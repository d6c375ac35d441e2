"""Whatever a value is, the shell that reads our lines has it in the variable."""

import json
import shutil
import subprocess

import pytest

from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.terminal.quoting import as_dotenv, as_fish, as_json, as_sh

VALUES = [
    "plain",
    "",
    "it's; $(touch /tmp/x) `id` \"q\" \\ \\' $HOME #no",
    "a=b&c=%2F?d",
    "two\nlines",
    "postgresql://u@h:1/d?hostaddr=127.0.0.1",
]


@pytest.mark.parametrize("value", VALUES)
def test_sh_reads_the_value(value):
    script = f'{as_sh({"V": value})}\nprintf %s "$V"'
    result = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert result.stdout.decode() == value


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize("value", VALUES)
def test_fish_reads_the_value(value):
    script = f"{as_fish({'V': value})}\nprintf %s $V"
    result = subprocess.run(["fish", "-c", script], capture_output=True, check=True)
    assert result.stdout.decode() == value


def test_fish_gets_single_quotes_with_both_specials_escaped():
    assert as_fish({"V": "a'b\\c $d"}) == r"set -gx V 'a\'b\\c $d';"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("a=b&c=%2F?d", "V=a=b&c=%2F?d"),
        ("two words #1", "V='two words #1'"),
        ("it's", 'V="it\'s"'),
        ("DOMAIN\\user", "V='DOMAIN\\user'"),
    ],
)
def test_dotenv_is_quoted_only_where_that_is_needed(value, line):
    assert as_dotenv({"V": value}) == line


AGREED = [
    *("", "a b", "#a", "a #b", "it's", 'a"b', "$HOME", "`id`", "a\\b", "é", "it's #1"),
]


@pytest.mark.parametrize("value", AGREED)
def test_readers_of_dotenv_agree_on_what_is_written(tmp_path, value):
    file = tmp_path / ".env"
    file.write_text(as_dotenv({"V": value}), "utf-8")
    script = ["sh", "-c", f'. {file}; printf %s "$V"']
    result = subprocess.run(script, capture_output=True, check=True)
    assert result.stdout.decode() == value
    python = pytest.importorskip("dotenv")
    assert python.dotenv_values(file) == {"V": value}


@pytest.mark.parametrize(
    "value", ["a\\", "${HOME}", "a\\\\b", "a'$b", "a'\"", "a'\\n", "a\nb", "a\r", "`'"]
)
def test_what_readers_of_dotenv_do_not_agree_on_is_refused(value):
    with pytest.raises(CommandError, match="agree on V") as caught:
        as_dotenv({"V": value})
    assert "--format json" in caught.value.advice


@pytest.mark.parametrize("value", VALUES)
def test_json_holds_the_value(value):
    assert json.loads(as_json({"V": value})) == {"V": value}
