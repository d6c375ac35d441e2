"""Paths that lead somewhere, and paths that do not."""

from pathlib import Path

from ssmtunneld.base.paths import real_path


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
