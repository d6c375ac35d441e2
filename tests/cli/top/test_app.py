"""Every key of `top`, at every size, against the control socket of a daemon."""

import asyncio
import os
import signal
import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest
from textual.app import App
from textual.events import Key
from textual.widgets import Input

from ssmtunneld.cli.top.app import (
    KEYS,
    LAST_RESORT,
    MOST_ACTIONS,
    Board,
    TopApp,
    _ended_by_signals,
    _key_line,
)
from ssmtunneld.cli.top.daemon_source import DaemonSource
from ssmtunneld.cli.top.dialogs import Diagnosis, Help, Question
from ssmtunneld.cli.top.row_table import RowTable
from ssmtunneld.observe import logs
from tests.cli.household import (
    Busy,
    Household,
    connection_document,
    document,
    session_document,
    tunnel_document,
    waiting,
)
from tests.cli.household import serving as serving_alone
from tests.support.tui import await_fact, await_screen, screen_of, showing

SIZES = [(80, 24), (200, 60), (40, 10)]
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
INTERVAL = 0.2


@contextmanager
def serving(household):
    """Serve until nobody asks any more: an answer under way must not be cut off."""
    with serving_alone(household):
        yield
        for thread in threading.enumerate():
            if thread.name in {"feed", "request"}:
                thread.join(30)
                assert not thread.is_alive()


@pytest.fixture
def operator(home):
    """A daemon with three tunnels and as many connections."""
    household = Household(
        document(
            tunnel_document("db", sessions=[session_document(1)]),
            tunnel_document("web", sessions=[session_document(2)]),
            waiting("dead"),
        )
    )
    household.present = [
        connection_document("a-1"),
        connection_document("a-2", tunnel="web", program="curl"),
        connection_document("a-3", tunnel="web", program="nc"),
    ]
    logs.recent.clear()
    with serving(household):
        yield household


@asynccontextmanager
async def top(size, interval=INTERVAL):
    source = DaemonSource(None)
    first = await asyncio.to_thread(source.look)
    app = TopApp(lambda: Board(source, first, interval))
    async with showing(app, *size) as pilot:
        yield pilot


def asked(operator):
    """Return the requests that changed something."""
    return [each for each in operator.asked if each != "connections"]


async def await_asked(pilot, operator, *wanted):
    await await_fact(pilot, lambda: asked(operator) == list(wanted))


def selected(pilot):
    focused = pilot.app.screen.focused
    assert isinstance(focused, RowTable)
    return focused.pane.name, focused.selected and focused.pane.key(focused.selected)


def say(**facts):
    """Let the daemon log a line."""
    logs.recent(None, "info", {"event": "session.started", **facts})


@sizes
async def test_tunnels_come_first_and_the_keys_stand_below(operator, size):
    async with top(size) as pilot:
        lines = screen_of(pilot.app)
        assert lines[0].startswith("2 of 3 tunnels usable, 3 connections,")
        assert "Tunnels 3" in lines[1]
        assert lines[2].split()[:3] == ["NAME", "STATE", "CONNS"]
        assert lines[3].split()[:3] == ["db", "ready", "2"]
        assert lines[-1].startswith("? help  q quit")
        assert max(map(len, lines)) <= size[0]
        assert selected(pilot) == ("tunnels", "db")


@sizes
async def test_tab_goes_around_the_panes_in_both_directions(operator, size):
    say(tunnel="web", number=1)
    async with top(size) as pilot:
        seen = []
        for _ in range(4):
            await pilot.press("tab")
            seen.append(selected(pilot)[0])
        assert seen == ["connections", "sessions", "events", "tunnels"]
        await pilot.press("shift+tab")
        assert selected(pilot)[0] == "events"
        assert any("session.started" in line for line in screen_of(pilot.app))


@sizes
async def test_as_many_panes_are_shown_as_there_is_room_for(operator, size):
    async with top(size) as pilot:
        shown = [t.pane.name for t in pilot.app.screen.query(RowTable) if t.size.height]
        assert (
            shown
            == {
                24: ["tunnels", "connections"],
                60: ["tunnels", "connections", "sessions", "events"],
                10: ["tunnels"],
            }[size[1]]
        )
        await pilot.press("tab", "tab")
        shown = [t.pane.name for t in pilot.app.screen.query(RowTable) if t.size.height]
        assert "sessions" in shown
        assert len(shown) == {24: 2, 60: 4, 10: 1}[size[1]]


@sizes
async def test_arrows_choose_a_row_which_is_told_in_full(operator, size):
    async with top(size) as pilot:
        await pilot.press("down", "down")
        assert selected(pilot) == ("tunnels", "dead")
        text = "\n".join(screen_of(pilot.app))
        assert "dead: waiting: nobody answers." in text
        await pilot.press("up")
        assert selected(pilot) == ("tunnels", "web")
        assert "dead: waiting" not in "\n".join(screen_of(pilot.app))
        await pilot.press("end")
        assert selected(pilot) == ("tunnels", "dead")
        await pilot.press("home")
        assert selected(pilot) == ("tunnels", "db")
        await pilot.press("pagedown", "pageup")
        assert selected(pilot) == ("tunnels", "db")


@sizes
async def test_p_pauses_and_r_resumes_the_tunnel_of_the_row(operator, size):
    async with top(size) as pilot:
        await pilot.press("down", "p")
        await await_screen(pilot, lambda text: "web: paused" in text)
        await pilot.press("r")
        await await_asked(pilot, operator, "pause web", "resume web")
        # Of a connection's tunnel too.
        await pilot.press("tab", "p")
        await await_asked(pilot, operator, "pause web", "resume web", "pause db")


@sizes
async def test_d_asks_and_then_drains(operator, size):
    operator.cut = 1
    async with top(size) as pilot:
        await pilot.press("d")
        text = " ".join(" ".join(screen_of(pilot.app)).replace("│", " ").split())
        assert "Drain db?" in text
        assert "2 open connections may finish within drain_timeout" in text
        await pilot.press("n")
        assert not isinstance(pilot.app.screen, Question)
        assert asked(operator) == []
        await pilot.press("d", "y")
        await await_asked(pilot, operator, "drain db")
        await await_screen(
            pilot, lambda text: "had to be reset" in " ".join(text.split())
        )


@sizes
async def test_k_asks_and_then_kills_the_connection_of_the_row(operator, size):
    async with top(size) as pilot:
        await pilot.press("k")
        assert "Choose a connection first" in " ".join(screen_of(pilot.app))
        await pilot.press("tab", "down", "k")
        text = " ".join(" ".join(screen_of(pilot.app)).replace("│", " ").split())
        assert "Kill connection a-2 of web (curl, ada, 127.0.0.1:40000)?" in text
        # What moves meanwhile is not what was asked about.
        operator.present = operator.present[1:]
        await pilot.press("y")
        await await_asked(pilot, operator, "kill a-2")


@sizes
async def test_a_kill_of_what_has_ended_is_said_in_the_daemons_words(operator, size):
    async with top(size) as pilot:
        await pilot.press("tab", "k")
        operator.present = []
        await pilot.press("y")
        await await_screen(pilot, lambda text: "there is no" in text)
        assert asked(operator) == []


@sizes
async def test_a_refusal_is_said_and_nothing_stops(operator, size):
    async with top(size) as pilot:
        operator.failure = Busy("not now")
        await pilot.press("p")
        await await_screen(pilot, lambda text: "wait a moment" in text)
        operator.failure = None
        await pilot.press("p")
        await await_asked(pilot, operator, "pause db")


@sizes
async def test_d_in_capitals_shows_the_doctor(operator, size):
    async with top(size) as pilot:
        await pilot.press("D")
        assert isinstance(pilot.app.screen, Diagnosis)
        # The file of this household's daemon does not exist.
        text = await await_screen(pilot, lambda text: "does not work" in text)
        assert "doctor db" in text
        await pilot.press("escape")
        assert selected(pilot) == ("tunnels", "db")


@sizes
async def test_a_slash_filters_all_panes_as_letters_are_typed(operator, size):
    async with top(size) as pilot:
        await pilot.press("slash", *"web")
        assert isinstance(pilot.app.screen.focused, Input)
        await await_screen(pilot, lambda text: "Tunnels 1" in text and "/web" in text)
        await pilot.press("enter", "p")
        await await_asked(pilot, operator, "pause web")
        await pilot.press("tab")
        assert selected(pilot) == ("connections", "a-2")
        await pilot.press("escape")
        await await_screen(pilot, lambda text: "Connections 3" in text)
        # Keys are letters as long as they are typed; escape forgets them.
        await pilot.press("slash", *"qk", "tab")
        assert selected(pilot)[0] == "connections"
        await await_screen(pilot, lambda text: "Connections 0" in text)
        await pilot.press("slash", "escape")
        await await_screen(pilot, lambda text: "Connections 3" in text)
        assert asked(operator) == ["pause web"]


def type_at_once(pilot, *keys):
    """Let keys arrive before anything has come of the first of them."""
    letters = {"slash": "/", "tab": "\t", "down": None, "enter": "\r", "escape": None}
    for key in keys:
        pilot.app.post_message(Key(key, letters.get(key, key)))


async def test_letters_that_come_at_once_are_all_of_the_filter(operator):
    async with top((80, 24)) as pilot:
        type_at_once(pilot, "slash", *"wrpd", "slash", "k")
        await await_screen(pilot, lambda text: "/wrpd/k" in text)
        assert isinstance(pilot.app.screen, Board)
        assert asked(operator) == []


async def test_keys_that_come_at_once_act_in_their_order(operator):
    async with top((80, 24)) as pilot:
        type_at_once(pilot, "down", "p", "tab", "r")
        await await_fact(pilot, lambda: len(asked(operator)) == 2)
        assert sorted(asked(operator)) == ["pause web", "resume db"]
        type_at_once(pilot, "down", "k", "y", "tab")
        await await_fact(pilot, lambda: len(asked(operator)) == 3)
        assert asked(operator)[2] == "kill a-2"


@sizes
async def test_enter_shows_what_belongs_to_one_tunnel(operator, size):
    async with top(size) as pilot:
        await pilot.press("down", "enter", "tab")
        await await_screen(pilot, lambda text: "Connections 2" in text)
        assert selected(pilot) == ("connections", "a-2")
        assert " Connections 2  only web" in "\n".join(screen_of(pilot.app))
        await pilot.press("enter")
        await await_screen(pilot, lambda text: "Connections 3" in text)
        await pilot.press("enter")
        await await_screen(pilot, lambda text: "Connections 2" in text)
        await pilot.press("escape")
        await await_screen(pilot, lambda text: "Connections 3" in text)


async def test_a_tunnel_that_a_reload_removes_is_not_waited_for(operator):
    async with top((80, 24)) as pilot:
        await pilot.press("down", "enter")
        await await_screen(pilot, lambda text: "Connections 2" in text)
        operator.documents = [document(tunnel_document("db"))]
        await await_screen(pilot, lambda text: "Connections 3" in text)


@sizes
async def test_a_question_mark_shows_every_key(operator, size):
    async with top(size) as pilot:
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, Help)
        content = str(pilot.app.screen.query("Static").last().content)
        for key, _, sentence in KEYS:
            assert f"{key} " in content
            assert sentence in content
        await pilot.press("escape")
        assert selected(pilot) == ("tunnels", "db")


@sizes
@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_q_and_ctrl_c_quit(operator, size, key):
    async with top(size) as pilot:
        await pilot.press(key)
        assert pilot.app._exit


@pytest.mark.parametrize("key", ["question_mark", "d", "slash"])
async def test_ctrl_c_quits_from_everywhere(operator, key):
    async with top((80, 24)) as pilot:
        await pilot.press(key, "ctrl+c")
        assert pilot.app._exit


async def test_a_drain_that_lasts_keeps_nobody_from_quitting(operator):
    class Endless(DaemonSource):
        def drain(self, _):
            draining.set()
            released.wait()
            return "drained"

    draining, released = threading.Event(), threading.Event()
    source = Endless(None)
    app = TopApp(lambda: Board(source, source.look(), INTERVAL))
    async with showing(app) as pilot:
        await pilot.press("d", "y")
        await await_screen(pilot, lambda text: "db: drains" in text)
        assert draining.wait(30)
        await pilot.press("q")
        assert pilot.app._exit
    released.set()


async def test_only_so_many_requests_wait_at_once(operator):
    class Stuck(DaemonSource):
        def pause(self, tunnel):
            free.wait(30)
            return super().pause(tunnel)

    free = threading.Event()
    source = Stuck(None)
    app = TopApp(lambda: Board(source, source.look(), INTERVAL))
    async with showing(app) as pilot:
        await pilot.press(*["p"] * (MOST_ACTIONS + 2))
        await await_screen(pilot, lambda text: "Too many requests" in text)
        free.set()
        await await_asked(pilot, operator, *["pause db"] * MOST_ACTIONS)


@sizes
async def test_news_appear_by_themselves(operator, size):
    async with top(size) as pilot:
        operator.documents = [document(tunnel_document("db", state="paused"))]
        operator.present = operator.present[:1]
        text = await await_screen(pilot, lambda text: "1 connection," in text)
        assert "paused" in text


@sizes
async def test_a_daemon_that_goes_is_said_to_and_the_next_one_is_followed(home, size):
    sent = document(tunnel_document(sent=10**6, sessions=[session_document()]))
    with serving(Household(sent)):
        source = DaemonSource(None)
        first = await asyncio.to_thread(source.look)
    app = TopApp(lambda: Board(source, first, INTERVAL))
    with ExitStack() as stack:
        async with showing(app, *size) as pilot:
            text = await await_screen(
                pilot, lambda text: text.startswith("no daemon runs (for ")
            )
            assert "db" in text  # the last that was known
            following = Household(document(tunnel_document("new"), pid=8))
            stack.enter_context(serving(following))
            text = await await_screen(pilot, lambda text: "new" in text)
            assert text.startswith("1 of 1 tunnel usable")
            assert "restarted 1x meanwhile" in text or size[0] < 200
            await pilot.press("p")
            await await_screen(pilot, lambda text: "new: paused" in text)


@sizes
async def test_a_daemon_without_tunnels_has_no_rows_for_the_keys(home, size):
    with serving(Household(document())):
        async with top(size) as pilot:
            assert "no tunnels" in "\n".join(screen_of(pilot.app))
            await pilot.press("enter", "down", "p", "r", "d", "D")
            await await_screen(pilot, lambda text: "No tunnel here" in text)
            assert isinstance(pilot.app.screen, Board)
            await pilot.press("tab", "k")
            await await_screen(pilot, lambda text: "Choose a connection" in text)
            assert isinstance(pilot.app.screen, Board)


async def test_text_from_elsewhere_is_neither_markup_nor_escapes(home):
    words = "[red]x[/red] \x1b[31m"
    told = document(waiting("db", reason=words, advice=words), config=f"/{words}")
    household = Household(told)
    household.present = [connection_document("a-1", user=words, program=words)]
    household.failure = None
    logs.recent.clear()
    with serving(household):
        async with top((200, 60)) as pilot:
            text = "\n".join(screen_of(pilot.app))
            assert text.count("[red]x[/red] \\u001b[31m") >= 5
            assert "\x1b" not in text
            household.failure = Busy(words)
            await pilot.press("p")
            text = await await_screen(pilot, lambda text: "wait a moment" in text)
            assert "\x1b" not in text


async def test_notices_have_lines_of_their_own_where_there_is_room(home):
    audit = {"file": "/var/audit", "reason": "disk full", "lost": 3}
    with serving(Household(document(tunnel_document(), audit=audit))):
        async with top((80, 24)) as pilot:
            lines = screen_of(pilot.app)
            assert lines[1].startswith("audit log /var/audit cannot be written")
            assert "Tunnels 1" in lines[2]
            await pilot.resize_terminal(40, 10)
            await pilot.pause()
            assert "Tunnels 1" in screen_of(pilot.app)[1]


async def test_the_mouse_goes_to_another_pane(operator):
    async with top((80, 24)) as pilot:
        await pilot.click("#connections", offset=(2, 2))
        assert selected(pilot) == ("connections", "a-2")


async def test_another_size_is_another_arrangement(operator):
    async with top((80, 24)) as pilot:
        await pilot.press("tab", "down")
        await pilot.resize_terminal(200, 60)
        await pilot.pause()
        assert "Sessions 2" in "\n".join(screen_of(pilot.app))
        assert selected(pilot) == ("connections", "a-2")
        await pilot.resize_terminal(40, 10)
        await pilot.pause()
        assert selected(pilot) == ("connections", "a-2")


@pytest.mark.parametrize("width", [1, 5, 20, 40, 80, 200])
def test_the_line_of_keys_never_ends_within_one(width):
    line = _key_line(width)
    assert len(line) <= width
    assert len(line.split("  ")) <= len(KEYS)
    if width >= 40:
        assert "  / filter" in line


def test_no_two_keys_are_the_same():
    bound = {key for binding in Board.BINDINGS for key in binding.key.split(",")}
    names = {"?": "question_mark", "/": "slash"}
    for key, _, _ in KEYS:
        wanted = names.get(key, key.lower() if len(key) > 1 else key)
        assert wanted in bound | {"enter"}


async def test_a_signal_ends_the_app_and_a_terminal_that_takes_nothing_cannot_hold_it():
    before = signal.getsignal(signal.SIGTERM)
    app = App(ansi_color=True)
    with _ended_by_signals(app):
        async with showing(app) as pilot:
            os.kill(os.getpid(), signal.SIGTERM)
            assert 0 < signal.alarm(LAST_RESORT) <= LAST_RESORT
            await await_fact(pilot, lambda: app._exit)
    assert signal.alarm(0) == 0
    assert signal.getsignal(signal.SIGTERM) == before


async def ended_by(breaking, apps):
    """Run it until a defect has ended it; the app is the last one of ``apps``."""
    async with top((80, 24)) as pilot:
        apps.append(pilot.app)
        await breaking(pilot)
        await await_fact(pilot, lambda: pilot.app.defect is not None)


async def test_a_defect_ends_it_and_nothing_of_its_values_is_shown(
    operator, monkeypatch
):
    def break_down(_board, token="hunter2"):
        raise ValueError(f"no such {token}")

    async def press(pilot):
        monkeypatch.setattr(Board, "action_help", break_down)
        await pilot.press("question_mark")

    apps = []
    with pytest.raises(ValueError, match="hunter2"):  # which a pilot raises again
        await ended_by(press, apps)
    (app,) = apps
    assert app.defect.kind == "ValueError"
    assert app.defect.origin.startswith("top/test_app.py:")
    # What textual would print at the end.
    assert app._exit_renderables == []


async def test_a_defect_of_another_thread_ends_it_too(operator):
    async def break_down(pilot):
        await asyncio.to_thread(pilot.app.take_defect, KeyError("hunter2"))

    apps = []
    with pytest.raises(KeyError):
        await ended_by(break_down, apps)
    assert str(apps[0].defect).startswith("defect: KeyError at ")


async def test_an_error_that_draws_itself_is_not_drawn(operator):
    class Drawn(Exception):
        def __rich__(self):
            return "hunter2"

    async def break_down(pilot):
        pilot.app.take_defect(Drawn())

    apps = []
    with pytest.raises(Drawn):
        await ended_by(break_down, apps)
    assert apps[0]._exit_renderables == []
