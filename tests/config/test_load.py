"""Files: where they are found, and what cannot be read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.config import find_config, load_config, parse_config
from ssmtunneld.errors import ConfigError

GOOD = '[tunnels.a]\nlisten = 1\nport = 1\ntarget = "i-0182d91e"\n'


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
        f"{file}: cannot be read: No such file or directory"
    )


def test_a_directory_is_no_file(tmp_path):
    assert problem_of(load_config, tmp_path, {}) == (
        f"{tmp_path}: cannot be read: Is a directory"
    )


def test_a_file_that_is_no_text_is_refused_with_the_line(tmp_path):
    file = tmp_path / "c.toml"
    file.write_bytes(b"a = 1\nb = '\xff'\n")
    assert problem_of(load_config, file, {}) == f"{file}:2: is not UTF-8 text"


def test_a_file_without_end_is_not_read_to_its_end():
    endless = Path("/dev/zero")
    assert problem_of(load_config, endless, {}) == (
        "/dev/zero: is larger than 8 MiB, so not a configuration"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb = ", "c.toml:2:5: is not TOML: invalid value"),
        ("a = 1\nb = x\n", "c.toml:2:5: is not TOML: invalid value"),
        ("a = 1\na = 2\n", "c.toml:2:6: is not TOML: cannot overwrite a value"),
        ("a = '", 'c.toml:1:6: is not TOML: expected "\'"'),
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


def test_nesting_without_end_is_no_crash():
    text = "a = " + "[" * 100_000
    assert problem_of(parse_config, text, "c.toml", {}) == (
        "c.toml: is nested too deeply"
    )


@given(st.text())
def test_any_text_gives_a_configuration_error(text):
    with pytest.raises(ConfigError):
        parse_config(text, "c.toml", {})


def test_five_hundred_tunnels_are_one_file():
    text = '[defaults]\ntarget = "i-0182d91e"\nport = 1\n'
    for index in range(500):
        text += f'[tunnels.t{index}]\nlisten = [{10000 + index}, "unix:/{index}"]\n'
    assert len(parse_config(text, "c.toml", {}).tunnels) == 500
