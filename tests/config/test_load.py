"""Files: where they are found, and what cannot be read."""

import os
import pwd
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.config import find_config, load, load_config, parse_config
from ssmtunneld.config.includes import Includes
from ssmtunneld.config.load import LARGEST_FILE, user_config
from ssmtunneld.errors import ConfigError

GOOD = '[tunnels.a]\nlisten = 1\nport = 1\ntarget = "i-0182d91e"\n'

UNCLOSED = "is not TOML: a text is not closed: the quote at its end is missing"
AGAIN = "is not TOML: this key has a value above: write it once"
WRONG = "is not TOML: invalid value"


def problem_of(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    (problem,) = caught.value.problems
    assert str(caught.value) == problem
    return problem


@pytest.fixture
def places(tmp_path):
    """The user's file and the system's, and an environment that knows the first."""
    user = tmp_path / "xdg" / "ssmtunneld" / "config.toml"
    system = tmp_path / "etc" / "config.toml"
    for file in (user, system):
        file.parent.mkdir(parents=True)
        file.write_text(GOOD)
    return user, system, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}


def test_the_first_place_wins(places):
    user, system, environ = places
    named = {**environ, "SSMTUNNELD_CONFIG": "/named"}
    assert find_config(Path("explicit"), named, system) == Path("explicit")
    assert find_config(None, named, system) == Path("/named")
    assert find_config(None, environ, system) == user
    user.unlink()
    assert find_config(None, environ, system) == system
    system.unlink()
    problem = problem_of(find_config, None, environ, system)
    assert problem == (
        "no configuration file: looked for --config, $SSMTUNNELD_CONFIG, "
        f"{user}, {system}; "
        "write one with ssmtunneld init, or do without: ssmtunneld open"
    )


def test_an_empty_variable_names_nothing(places):
    user, system, environ = places
    assert find_config(None, {**environ, "SSMTUNNELD_CONFIG": ""}, system) == user


def test_without_xdg_the_platform_s_directory_is_used(places):
    _, system, _ = places
    system.unlink()
    problem = problem_of(find_config, None, {}, system)
    assert f"ssmtunneld/config.toml, {system}" in problem


def test_a_place_that_depends_on_the_working_directory_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert user_config({"XDG_CONFIG_HOME": "xdg"}) == user_config({})
    assert user_config({}).is_absolute()


def test_a_user_whom_nobody_knows_has_a_place(monkeypatch):
    for name in ("XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert user_config({}) == Path("/.config/ssmtunneld/config.toml")


def test_a_place_that_cannot_be_looked_at_is_not_passed_over(tmp_path):
    # A name too long for the file system: stat fails with more than "not there".
    unseen = tmp_path / ("x" * 300)
    found = find_config(None, {"XDG_CONFIG_HOME": str(unseen)}, tmp_path / "none")
    assert found == unseen / "ssmtunneld" / "config.toml"
    assert "cannot be read" in problem_of(load_config, found, {})


def test_a_file_is_loaded_with_or_without_a_byte_order_mark(tmp_path):
    file = tmp_path / "c.toml"
    for mark in ("", "\ufeff"):
        file.write_text(mark + GOOD, encoding="utf-8")
        config = load_config(file, {})
        assert config.source == file
        assert config == parse_config(GOOD, str(file), {})


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    file = tmp_path / "c.toml"
    assert problem_of(load_config, file, {}) == (
        f"{file}: cannot be read: No such file or directory; "
        f"write one: ssmtunneld init -c {file}"
    )


def test_a_directory_is_no_file(tmp_path):
    assert problem_of(load_config, tmp_path, {}) == (
        f"{tmp_path}: cannot be read: Is a directory"
    )


def test_a_file_that_is_no_text_is_refused_with_the_line(tmp_path):
    file = tmp_path / "c.toml"
    file.write_bytes(b"a = 1\nb = '\xff'\n")
    assert problem_of(load_config, file, {}) == f"{file}:2: is not UTF-8 text"


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read(device):
    assert problem_of(load_config, Path(device), {}) == (
        f"{device}: is not a regular file"
    )


def test_a_pipe_is_not_waited_for(tmp_path):
    file = tmp_path / "c.toml"
    os.mkfifo(file)
    assert problem_of(load_config, file, {}) == f"{file}: is not a regular file"


def test_a_file_of_a_hundred_megabytes_is_not_read_to_its_end(tmp_path):
    file = tmp_path / "c.toml"
    with file.open("wb") as sparse:
        sparse.truncate(100 * 2**20)
    tracemalloc.start()
    try:
        problem = problem_of(load_config, file, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert problem == f"{file}: is larger than 1MiB, so not a configuration"
    assert peak < 4 * LARGEST_FILE


def test_a_file_may_have_the_size_that_is_allowed(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(GOOD + "#" * (LARGEST_FILE - len(GOOD)))
    assert len(load_config(file, {}).tunnels) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb = ", "c.toml:2:5: is not TOML: invalid value"),
        (
            "a = 1\nb = x\n",
            'c.toml:2:5: is not TOML: invalid value (text needs quotes: key = "...")',
        ),
        ("a = 1\na = 2\n", f"c.toml:2:6: {AGAIN}"),
        (
            "[tunnels.a]\nb = 1\n[tunnels.a]\n",
            "c.toml:3:11: is not TOML: there is a table [tunnels.a] above: choose "
            "another name",
        ),
        (
            "[a]\n[a]\n",
            "c.toml:2:3: is not TOML: there is a table [a] above: choose another name",
        ),
        ("a = '", f"c.toml:1:6: {UNCLOSED}"),
        ("a = 1\nb = 'x # y\nc = 1\n", f"c.toml:2:11: {UNCLOSED}"),
        ("b = 'x\nc = 'y'\n", f"c.toml:1:7: {UNCLOSED}"),
        ('a = 1\nb = "x\nc = 1\n', f"c.toml:2:7: {UNCLOSED}"),
        ('a = """x\n', f"c.toml:2:1: {UNCLOSED}"),
        (
            "b = True",
            "c.toml:1:5: " + WRONG + " (write true or false, in small letters)",
        ),
        (
            "b = \u201cx\u201d",
            "c.toml:1:5: " + WRONG + " (write straight quotes: \" or ')",
        ),
        (
            "b = 080",
            "c.toml:1:6: is not TOML: expected newline or end of document after a "
            "statement (a number does not begin with 0)",
        ),
        ("b = true\nb = true\n", f"c.toml:2:9: {AGAIN}"),
    ],
)
def test_a_slip_in_the_syntax_has_a_line_and_a_column(text, expected):
    place = problem_of(parse_config, text, "c.toml", {})
    # Releases of Python differ by a column or two in what they point at.
    assert place.split(":")[:2] == expected.split(":")[:2]
    assert place.split(":")[2].isdigit()
    assert place.split(": ", 1)[1] == expected.split(": ", 1)[1]


def test_a_number_of_thousands_of_digits_is_no_crash():
    problem = problem_of(parse_config, f"a = {'9' * 5000}", "c.toml", {})
    assert problem.startswith("c.toml:1:")
    assert "9" * 100 not in problem
    assert "set_int_max_str_digits" not in problem  # advice for programmers


@pytest.mark.parametrize(
    "line",
    [
        "target = i-0182d91e",
        "  target = i-0182d91e85d69cf00  # ours",
        "region = eu-west-1",
        "listen = 127.0.0.1:5432",
        "listen = localhost:5432",
        "profile = ${AWS_PROFILE}",
        "host = db.example.com",
        "ca_bundle = ~/ca.pem",
        "log_level = info",
        "keep_alive = 5m",
    ],
)
def test_text_without_quotes_is_told_what_it_needs(line):
    problem = problem_of(parse_config, f"[a]\n{line}\n", "c.toml", {})
    assert problem.startswith("c.toml:2:")
    assert problem.endswith('(text needs quotes: key = "...")')
    assert line.split()[2] not in problem


@pytest.mark.parametrize(
    "text", ["a = ", "a = 1 b = 2", "a = true 1", 'a = "x', "a = [x]", "a b = 1"]
)
def test_quotes_are_not_the_cure_of_other_slips(text):
    problem = problem_of(parse_config, text, "c.toml", {})
    assert "quotes" not in problem


PART = "a" * 60
DEEP = {
    "bare keys": ".".join(["a"] * 5000) + " = 1",
    "more bare keys": ".".join(["a"] * 500_000) + " = 1",
    "spaced keys": " . ".join(["a"] * 5000) + " = 1",
    "quoted keys": ".".join(['"a"'] * 5000) + " = 1",
    "literal keys": ".".join(["'a'"] * 5000) + " = 1",
    "escaped keys": ".".join([r'"\""'] * 100_000) + " = 1",
    "long keys": ".".join([f'"{PART}{PART}"'] * 5000) + " = 1",
    "a header": f"[{'.'.join(['a'] * 5000)}]",
    "a header of a list": f"[[{'.'.join(['a'] * 5000)}]]",
    "keys further on": "#" * 16_350 + "\n" + ".".join(["a"] * 5000) + " = 1",
    "lists": "a = " + "[" * 100_000,
    "closed lists": "a = " + "[" * 300 + "]" * 300,
    "more closed lists": "a = " + "[" * 5000 + "]" * 5000,
    "tables": "a = " + "{a=" * 5000 + "1" + "}" * 5000,
    "tables in lists": "a = " + "[{a=" * 200 + "1" + "}]" * 200,
    "keys in tables": "a = " + f"{{{'a.' * 30}a=" * 50 + "1" + "}" * 50,
    "a known key": f"{GOOD}parameters.{'.'.join(['a'] * 5000)} = 1",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP.keys())
def test_nesting_without_end_is_no_crash(text):
    problem = problem_of(parse_config, text, "c.toml", {})
    assert re.fullmatch(
        r"c\.toml(:[0-9]+: has a key of more than 32 parts|: is nested too deeply)",
        problem,
    )


@pytest.mark.parametrize(
    "text", [r'"' + r"\"" * 500_000, "a = '" * 200_000, "a" * 2**20, "a." * 30 + "\n"]
)
def test_what_only_looks_like_a_long_key_is_told_in_time(text):
    assert "is not TOML" in problem_of(parse_config, text, "c.toml", {})


def test_values_may_have_as_many_dots_as_they_like():
    address = ", ".join(['"10.0.0.0/8"'] * 100)
    text = f"{GOOD.replace('listen = 1', 'listen = [1, 2]')}allow = [{address}]\n"
    assert "has no effect" in problem_of(parse_config, text, "c.toml", {})


@given(st.text())
def test_any_text_gives_a_configuration_error(text):
    with pytest.raises(ConfigError):
        parse_config(text, "c.toml", {})


def test_five_hundred_tunnels_are_one_file():
    text = '[defaults]\ntarget = "i-0182d91e"\nport = 1\n'
    for index in range(500):
        text += f'[tunnels.t{index}]\nlisten = [{10000 + index}, "unix:/{index}"]\n'
    assert len(parse_config(text, "c.toml", {}).tunnels) == 500


# Included files.


def tunnel(name, port, **settings):
    own = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
    return f'[tunnels.{name}]\nlisten = {port}\nport = 1\ntarget = "i-0182d91e"\n{own}'


@pytest.fixture
def team(tmp_path):
    """A main file and two that it includes."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "b.toml").write_text(tunnel("b", 2))
    (tmp_path / "conf.d" / "a.toml").write_text(tunnel("a", 1))
    main = tmp_path / "c.toml"
    main.write_text(f'include = ["conf.d/*.toml"]\n{tunnel("main", 3)}')
    return main


def problems_of(main, environ=None, **facts):
    with pytest.raises(ConfigError) as caught:
        load_config(main, environ or {}, **facts)
    return [p.replace(f"{main.parent}/", "") for p in caught.value.problems]


def test_included_files_follow_the_main_one_by_name(team):
    config = load_config(team, {})
    assert [tunnel.name for tunnel in config.tunnels] == ["main", "a", "b"]
    folder = team.parent / "conf.d"
    assert config.source == team
    assert config.include == ("conf.d/*.toml",)
    assert config.included == (folder / "a.toml", folder / "b.toml")
    assert config.origins == {
        "main": team,
        "a": folder / "a.toml",
        "b": folder / "b.toml",
    }
    assert config.unmatched == ()
    assert parse_config(team.read_text(), team, {}) == config


def test_all_tunnels_may_be_in_included_files(team):
    team.write_text('include = "conf.d/*.toml"')
    assert [tunnel.name for tunnel in load_config(team, {}).tunnels] == ["a", "b"]


def test_a_pattern_that_matches_nothing_is_no_error_where_there_are_tunnels(team):
    team.write_text(f'include = ["x/*.toml"]\n{tunnel("main", 3)}')
    assert load_config(team, {}).unmatched == ("x/*.toml",)
    team.write_text('include = ["x/*.toml"]')
    assert problems_of(team) == [
        "c.toml:1: has no tunnels: add a table [tunnels.NAME], or a file that "
        "x/*.toml matches: there is none"
    ]


def test_each_file_is_named_in_its_own_problems_and_all_of_them_are_told(team):
    folder = team.parent / "conf.d"
    (folder / "a.toml").write_text("[tunnels.a\n")
    (folder / "b.toml").write_text("# first\n" + tunnel("b", 2, prot=1))
    os.mkfifo(folder / "c.toml")
    (folder / "d.toml").write_bytes(b"\xff")
    (folder / "e.toml").symlink_to("/dev/zero")
    with (folder / "f.toml").open("wb") as sparse:
        sparse.truncate(LARGEST_FILE + 1)
    (folder / "g.toml").mkdir()
    team.write_text(
        f'include = ["conf.d/*.toml", "none.toml", ""]\n{tunnel("main", 3, prot=1)}'
    )
    assert [re.sub(r"not TOML: .*", "not TOML", p) for p in problems_of(team)] == [
        "c.toml:1: include[1]: none.toml cannot be read: No such file or directory",
        'c.toml:1: include[2]: should be a path or a pattern, such as "conf.d/*.toml"',
        "c.toml:6: tunnels.main.prot: unknown key (did you mean port?)",
        "conf.d/a.toml:1:11: is not TOML",
        "conf.d/b.toml:6: tunnels.b.prot: unknown key (did you mean port?)",
        "conf.d/c.toml: is not a regular file",
        "conf.d/d.toml:1: is not UTF-8 text",
        "conf.d/e.toml: is not a regular file",
        "conf.d/f.toml: is larger than 1MiB, so not a configuration",
        "conf.d/g.toml: cannot be read: Is a directory",
    ]


def test_files_are_bounded_together(team, monkeypatch):
    size = sum(len(path.read_text()) for path in team.parent.rglob("*.toml"))
    monkeypatch.setattr(load, "LARGEST_FILE", size)
    assert len(load_config(team, {}).tunnels) == 3
    monkeypatch.setattr(load, "LARGEST_FILE", size - 1)
    (problem,) = problems_of(team)
    assert problem.startswith("c.toml:1: include[0]: has files of more than ")


def test_texts_stand_for_those_of_files_before_they_are_written(team):
    link = team.parent / "link.toml"
    link.symlink_to(team)
    folder = team.parent / "conf.d"
    instead = {(folder / "a.toml").resolve(): tunnel("other", 1)}
    assert "other" in load_config(team, {}, instead=instead).origins
    instead = {team.resolve(): tunnel("alone", 1)}
    assert [*load_config(link, {}, instead=instead).origins] == ["alone"]


def test_whoever_watches_is_told_the_patterns_before_their_files_are_read(team):
    told = []
    (team.parent / "conf.d" / "a.toml").write_text("nonsense")
    problems_of(team, about_to_include=told.append)
    assert told == [Includes(team, ("conf.d/*.toml",))]


def test_relative_paths_start_at_the_folder_of_the_file_that_says_them(team):
    folder = team.parent / "conf.d"
    for name in ("own.pem", "shared.pem", "main.pem"):
        (team.parent / name).touch()
    for name in ("own.pem", "shared.pem"):
        (folder / name).touch()
    (folder / "a.toml").write_text(
        f"[defaults]\nca_bundle = 'shared.pem'\n{tunnel('a', 1)}"
        f"{tunnel('a2', 11, ca_bundle='own.pem')}"
    )
    team.write_text(
        "include = ['conf.d/*.toml']\n[defaults]\nca_bundle = 'main.pem'\n"
        f"{tunnel('main', 3)}"
    )
    found = {t.name: t.ca_bundle for t in load_config(team, {}).tunnels}
    assert found == {
        "main": team.parent / "main.pem",
        "a": folder / "shared.pem",
        "a2": folder / "own.pem",
        "b": team.parent / "main.pem",
    }


def test_a_main_file_may_be_named_relative_to_the_working_directory(team, monkeypatch):
    monkeypatch.chdir(team.parent)
    (team.parent / "main.pem").touch()
    team.write_text("include = ['conf.d/*.toml']\n[defaults]\nca_bundle = 'main.pem'\n")
    config = load_config(Path("c.toml"), {})
    assert config.included == (Path("conf.d/a.toml"), Path("conf.d/b.toml"))
    assert {t.ca_bundle for t in config.tunnels} == {team.parent / "main.pem"}
