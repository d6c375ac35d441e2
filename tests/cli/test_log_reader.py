"""Lines of a log, from commands that print them and from a daemon that remembers."""

import os
import sys
import time
from itertools import islice

import pytest

from ssmtunneld.base.threads import NoThread
from ssmtunneld.cli import log_reader
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.log_reader import (
    event_line,
    file_command,
    journal_command,
    last,
    look_back,
    of_tunnel,
    printed,
    remembered,
)
from tests.support.threads import no_thread


def event(number, name="link.lost", tunnel="db", **facts):
    return {
        "number": number,
        "time": "2026-11-29T10:00:03.412Z",
        "level": "warning",
        "event": name,
        "tunnel": tunnel,
        "facts": facts,
    }


def program(text):
    return [sys.executable, "-c", text]


@pytest.fixture
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_an_event_is_a_line_that_people_read(utc):
    assert event_line(event(1, reason="gone away", n="3", none="")) == (
        '2026-11-29 10:00:03 warning link.lost db reason="gone away" n=3 none=""'
    )
    assert event_line({**event(1, tunnel=None), "level": "info", "time": "soon"}) == (
        "soon info    link.lost"
    )


def test_a_program_whose_lines_no_thread_can_read_is_ended():
    forever = program("while True: print(flush=True)")
    with no_thread(), pytest.raises(NoThread):
        next(printed(forever))


def test_an_event_cannot_move_the_cursor():
    line = event_line(event(1, tunnel="\x1b[2J", why="a\nb\x07"))
    assert line.isprintable()
    assert "\\u001b[2J" in line


@pytest.mark.parametrize(
    ("line", "whose"),
    [
        ("link.lost tunnel=db reason=x", True),
        ("link.lost reason=x tunnel=db", True),
        ('{"event": "link.lost", "tunnel": "db", "n": 1}', True),
        ("link.lost tunnel=db-2", False),
        ("link.lost tunnel=my-db", False),
        ("reload.applied changed=db", False),
        ("daemon.ready", False),
    ],
)
def test_lines_of_one_tunnel_are_told_from_others(line, whose):
    assert of_tunnel("db")(line) is whose
    assert of_tunnel(None)(line)


def test_it_looks_further_back_for_one_tunnel_but_not_for_ever():
    assert look_back(50, None) == 50
    assert look_back(50, "db") == 1000
    assert look_back(10_000, "db") == log_reader.LONGEST_LOOK


def test_the_journal_is_asked_by_unit(monkeypatch):
    monkeypatch.setattr(log_reader.shutil, "which", lambda _: "/bin/journalctl")
    command = journal_command("x.service", user=True, lines=7, follow=True)
    assert command[:2] == ["journalctl", "--user"]
    assert {"--lines=7", "--follow", "--unit=x.service", "--no-pager"} <= set(command)
    command = journal_command("x.service", user=False, lines=7, follow=False)
    assert not {"--user", "--follow"} & set(command)
    monkeypatch.setattr(log_reader.shutil, "which", lambda _: None)
    assert journal_command("x.service", user=False, lines=7, follow=False) is None


@pytest.mark.parametrize("follow", [False, True])
def test_a_file_is_read_from_its_end(tmp_path, follow):
    path = tmp_path / "-log"
    path.write_text("".join(f"{n}\n" for n in range(100)))
    lines = printed(file_command(str(path), lines=3, follow=follow))
    assert list(islice(lines, 3)) == ["97", "98", "99"]
    if follow:
        with path.open("a") as file:
            file.write("100\n")
        assert next(lines) == "100"
    lines.close()


def test_what_is_printed_is_harmless_and_its_program_ended():
    text = (
        "import os; print(os.getpid()); print('a\\x1b[2J\\tb', flush=True);"
        "import time; time.sleep(1e6)"
    )
    lines = printed(program(text))
    pid = int(next(lines))
    assert next(lines) == "a\\u001b[2J\\tb"
    lines.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/nowhere/journalctl"], "cannot be run: No such file"),
        (program("raise SystemExit('not\\x07 allowed')"), "status 1: not\\u0007 allow"),
    ],
)
def test_a_command_that_fails_says_why(command, words):
    with pytest.raises(CommandError, match=r"cannot be run|ended with") as caught:
        list(printed(command))
    assert words in str(caught.value)


def test_a_command_that_complains_much_is_not_waited_for():
    text = "import sys; sys.stderr.write('x\\n' * 200_000); print('done')"
    assert list(printed(program(text))) == ["done"]


def test_the_last_lines_are_kept():
    assert list(last(iter("abcde"), 2)) == ["d", "e"]


class Daemons:
    """Daemons that come one after the other, and what they remember."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, after):
        self.asked.append(after)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        shown = [e for e in answer if e["number"] > after]
        return {"events": shown, "newest": answer[-1]["number"] if answer else 0}


def names(lines):
    return [" ".join(line.split()[3:5]) for line in lines]


def test_a_daemon_remembers_the_past():
    events = [event(1, "a.a"), event(2, "b.b", "web"), event(3, "c.c", None)]
    found = remembered(Daemons(events), None, count=2, follow=False)
    assert names(found) == ["b.b web", "c.c"]
    found = remembered(Daemons(events), "db", count=2, follow=False)
    assert names(found) == ["a.a db"]


def test_it_follows_the_daemon_and_the_one_after_it(monkeypatch):
    monkeypatch.setattr(log_reader, "INTERVAL", 0.0)
    first = [event(1, "a.a"), event(2, "b.b")]
    second = [event(1, "e.e")]
    daemons = Daemons(
        first,
        first,
        [*first, event(3, "c.c"), event(4, "d.d")],
        CommandError("no daemon runs"),
        CommandError("no daemon runs"),
        second,
        second,
        [*second, event(9, "f.f")],
        CommandError("gone again"),
        [event(9, "f.f"), event(10, "g.g")],
    )
    missed = []
    found = remembered(daemons, None, count=1, follow=True, missed=missed.append)
    lines = list(islice(found, 6))
    assert names(lines[:4]) == ["b.b db", "c.c db", "d.d db", "e.e db"]
    assert lines[4] == "(7 more that are forgotten)"
    assert names(lines[5:]) == ["f.f db"]
    assert daemons.asked == [0, 2, 2, 4, 4, 4, 0, 1]
    assert names([next(found)]) == ["g.g db"]
    assert [str(error) for error in missed] == ["no daemon runs", "gone again"]
