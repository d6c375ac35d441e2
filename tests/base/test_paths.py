"""Paths that lead somewhere, and paths that do not."""

import os
import pwd
from pathlib import Path

import pytest

from ssmtunneld.base.paths import (
    exists,
    expanded,
    home,
    is_file,
    is_link,
    listed,
    real_path,
)


def test_links_are_followed(tmp_path):
    (tmp_path / "link").symlink_to("file")
    assert real_path(tmp_path / "link") == tmp_path.resolve() / "file"


def test_links_that_go_round_and_folders_that_are_gone_raise_nothing(
    tmp_path, monkeypatch
):
    (tmp_path / "round").symlink_to("round")
    assert real_path(tmp_path / "round").name == "round"
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert real_path(Path("a.toml")).name == "a.toml"


@pytest.mark.parametrize(
    ("variable", "folder"), [("/home/me", "/home/me"), ("/a/", "/a"), ("a", "/")]
)
def test_the_home_is_what_the_variable_says_if_that_leads_somewhere(
    monkeypatch, variable, folder
):
    monkeypatch.setenv("HOME", variable)
    assert home() == Path(folder)


def test_a_user_whom_nobody_knows_is_at_home_where_containers_have_them(monkeypatch):
    monkeypatch.delenv("HOME")
    assert home() == Path(pwd.getpwuid(os.getuid()).pw_dir)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert home() == Path("/")
    assert expanded("~/a") == Path("~/a")


def test_the_home_of_a_user_who_is_not_there_is_not_replaced(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/a") == Path("/home/me/a")
    assert expanded("~no such user/a") == Path("~no such user/a")
    assert expanded("/a~") == Path("/a~")


def test_what_cannot_be_looked_at_is_not_there(tmp_path):
    (tmp_path / "file").touch()
    assert is_file(tmp_path / "file")
    assert exists(tmp_path)
    assert not is_file(tmp_path)
    # Too long for the file system, and for any: stat says more than "not there".
    for name in ("x" * 300, "a/" * 3000, "a\0b"):
        assert not is_file(tmp_path / name)
        assert not exists(tmp_path / name)
        assert not is_link(tmp_path / name)
        assert listed(tmp_path / name, "*") == []


def test_a_link_is_one_wherever_it_leads(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    assert is_link(tmp_path / "link")
    assert not is_link(tmp_path)


def test_what_is_in_a_folder_is_sorted(tmp_path):
    for name in ("b.a", "a.a", "a.b"):
        (tmp_path / name).touch()
    assert listed(tmp_path, "*.a") == [tmp_path / "a.a", tmp_path / "b.a"]
    assert listed(tmp_path / "none", "*.a") == []
