"""Every command of the pages is typed by a test, or is listed with a reason."""

import importlib
from pathlib import Path

import pytest

from tests.typed import page
from tests.typed.elsewhere import ELSEWHERE
from tests.typed.page import Page, Script, looks_like

PAGES = (
    "README.md",
    *(f"docs/tasks/{name}.md" for name in ("access", "clusters", "sleeping", "team")),
    *(f"docs/{name}.md" for name in ("audit", "commands", "configuration")),
    *(f"docs/{name}.md" for name in ("databases", "guide", "metrics")),
)
_HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def played():
    """Pairs of page and section that tests play."""
    for file in _HERE.glob("test_*.py"):
        importlib.import_module(f"tests.typed.{file.stem}")
    return page.PLAYED


@pytest.mark.parametrize("path", PAGES)
def test_every_command_is_typed_or_has_a_reason(path, played):
    # That a section's test takes all of them is its script's to check.
    reasons = ELSEWHERE.get(path, {})
    left = [
        command
        for command in Page(path).commands()
        if command.words not in reasons and (path, command.section) not in played
    ]
    assert left == []


def test_every_reason_is_for_a_command_that_is_there():
    for path, reasons in ELSEWHERE.items():
        assert path in PAGES
        assert reasons.keys() <= {c.words for c in Page(path).commands()}, path
        assert all(reasons.values())


def test_every_page_that_is_played_is_looked_through(played):
    assert {path for path, _ in played} == set(PAGES)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a page with this text."""
    monkeypatch.setattr(page, "ROOT", tmp_path)

    def write(text):
        (tmp_path / "page.md").write_text(text)
        return Page("page.md")

    return write


def test_commands_are_read_as_they_stand(written):
    found = written(
        "1. First:\n\n   ```sh\n   a --b  # why\n   # nothing\n   c\n   ```\n\n"
        "   ```\n   says c\n   ```\n\n"
        "## The `d`\n\n```console\n$ d 1\nsaid\n$ e\n```\n\n```toml\nx = 1\n```\n"
    )
    assert [(c.text, c.section, c.shown) for c in found.commands()] == [
        ("a --b  # why", "", ""),
        ("c", "", "says c\n"),
        ("d 1", "The d", "said\n"),
        ("e", "The d", ""),
    ]
    assert found.block("The d") == "x = 1\n"


def test_a_command_that_nobody_takes_is_found(written):
    script = Script(written("```sh\na\nb\nc\n```\n"), "", {"b": "it cannot run"})
    assert script.next("a").text == "a"
    with pytest.raises(AssertionError, match="not typed"):
        script.end()
    with pytest.raises(AssertionError, match="expected d"):
        script.next("d")


def test_ids_and_times_may_differ_and_nothing_else():
    shown = "x: access request oi-0123456789ab\nx: ready, with keys until 15:04\n"
    said = "x: access request oi-00ff00ff00ff\nx: ready, with keys until 09:30\n"
    assert looks_like(said, shown)
    assert not looks_like(said.replace("ready", "here"), shown)
    assert not looks_like(said.replace("oi-00", "oi-"), shown)
