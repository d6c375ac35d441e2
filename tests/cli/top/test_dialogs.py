"""Questions, the keys, and the doctor's words."""

import os
import re
import sys
import threading
from pathlib import Path

import pytest
from textual.app import App
from textual.widgets import RichLog

from ssmtunneld.cli.top.dialogs import Diagnosis, Help, Question
from tests.support.tui import await_fact, await_screen, screen_of, showing

SIZES = [(80, 24), (200, 60), (40, 10)]
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
QUESTION = "Drain db? It has [b]2[/b] connections and \x1b[31mmore words than fit. " * 2


@sizes
@pytest.mark.parametrize(
    ("key", "yes"),
    [("y", True), ("Y", True), *((k, False) for k in ("n", "escape", "enter", "q"))],
)
async def test_only_y_is_yes(size, key, yes):
    answers = []
    async with showing(App(ansi_color=True), *size) as pilot:
        await pilot.app.push_screen(Question(QUESTION), answers.append)
        await pilot.pause()
        text = " ".join(" ".join(screen_of(pilot.app)).replace("│", " ").split())
        assert "[b]2[/b]" in text
        assert "\\u001b[31mmore" in text
        assert "y yes n no" in text
        await pilot.press("x", key)
        assert answers == [yes]


@sizes
@pytest.mark.parametrize("key", ["escape", "q", "question_mark", "enter"])
async def test_the_keys_are_shown_and_closed(size, key):
    async with showing(App(ansi_color=True), *size) as pilot:
        await pilot.app.push_screen(Help([("p", "Pause it"), ("Tab", "Next")]))
        await pilot.pause()
        text = "\n".join(screen_of(pilot.app))
        assert "p    Pause it" in text
        assert "Tab  Next" in text
        await pilot.press(key)
        assert not isinstance(pilot.app.screen, Help)


@pytest.fixture
def doctor(monkeypatch, tmp_path):
    """A stand-in for the interpreter that the doctor is started with."""

    def be(script):
        program = tmp_path / "python"
        program.write_text(f"#!{sys.executable}\n{script}")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return be


@sizes
async def test_the_doctors_words_are_shown_as_they_come(size, doctor):
    doctor(
        "import sys\n"
        "print(sys.argv[1:])\n"
        "print('  [fail]  \\x1b[31m[red]dns[/red]: no')\n"
        "print('          cure: ask')\n"
        "sys.exit(1)\n"
    )
    async with showing(App(ansi_color=True), *size) as pilot:
        await pilot.app.push_screen(Diagnosis("db", Path("/etc/c.toml")))
        text = await await_screen(pilot, lambda text: "does not work" in text)
        assert "doctor db" in text
        lines = pilot.app.screen.query_one(RichLog).lines
        whole = "".join(line.text for line in lines).replace(" ", "")
        assert "doctor','--config','/etc/c.toml','--','db']" in whole
        assert "\\u001b[31m[red]dns[/red]:no" in whole
        await pilot.press("escape")
        assert not isinstance(pilot.app.screen, Diagnosis)


LONG = " ".join(f"item{number:03}" for number in range(400))
"""More than a screen: a bar comes to scroll with."""


def shown_words(app):
    """Return the words of `LONG` that can be read, none of them cut."""
    return re.findall(r"\bit\w*", "\n".join(screen_of(app)))


@sizes
async def test_the_doctors_long_lines_are_wrapped_at_any_width(size, doctor):
    doctor(f"print('short')\nprint({LONG!r})\n")
    async with showing(App(ansi_color=True), *size) as pilot:
        await pilot.app.push_screen(Diagnosis("db", Path("c.toml")))
        await await_screen(pilot, lambda text: "the tunnel works" in text)
        log = pilot.app.screen.query_one(RichLog)
        columns, rows = size
        for width in (columns, columns - 11, columns + 7):
            await pilot.resize_terminal(width, rows)
            await await_fact(pilot, lambda w=width: log.outer_size.width == w)
            await pilot.pause()
            text = " ".join(line.text for line in log.lines).split()
            assert text == ["short", *LONG.split(), "the", "tunnel", "works"]
            words = shown_words(pilot.app)
            assert words
            assert words == LONG.split()[-len(words) :]
            assert not log.show_horizontal_scrollbar


async def test_a_tunnel_that_works_is_said_to(doctor):
    doctor("print('fine')")
    async with showing(App(ansi_color=True)) as pilot:
        await pilot.app.push_screen(Diagnosis("db", Path("c.toml")))
        await await_screen(pilot, lambda text: "the tunnel works" in text)


async def test_a_doctor_that_cannot_be_run_is_said_to(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    async with showing(App(ansi_color=True)) as pilot:
        await pilot.app.push_screen(Diagnosis("db", Path("c.toml")))
        await await_screen(pilot, lambda text: "cannot be run: No such file" in text)


@pytest.mark.parametrize("close", ["key", "quit"])
async def test_a_doctor_whom_nobody_hears_ends_as_by_ctrl_c(doctor, tmp_path, close):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    doctor(
        "import signal\n"
        # In case we were started with "&".
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print('begun', flush=True)\n"
        "try:\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        f"    open({str(pipe)!r}, 'w').write('cleaned up')\n"
    )
    heard = []
    reader = threading.Thread(
        target=lambda: heard.append(pipe.read_text()), daemon=True
    )
    reader.start()
    async with showing(App(ansi_color=True)) as pilot:
        await pilot.app.push_screen(Diagnosis("db", Path("c.toml")))
        await await_screen(pilot, lambda text: "begun" in text)
        if close == "key":
            await pilot.press("escape")
    reader.join(30)
    assert heard == ["cleaned up"]
