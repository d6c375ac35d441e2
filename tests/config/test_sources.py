"""The files of a configuration, as they were read."""

from pathlib import Path

import pytest

from ssmtunneld.config.sources import SourceFile, Sources


def file(tables):
    return SourceFile(Path("c.toml"), "", tables)


@pytest.mark.parametrize(
    ("tables", "names"),
    [
        ({}, []),
        ({"tunnels": {"b": {}, "a": 1}}, ["b", "a"]),
        ({"tunnels": [1]}, []),
        ({"tunnels": "x"}, []),
    ],
)
def test_names_are_those_of_tables_whatever_they_hold(tables, names):
    assert file(tables).names == names


def test_the_main_file_is_the_first():
    main, one, two = file({}), file({"a": 1}), file({"b": 1})
    assert Sources(main).files == (main,)
    assert Sources(main, (one, two)).files == (main, one, two)
