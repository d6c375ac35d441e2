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


def test_a_tunnel_goes_from_the_file_that_it_is_in(path, capsys):
    other, third = path.parent / "other.toml", path.parent / "third.toml"
    other.write_text("# theirs\n[tunnels.x]\nlisten = 4\nport = 4\n\n# more\n")
    other.chmod(0o644)
    third.write_text("[tunnels.y]\nlisten = 5\nport = 5\n")
    path.write_text('include = ["other.toml", "third.toml"]\n' + TEXT)
    code, out, _ = call(capsys, "remove", "x", "a", "-c", path)
    assert (code, out.splitlines()) == (
        0,
        [f"{other}: removed x", f"{path}: removed a"],
    )
    assert other.read_text() == "# theirs\n\n# more\n"
    assert other.stat().st_mode & 0o777 == 0o644
    assert "[tunnels.a]" not in path.read_text()
    assert third.read_text().startswith("[tunnels.y]")
    code, _, err = call(capsys, "remove", "x", "-c", path)
    assert code == 2
    assert "no tunnel called x; the files have b, c, y" in err


def test_a_file_that_cannot_be_changed_by_a_program_leaves_all_as_they_are(
    path, capsys
):
    other = path.parent / "other.toml"
    other.write_text("[tunnels]\nx = {listen = 4, port = 4}\n")
    path.write_text('include = "other.toml"\n' + TEXT)
    before = path.read_text()
    code, _, err = call(capsys, "remove", "a", "x", "-c", path)
    assert (code, path.read_text()) == (2, before)
    assert "only you can change" in err


def test_all_tunnels_of_the_main_file_may_go_if_another_has_some(path, capsys):
    (path.parent / "other.toml").write_text("[tunnels.x]\nlisten = 4\nport = 4\n")
    path.write_text('include = "other.toml"\n' + TEXT)
    assert call(capsys, "remove", "a", "b", "c", "-c", path)[0] == 0
