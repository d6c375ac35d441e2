"""``ssmtunneld remove``."""

import pytest

from tests.cli.household import call

TARGET = "i-0123456789abcdef0"
TEXT = f"""# top
[defaults]
target = "{TARGET}"

# first
[tunnels.a]
listen = 1   # one
port = 1

# second
[tunnels.b]
listen = 2
port = 2

# third
[tunnels.c]
listen = 3
port = 3
"""


@pytest.fixture
def path(home):
    path = home / "config.toml"
    path.write_text(TEXT)
    return path


def test_tunnels_go_and_comments_stay(path, capsys):
    code, out, _ = call(capsys, "remove", "b", "a", "b", "-c", path)
    assert (code, out) == (0, f"{path}: removed b, a\n")
    assert path.read_text() == (
        f'# top\n[defaults]\ntarget = "{TARGET}"\n\n# first\n\n# second\n\n# third\n'
        "[tunnels.c]\nlisten = 3\nport = 3\n"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("x",), "there is no tunnel called x; the file has a, b, c"),
        (("a", "x"), "there is no tunnel called x"),
        (("a", "b", "c"), "has no tunnels"),
    ],
)
def test_what_cannot_be_done_changes_nothing(path, names, message, capsys):
    code, _, err = call(capsys, "remove", *names, "-c", path)
    assert (code, message in err) == (2, True), err
    assert path.read_text() == TEXT


def test_without_a_file_there_is_nothing_to_remove(home, capsys):
    code, _, err = call(capsys, "remove", "a", "-c", home / "none")
    assert (code, "there is no file" in err) == (2, True)
