"""Scripts as a shell would take them apart."""

import pytest

from ssmtunneld.importing.shell import read_shell


def commands(text):
    """Return the words of each command that has some, as they were spelled."""
    read = list(read_shell(text))
    return [[each.shown(word) for word in each.words] for each in read if each.words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a b;c&&d||e|f&g\nh", [["a", "b"], *"cdefgh"]),
        ("a 'b;c' \"d & e\" f\\ g", [["a", "b;c", "d & e", "f g"]]),
        ("a ';' '' \"\" x''y", [["a", ";", "", "", "xy"]]),
        ("a\\\n  b \\\nc", [["a", "b", "c"]]),
        ("a `\n  b ^\n c", [["a", "b", "c"]]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a # b'c\nd#e", ["a", ["d#e"]]),
        ("a > b 2>&1 c &", [["a", "c"]]),
        ("a >b 2>/dev/null &>c &>>d <e <<<'f g' >|h i", [["a", "i"]]),
        ("a 2 b2>c", [["a", "2", "b2"]]),
        ("a <<EOF\nb\nEOF", ["a", "b", ["EOF"]]),
        ("a <id> <instance-id> < b", [["a", "<id>", "<instance-id>"]]),
        ("a $(b \"c)\" 'd)' (e)) f", [["a", "$(b \"c)\" 'd)' (e))", "f"]]),
        ('a `b c`d "`e f`"', [["a", "`b c`d", "`e f`"]]),
        ("a <(b c)", [["a", "<(b c)"]]),
        ("a 'x $(y `'", [["a", "x $(y `"]]),
        ('a "b \\" \\$c \\d"', [["a", 'b " $c \\d']]),
        ("a=(b c) d", [["a=(b c)", "d"]]),
        ("```sh\na\n```", ["a"]),
        ("it`s", [["it`s"]]),
    ],
)
def test_words_are_a_shells(text, expected):
    assert commands(text) == [list(each) for each in expected]


def test_each_command_has_its_line_and_what_ends_it():
    read = [c for c in read_shell("a\n\nb \\\n 'c\nd' | e;(f)\ng", 5) if c.words]
    assert [(c.line, c.end) for c in read] == [
        (5, "\n"),
        (7, "|"),
        (9, ";"),
        (9, ")"),
        (10, ""),
    ]


def test_a_substitution_has_its_line():
    (command,) = read_shell("a \\\n  $(b\nc)")
    part = command.substitution(command.words[1])
    assert (part.inner, part.line) == ("b\nc", 2)
    assert command.substitution(command.words[0]) is None


@pytest.mark.parametrize("text", ["'b", '"b', '"b $(c', "$(b", "$(b 'c)", "x=(b"])
def test_what_never_ends_is_not_read(text):
    *read, last = read_shell(f"a\nc {text}\nd")
    assert [each.words for each in read] == [["a"]]
    assert (last.line, last.unread) == (2, f"c {text}\nd")
