"""Patterns of files, and what they match."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.config import includes
from ssmtunneld.config.includes import Includes, check_pattern


@pytest.fixture
def folder(tmp_path):
    """A folder with a main file and some more."""
    for name in (
        "main.toml",
        "team.toml",
        "conf.d/20-b.toml",
        "conf.d/10-a.toml",
        "conf.d/note.txt",
        "conf.d/.hidden.toml",
        "eu/one/tunnels.toml",
        "us/one/tunnels.toml",
        "us/two/other.toml",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def found(folder, *patterns, home=None):
    result = Includes(folder / "main.toml", patterns, home).find()
    return [str(path.relative_to(folder)) for path in result.paths], result


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ((), []),
        (("team.toml",), ["team.toml"]),
        (("./team.toml",), ["team.toml"]),
        (("conf.d/*.toml",), ["conf.d/10-a.toml", "conf.d/20-b.toml"]),
        (("conf.d/?0-[a-z].toml",), ["conf.d/10-a.toml", "conf.d/20-b.toml"]),
        (("conf.d/.*.toml",), ["conf.d/.hidden.toml"]),
        (("*/one/tunnels.toml",), ["eu/one/tunnels.toml", "us/one/tunnels.toml"]),
        (("us/*/*.toml",), ["us/one/tunnels.toml", "us/two/other.toml"]),
        (("*/two/none.toml", "none/*.toml", "team.toml/*"), []),
        (
            ("team.toml", "conf.d/20*", "conf.d/*.toml"),
            ["team.toml", "conf.d/20-b.toml", "conf.d/10-a.toml"],
        ),
        (("*.toml",), ["team.toml"]),
    ],
)
def test_files_come_in_the_order_of_the_patterns_and_by_name(folder, patterns, names):
    paths, result = found(folder, *patterns)
    assert paths == names
    assert result.problems == []


def test_a_pattern_that_matches_nothing_is_told(folder):
    assert found(folder, "conf.d/*.tml", "team.toml")[1].unmatched == ["conf.d/*.tml"]


def test_patterns_start_at_the_folder_the_root_or_the_home(folder):
    expected = ["conf.d/10-a.toml", "conf.d/20-b.toml"]
    assert found(folder, f"{folder}/conf.d/*.toml")[0] == expected
    assert found(folder, "~/conf.d/*.toml", home=folder)[0] == expected
    result = found(folder, "team.toml", "~/conf.d/*.toml")[1]
    assert result.problems == [(1, "starts with ~, but HOME is not set")]


def test_a_folder_may_be_called_like_a_pattern(tmp_path):
    odd = tmp_path / "[a]*"
    odd.mkdir()
    for name in ("main.toml", "x.toml"):
        (odd / name).touch()
    (tmp_path / "a").mkdir()
    assert found(odd, "*.toml")[0] == ["x.toml"]
    assert found(odd, "~/*.toml", home=odd)[0] == ["x.toml"]


def test_a_file_that_is_named_must_be_there_and_be_one(folder):
    result = found(folder, "none.toml", "conf.d", "main.toml/x")[1]
    assert result.paths == []
    assert result.problems == [
        (0, f"{folder}/none.toml cannot be read: No such file or directory"),
        (
            1,
            f'{folder}/conf.d is a folder: name its files, such as "conf.d/*.toml"',
        ),
        (2, f"{folder}/main.toml/x cannot be read: Not a directory"),
    ]


def test_links_to_one_file_are_one_file(folder):
    (folder / "conf.d" / "15-link.toml").symlink_to("10-a.toml")
    (folder / "conf.d" / "16-main.toml").symlink_to("../main.toml")
    assert found(folder, "conf.d/1*")[0] == ["conf.d/10-a.toml"]


def test_a_link_that_leads_nowhere_is_found_so_that_somebody_complains(folder):
    (folder / "conf.d" / "15-link.toml").symlink_to("gone.toml")
    assert "conf.d/15-link.toml" in found(folder, "conf.d/*.toml")[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into any folder")
def test_a_folder_that_nobody_may_look_into_is_not_an_empty_one(folder):
    closed = folder / "conf.d"
    closed.chmod(0o000)
    try:
        result = found(folder, "conf.d/*.toml")[1]
    finally:
        closed.chmod(0o700)
    assert result.problems == [(0, f"{closed} cannot be listed: Permission denied")]


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(folder):
    (folder / "loop").symlink_to("loop")
    result = found(folder, "loop/*.toml")[1]
    assert result.paths == []
    ((number, message),) = result.problems
    assert (number, "cannot be listed" in message) == (0, True)


@pytest.mark.parametrize("name", ["a\nSTOPPING=1.toml", "\x1b[2J.toml", b"\xff.toml"])
def test_a_name_that_could_do_harm_where_it_is_shown_is_refused(folder, name):
    path = os.fsencode(folder / "conf.d") + b"/" + os.fsencode(name)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    expected = f"matches a name in {folder}/conf.d that cannot be shown"
    assert found(folder, "conf.d/*.toml")[1].problems == [(0, expected)]
    assert found(folder, "conf.d/[1-2]*.toml")[1].problems == []


def test_there_are_not_more_files_than_anybody_means(folder, monkeypatch):
    monkeypatch.setattr(includes, "FILE_LIMIT", 2)
    assert found(folder, "conf.d/*.toml")[1].problems == []
    paths, result = found(folder, "team.toml", "conf.d/*.toml")
    assert len(paths) == 2
    assert result.problems == [(1, "matches more than 2 files")]


def test_names_are_not_compared_for_ever(folder, monkeypatch):
    monkeypatch.setattr(includes, "NAME_LIMIT", 4)
    assert found(folder, "conf.d/*.toml")[1].problems == []
    monkeypatch.setattr(includes, "NAME_LIMIT", 3)
    assert found(folder, "conf.d/*.toml", "*/*/*.toml")[1].problems == [
        (0, "has more than 3 names to look at"),
        (1, "has more than 3 names to look at"),
    ]


def test_nor_are_they_with_many_patterns(folder, monkeypatch):
    monkeypatch.setattr(includes, "ALL_NAMES_LIMIT", 8)
    patterns = ["conf.d/*.toml", "conf.d/*.tom?", "conf.d/*.to*"]
    assert found(folder, *patterns[:2])[1].problems == []
    assert found(folder, *patterns)[1].problems == [
        (2, "has, with the others, more than 8 names")
    ]


def test_patterns_are_not_looked_for_without_end(folder, monkeypatch):
    monkeypatch.setattr(includes, "PATTERN_LIMIT", 2)
    assert found(folder, "team.toml", "team.toml")[1].problems == []
    paths, result = found(folder, "team.toml", "team.toml", "none.toml", "none.toml")
    assert len(paths) == 1
    assert result.problems == [(2, "comes after 2 others, which are too many")]


@pytest.mark.parametrize("pattern", ["a.toml", "conf.d/*.toml", "/x/[ab]?", "~/a b"])
def test_patterns_are_taken_as_they_are(pattern):
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize("pattern", ["", "a\nb", "\0", "**/x.toml", "a**"])
def test_what_is_no_pattern_is_refused_without_quoting_it(pattern):
    with pytest.raises(ValueError, match="such as") as caught:
        check_pattern(pattern)
    assert not pattern.strip() or pattern not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "patterns"),
    [
        ("a.toml", ("a.toml",)),
        (["a.toml", 1, "", "b.toml", {}], ("a.toml", "", "", "b.toml", "")),
        (7, ("",)),
        ([], ()),
    ],
)
def test_what_is_no_pattern_keeps_its_number_and_matches_nothing(
    tmp_path, value, patterns
):
    main = tmp_path / "main.toml"
    found = Includes.of(main, {"include": value}, {"HOME": "/home/me"})
    assert found.patterns == patterns
    assert str(found.home) == "/home/me"
    assert all(number in {0, 3} for number, _ in found.find().problems)


def test_without_the_key_there_are_no_patterns(tmp_path):
    assert Includes.of(tmp_path / "c", {}, {}) == Includes(tmp_path / "c")


@given(st.lists(st.text(max_size=30), max_size=4))
def test_nothing_is_raised_whatever_the_patterns(tmp_path_factory, patterns):
    main = tmp_path_factory.getbasetemp() / "main.toml"
    found = Includes.of(main, {"include": patterns}, {}).find()
    assert all(number < len(patterns) for number, _ in found.problems)
