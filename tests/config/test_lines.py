"""The line numbers of keys in a text."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.config.lines import KeyLines

WHOLE = r'''# a comment = [with brackets
top = 1

[daemon]  # [not.this]
log_level = "a \" = b"
path = 'c:\' # "
when = 1979-05-27 07:32:00

[tunnels.db]
listen = [
    # first = 1
    "x",
    "]", [1,
    2],
]
text = """
fake = 1
[tunnels.fake]
\"""
two more quotes"""""
raw = \'\'\'
fake = 2\'\'\'\'
after = true
"quoted.key" = 1
parameters = { line = "}", zones = ["n", "s"], deep.er = 3 }
dotted . "key" = 5

[ tunnels . "we b" ]
port = 3

[[list]]
a = 1
[[list]]
b = 2
[list.sub]
c = 3
'''.replace("\\'", "'")


@pytest.mark.parametrize(
    ("path", "fragment"),
    [
        (("top",), "top = 1"),
        (("daemon",), "[daemon]"),
        (("daemon", "log_level"), "log_level"),
        (("daemon", "path"), "path = "),
        (("daemon", "when"), "when = "),
        (("tunnels",), "[tunnels.db]"),
        (("tunnels", "db"), "[tunnels.db]"),
        (("tunnels", "db", "listen"), "listen = ["),
        (("tunnels", "db", "listen", 0), '"x",'),
        (("tunnels", "db", "listen", 1), '"]", [1,'),
        (("tunnels", "db", "listen", 2), '"]", [1,'),
        (("tunnels", "db", "listen", 2, 1), "2],"),
        (("tunnels", "db", "text"), 'text = """'),
        (("tunnels", "db", "raw"), "raw = '''"),
        (("tunnels", "db", "after"), "after = true"),
        (("tunnels", "db", "quoted.key"), '"quoted.key"'),
        (("tunnels", "db", "parameters", "zones", 1), "parameters"),
        (("tunnels", "db", "parameters", "deep", "er"), "parameters"),
        (("tunnels", "db", "dotted"), "dotted . "),
        (("tunnels", "db", "dotted", "key"), "dotted . "),
        (("tunnels", "we b"), '[ tunnels . "we b" ]'),
        (("tunnels", "we b", "port"), "port = 3"),
        (("list", 0, "a"), "a = 1"),
        (("list", 1, "b"), "b = 2"),
        (("list", 1, "sub", "c"), "c = 3"),
    ],
)
def test_every_way_to_write_a_key_is_found(path, fragment):
    tomllib.loads(WHOLE)
    line = KeyLines(WHOLE).find(path)
    assert fragment in WHOLE.splitlines()[line - 1]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_what_is_not_written_is_on_the_line_of_its_table(ending):
    text = ending.join(["", "[tunnels.db]", "port = 1"])
    lines = KeyLines(text)
    assert lines.find(("tunnels", "db", "listen")) == 2
    assert lines.find(("tunnels", "db", "port", 3)) == 3
    assert lines.find(("elsewhere",)) == 1
    assert lines.find(()) == 1


def test_an_escaped_key_is_found_by_what_it_means():
    assert KeyLines('\n"\\u0061b" = 1').find(("ab",)) == 2


def test_an_empty_text_has_one_line():
    assert KeyLines("").find(("a",)) == 1


_PIECES = [
    "[", "]", "[[", "]]", "{", "}", "=", ",", ".", "\n", "\r\n", " ", "#", "a", "b",
    "c", "1", "-1.5", "true", '"', '""', '"""', "'", "''", "'''", "\\", '"x"', "'y'",
    "a = ",
    "[a]\n", "[[a]]\n", "b.c = 1\n", "1979-05-27", "é",
]  # fmt: skip


def _leaves(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_every_key_that_tomllib_sees_is_found(text):
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = KeyLines(text)
    for path in _leaves(data):
        if path:
            named = [str(part) for part in path if isinstance(part, str)][-1]
            assert named in text.split("\n")[lines.find(path) - 1] or path[-1] != named


_KEYS = st.sampled_from(["a", "b-1", '"c d"', "'e.f'"])
_VALUES = st.sampled_from(
    ["1", '"#"', "[1, 2]", "[\n 1,\n]", "{ x = 1 }", '"""\na = 1\n"""', "'''\n[a]'''"]
)


@given(st.lists(st.tuples(_KEYS, _VALUES), unique_by=lambda pair: pair[0]))
def test_lines_count_what_values_span(entries):
    text = "[t]\n"
    expected = {}
    for key, value in entries:
        expected[key.strip("\"'")] = text.count("\n") + 1
        text += f"{key} = {value} # {key} = 2\n"
    assert set(tomllib.loads(text)["t"]) == set(expected)
    lines = KeyLines(text)
    assert {key: lines.find(("t", key)) for key in expected} == expected
