"""Log lines: their format, their level, and their safety from forgery."""

import errno
import io
import json
import logging
import os
import re
import subprocess
import sys

import pytest

from ssmtunneld.base.compartment import Defects
from ssmtunneld.base.foreign import MESSAGE_LIMIT
from ssmtunneld.base.log import get_log
from ssmtunneld.base.secret import Secret
from ssmtunneld.observe import logs

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"
LEVELS = ["debug", "info", "warning", "error"]
JOURNAL = {"JOURNAL_STREAM": "8:12345"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def written(form, do=None, *, level="debug", stream=None, environ=None):
    """Return what is written while ``do``, by default one line, is done."""
    stream = stream or io.StringIO()
    logs.configure(level, form, stream=stream, environ=environ or {})
    if do is None:
        get_log(tunnel="db").info("session.ready", agent="3.3", took_ms=3)
    else:
        do()
    return stream.getvalue()


# Forms.


def test_text_has_a_time_a_level_an_event_and_facts():
    pattern = rf"{STAMP} \[info     \] session\.ready +agent=3\.3 took_ms=3 tunnel=db\n"
    for form in ("text", "auto"):
        assert re.fullmatch(pattern, written(form))


def test_json_is_one_object_a_line_and_begins_alike():
    line = written("json")
    assert line.endswith("}\n")
    found = json.loads(line)
    assert re.fullmatch(STAMP, found.pop("time"))
    assert list(found.items()) == [
        ("level", "info"),
        ("event", "session.ready"),
        ("tunnel", "db"),
        ("agent", "3.3"),
        ("took_ms", 3),
    ]


def test_json_stays_json_in_the_journal():
    assert json.loads(written("json", environ=JOURNAL))["event"] == "session.ready"


def test_json_shows_what_is_not_json_as_text(tmp_path):
    line = written("json", lambda: get_log().info("a.b", path=tmp_path))
    assert json.loads(line)["path"] == str(tmp_path)


@pytest.mark.parametrize(
    ("level", "prefix"), [*zip(LEVELS, ["<7>", "<6>", "<4>", "<3>"], strict=True)]
)
def test_the_journal_gets_levels_as_prefixes_and_no_time(level, prefix):
    line = written(
        "auto",
        lambda: getattr(get_log(tunnel="db"), level)("a.b", why="it is", n=1, empty=""),
        environ=JOURNAL,
    )
    assert line == f'{prefix}a.b tunnel=db why="it is" n=1 empty=""\n'


def test_an_event_without_facts_is_just_its_name():
    assert written("auto", lambda: get_log().info("a.b"), environ=JOURNAL) == "<6>a.b\n"


@pytest.mark.parametrize(
    ("stream", "environ", "colours"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": ""}, True),  # no-color.org: only if not empty
        (Terminal, {"NO_COLOR": "1"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_colours_are_for_terminals_of_people_who_want_them(stream, environ, colours):
    line = written("auto", stream=stream(), environ=environ)
    assert ("\x1b[" in line) is colours
    assert "session.ready" in line


def test_by_default_lines_go_to_standard_error_as_the_environment_says(
    capsys, monkeypatch
):
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    logs.configure("info", "auto")
    get_log().info("a.b")
    assert capsys.readouterr() == ("", "<6>a.b\n")


# Levels.


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_less_important_than_the_level_is_not_written(level):
    def say():
        for each in LEVELS:
            getattr(get_log(), each)(f"a.{each}")

    lines = written("auto", say, level=level, environ=JOURNAL).splitlines()
    assert [line[3:] for line in lines] == [
        f"a.{each}" for each in LEVELS[LEVELS.index(level) :]
    ]


def test_the_level_can_change_for_loggers_that_exist_already():
    def say():
        log = get_log(tunnel="db").bind(session=1)
        log.debug("a.one")
        logs.set_level("debug")
        log.debug("a.two")
        logs.set_level("error")
        log.warning("a.three")

    text = written("auto", say, level="info", environ=JOURNAL)
    assert text == "<7>a.two tunnel=db session=1\n"


# What other libraries say.


def library(level, *arguments, **keywords):
    return lambda: logging.getLogger("botocore.x").log(level, *arguments, **keywords)


def test_warnings_of_tunnels_are_left_out_until_somebody_sets_the_level():
    def do():
        log, other = get_log(tunnel="db"), get_log()
        logs.hush_tunnels()
        log.warning("session.ended")
        other.warning("login.needed")
        other.warning("files.limited")
        log.error("listener.failed")
        logs.set_level("warning")
        log.warning("connection.refused")

    events = [json.loads(line)["event"] for line in written("json", do).splitlines()]
    assert events == ["files.limited", "listener.failed", "connection.refused"]


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.WARNING, "warning"),
        (logging.ERROR, "error"),
        (logging.CRITICAL, "error"),
    ],
)
def test_a_librarys_warning_is_an_event_of_ours(level, name):
    found = json.loads(written("json", library(level, "%s is %d", "it", 3)))
    del found["time"]
    assert found == {
        "level": name,
        "event": "library.said",
        "library": "botocore.x",
        "message": "it is 3",
    }


def test_a_librarys_words_are_cut_and_cleaned_like_those_it_quotes():
    said = "Failed to parse headers: \x1b[2J\u202e\r\n" + "x" * 60_000
    found = json.loads(written("json", library(30, "%s", said)))
    assert found["message"].startswith("Failed to parse headers: xxx")
    assert len(found["message"]) == MESSAGE_LIMIT


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_a_librarys_chatter_is_never_written_whatever_our_level(level):
    assert written("json", library(level, "a token")) == ""


def test_our_level_holds_for_libraries_too():
    assert written("json", library(logging.WARNING, "x"), level="error") == ""


def test_an_exception_is_told_by_its_type_and_without_its_words():
    def fail():
        try:
            int("a token")
        except ValueError:
            logging.getLogger("asyncio").exception("it failed")

    text = written("json", fail)
    found = json.loads(text)
    assert found["caught"] == "ValueError"
    assert found["message"] == "it failed"
    assert "a token" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("environ", [{}, {"JOURNAL_STREAM": "1:2"}])
def test_an_exception_does_not_take_a_line_of_its_own(environ):
    def fail():
        try:
            int("a token")
        except ValueError:
            logging.getLogger("asyncio").exception("it failed")

    (line,) = written("text", fail, environ=environ).splitlines()
    assert "caught=ValueError" in line


def test_an_exception_that_is_none_is_not_told():
    found = json.loads(written("json", library(40, "x", exc_info=True)))
    assert "caught" not in found


@pytest.mark.parametrize(
    ("message", "arguments"),
    [("%d", ["many"]), ("%(name)s", [{"other": 1}]), ("%q", [1])],
)
def test_a_librarys_slip_does_not_become_its_end(message, arguments):
    found = json.loads(written("json", library(30, message, *arguments)))
    assert found["message"] == message


# Forgery.


FORGERIES = [
    "x\n2026-01-01T00:00:00Z [error    ] daemon.stopped",
    'x\n<0>daemon.stopped\n{"event": "daemon.stopped"}',
    "x\r\n",
    "\x1b[2K\x1b[1A\x1b[31m",
    "\x9b31m",
    "\x1b]0;title\x07",
    "x\u2028y\u2029z\x85\x0b\x0c\x1c",
    "\u202egnorw",
    "\udc80",
    "\U000e0001",
    "\x00\x7f",
]


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize(
    ("form", "environ"), [("text", {}), ("json", {}), ("auto", JOURNAL)]
)
def test_no_value_can_end_a_line_or_move_the_cursor(form, environ, forgery):
    def say():
        log = get_log(tunnel="db")
        log.info("agent.said", notice=forgery, notices=[forgery])
        log.info("a.b")

    text = written(form, say, environ=environ)
    assert text.count("\n") == 2
    assert text.replace("\n", "").isprintable()
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize("forgery", FORGERIES)
def test_json_gives_back_what_was_said(forgery):
    line = written("json", lambda: get_log().info("a.b", said=forgery))
    assert json.loads(line)["said"] == forgery


def test_what_people_write_is_left_as_it_is():
    for form, environ in (("text", {}), ("json", {}), ("auto", JOURNAL)):
        text = written(
            form, lambda: get_log().info("a.b", user="Žofie-東京"), environ=environ
        )
        assert "Žofie-東京" in text


def test_what_cannot_be_encoded_does_not_stop_the_program():
    program = (
        "from ssmtunneld.observe import logs; from ssmtunneld.base.log import get_log; "
        "logs.configure('info', 'text'); get_log().info('a.b', user='\\u017d\\udc80')"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert result.stderr.count(b"\n") == 1
    assert b"a.b" in result.stderr


# A fault that repeats.


class Clock:
    """Tells the time in nanoseconds, as the test says in seconds."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return round(self.now * 1e9)


def paced(say, *, level="info"):
    """Return the lines that ``say(log, clock)`` has written, as documents."""
    clock, stream = Clock(), io.StringIO()
    logs.configure(level, "json", stream=stream, environ={}, clock_ns=clock)
    say(get_log(tunnel="db"), clock)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("level", ["warning", "error"])
def test_a_fault_that_repeats_is_written_a_few_times_and_then_now_and_then(level):
    def say(log, clock):
        for _ in range(1000):
            getattr(log, level)("link.failed", reason="x")
        clock.now += logs.REFILL
        getattr(log, level)("link.failed", reason="y")

    lines = paced(say)
    assert len(lines) == logs.BURST + 1
    assert "suppressed" not in lines[logs.BURST - 1]
    assert (lines[-1]["reason"], lines[-1]["suppressed"]) == (
        "y",
        1000 - logs.BURST,
    )


def test_what_was_left_out_before_is_added_up():
    def say(log, clock):
        for _ in range(logs.BURST + 2):
            log.warning("connection.refused", suppressed=5)
        clock.now += logs.REFILL
        log.warning("connection.refused", suppressed=5)

    assert paced(say)[-1]["suppressed"] == 7


def test_a_quiet_time_gives_the_whole_burst_back():
    def say(log, clock):
        for _ in range(2):
            for _ in range(50):
                log.warning("link.failed")
            clock.now += 3600

    assert len(paced(say)) == 2 * logs.BURST


def test_other_tunnels_other_events_and_good_news_are_not_held_back():
    def say(log, clock):
        for _ in range(100):
            log.warning("link.failed")
            log.info("session.ready")
        log.bind(tunnel="other").warning("link.failed")
        log.warning("session.ended")

    lines = paced(say)
    assert len(lines) == logs.BURST + 100 + 2


def test_libraries_have_each_their_own_share():
    def say(log, clock):
        for _ in range(100):
            logging.getLogger("one").warning("x")
        logging.getLogger("two").warning("x")

    lines = paced(say)
    assert [line["library"] for line in lines] == ["one"] * logs.BURST + ["two"]


# The last lines.


def test_the_last_lines_are_remembered_whatever_is_written():
    logs.recent.clear()

    def say(log, clock):
        log.debug("a.debug")
        log.info("a.info", notice="\x1b[2K")
        log.warning("a.warning")

    assert paced(say, level="error") == []
    found = logs.recent.since()
    assert [event.event for event in found] == ["a.info", "a.warning"]
    assert found[0].facts == {"notice": "\\u001b[2K"}
    assert {event.tunnel for event in found} == {"db"}


def test_what_is_held_back_is_not_remembered_either():
    logs.recent.clear()

    def say(log, clock):
        for _ in range(1000):
            log.warning("link.failed")

    paced(say)
    assert len(logs.recent.since()) == logs.BURST


# A stream that takes nothing.


class Moody(io.StringIO):
    broken = False

    def write(self, text):
        if self.broken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


@pytest.mark.parametrize(
    ("form", "environ", "pattern"),
    [
        ("text", {}, rf"{STAMP} \[warning  \] log\.resumed +lost=4"),
        ("json", {}, rf'{{"time": "{STAMP}", "level": "warning", .*"lost": 4}}'),
        ("auto", JOURNAL, r"<4>log\.resumed lost=4"),
    ],
)
def test_lines_that_could_not_be_written_end_nothing_and_are_counted(
    form, environ, pattern
):
    stream = Moody()

    def say():
        get_log().info("a.before")
        stream.broken = True
        for _ in range(3):
            get_log().error("a.lost")
        logging.getLogger("library").warning("is not written either")
        # What is not to be written cannot be lost.
        get_log().debug("a.detail")
        stream.broken = False
        get_log().info("a.after")

    written(form, say, level="info", stream=stream, environ=environ)
    before, notice, after = stream.getvalue().splitlines()
    assert "a.before" in before
    assert re.fullmatch(pattern, notice)
    assert "a.after" in after


def test_what_was_lost_is_told_even_where_only_errors_are_written():
    stream = Moody()

    def say():
        stream.broken = True
        get_log().error("a.lost")
        stream.broken = False
        get_log().error("a.after")

    lines = written("auto", say, level="error", stream=stream, environ=JOURNAL)
    assert lines.splitlines() == ["<4>log.resumed lost=1", "<3>a.after"]


def test_a_process_without_standard_error_says_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    logs.configure("info", "auto")
    get_log().info("a.b")
    logs._nowhere().close()
    logs._nowhere.cache_clear()


# Length, secrets, and files that block.


@pytest.mark.parametrize("form", ["text", "json", "auto"])
@pytest.mark.parametrize("text", ["x" * 300_000, "\ud800\x00" * 5000, "ü€😀" * 5000])
def test_no_line_is_longer_than_its_limit(form, text):
    facts = {f"fact{number}": text for number in range(12)}
    lines = written(
        form,
        lambda: get_log(tunnel="db").warning("a.b", **facts, many=[text] * 3, n=1),
        environ=JOURNAL,
    )
    assert len(lines.encode("utf-8", "backslashreplace")) <= logs.LINE_LIMIT
    assert lines.count("\n") == 1
    assert "fact11" in lines
    if form == "json":
        assert json.loads(lines)["n"] == 1


def test_a_line_of_ever_so_many_facts_keeps_its_name():
    facts = {f"fact{number}": "y" for number in range(2000)}
    line = written("json", lambda: get_log().info("a.b", **facts))
    assert json.loads(line)["event"] == "a.b"
    assert len(line) <= logs.LINE_LIMIT


def test_a_long_fact_is_cut_and_says_so():
    line = written("json", lambda: get_log().info("a.b", why="z" * 5000, short="s"))
    found = json.loads(line)
    assert (len(found["why"]), found["why"][-1]) == (logs.FACT_LIMIT, "…")
    assert found["short"] == "s"


def test_other_objects_are_shown_unless_they_show_a_secret(tmp_path):
    value = "Hm3k/Wd8+" * 4
    Secret(value)

    def say():
        get_log().info("a.b", path=tmp_path, bad=tmp_path / value, many=(value, 1))

    line = json.loads(written("json", say))
    assert line["path"] == str(tmp_path)
    assert line["bad"].startswith(str(tmp_path))
    assert value[:9] not in json.dumps(line)
    assert line["many"] == ["***", 1]


@pytest.fixture
def pipe():
    """Both ends of a pipe, the writing one as a stream."""
    reading, writing = os.pipe()
    with (
        open(reading, encoding="utf-8") as source,  # noqa: PTH123 - it is open
        open(writing, "w", encoding="utf-8") as stream,  # noqa: PTH123 - as above
    ):
        yield source, stream


def test_a_file_is_written_by_a_thread_and_can_be_waited_for(pipe):
    source, stream = pipe
    logs.configure("info", "json", stream=stream, environ={})
    get_log().info("a.one")
    # A reload configures again; the lines keep their order.
    logs.configure("info", "auto", stream=stream, environ=JOURNAL)
    get_log().info("a.two")
    assert logs.flush(30)
    assert json.loads(source.readline())["event"] == "a.one"
    assert source.readline() == "<6>a.two\n"
    logs.configure("info", "auto", stream=io.StringIO(), environ={})
    assert logs.flush(0)


def test_a_sentence_for_a_person_comes_behind_the_log(pipe, monkeypatch):
    source, stream = pipe
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("info", "auto", environ=JOURNAL)
    get_log().info("a.b")
    assert logs.say("ssmtunneld: no")
    assert logs.flush(30)
    assert [source.readline() for _ in range(2)] == ["<6>a.b\n", "ssmtunneld: no\n"]
    monkeypatch.undo()
    assert not logs.say("this is another standard error")


# The log is a compartment.


class Hostile:
    """A fact that cannot be shown."""

    def __str__(self):
        raise RuntimeError("canary")

    __repr__ = __str__


@pytest.fixture
def account(monkeypatch):
    """Return what counts the lines that could not be formed, from nothing."""
    defects = Defects(logs._Nowhere())
    monkeypatch.setattr(logs, "defects", defects)

    def count():
        found = defects.snapshot(0.0)
        return {status.compartment: status.count for status in found}

    return count


@pytest.mark.parametrize("form", ["text", "json", "auto"])
def test_a_fact_that_cannot_be_shown_costs_its_own_line_only(account, form):
    def speak():
        get_log().info("a.b", why=Hostile())
        get_log().info("c.d", why="well")

    first, second = written(form, speak).splitlines()
    assert "log.failed" in first
    assert "a.b" in first
    assert "RuntimeError" in first
    assert "canary" not in first
    assert "c.d" in second
    assert account() == {"log": 1}


def test_whoever_speaks_does_not_notice_that_forming_lines_breaks(account, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("canary")

    monkeypatch.setattr(logs._Rendering, "__call__", broken)

    def speak():
        for level in LEVELS:
            getattr(get_log(), level)("a.b", n=1)
        logging.getLogger("library").error("words")

    lines = written("json", speak).splitlines()
    assert len(lines) == 5
    assert set(lines[:4]) == {"log.failed about=a.b defect=ZeroDivisionError"}
    assert account() == {"log": 5}


def test_a_notice_of_loss_that_cannot_be_formed_is_told_without_it(
    account, monkeypatch
):
    def broken(*_):
        raise ZeroDivisionError("canary")

    class Full(io.StringIO):
        full = True

        def write(self, text):
            if self.full:
                raise OSError(errno.ENOSPC, "no space")
            return super().write(text)

    stream = Full()
    logs.configure("info", "json", stream=stream, environ={})
    get_log().info("a.b")
    stream.full = False
    monkeypatch.setattr(logs._Rendering, "__call__", broken)
    get_log().info("c.d")
    assert stream.getvalue().splitlines() == [
        "log.failed about=log.resumed defect=ZeroDivisionError",
        "log.failed about=c.d defect=ZeroDivisionError",
    ]
    assert account() == {"log": 2}


def test_what_is_no_event_of_ours_is_not_repeated(account):
    (line,) = written("json", lambda: get_log().info(Hostile())).splitlines()
    assert json.loads(line)["about"] == ""
    assert account() == {"log": 1}
