"""The application behind ``ssmtunneld top``: panes, keys, and who does what they say.

What waits for the daemon runs in threads; they talk to the screen by messages.
"""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from rich.cells import cell_len
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Resize
from textual.message import Message
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Input, Static
from typing_extensions import override

from ssmtunneld.base.compartment import Defect
from ssmtunneld.base.threads import NoThread, start
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.cli.main import describe
from ssmtunneld.cli.terminal.live import Flows
from ssmtunneld.cli.terminal.text import counted, duration, printable
from ssmtunneld.cli.top.daemon_source import INTERVAL, DaemonSource, Feed, Snapshot
from ssmtunneld.cli.top.dialogs import Diagnosis, Help, Question
from ssmtunneld.cli.top.panes import (
    CONNECTIONS,
    PANES,
    TUNNELS,
    Pane,
    Row,
    head,
    matching,
    notices,
)
from ssmtunneld.cli.top.row_table import RowTable

TALL: Final = 40
"""Lines from which all panes have room."""
SHORT: Final = 16
"""Lines below which only one pane has room."""
MOST_NOTICES: Final = 3
MOST_ACTIONS: Final = 8
"""Requests that may be under way; a drain takes as long as it takes."""
SAID_FOR: Final = 8.0
"""Seconds for which it is shown what has come of a request."""
_REPORT: Final = "this is a defect of ssmtunneld, please report it with this line"
LAST_RESORT: Final = 3
"""Seconds after a signal that the end waits for the terminal, at most."""

KEYS: Final = (
    ("?", "help", "Show these keys"),
    ("q", "quit", "Quit; so does Ctrl-C"),
    ("Tab", "pane", "Go to the next pane; Shift-Tab to the one before"),
    ("/", "filter", "Show only rows with these letters; Esc shows all again"),
    ("p", "pause", "Pause the tunnel of the row: take no new connections"),
    ("r", "resume", "Resume it: take connections again"),
    ("d", "drain", "Drain it: let its connections end, and take no new ones"),
    ("k", "kill", "Kill the connection of the row: its client sees a reset"),
    ("D", "doctor", "Diagnose the tunnel of the row, hop by hop"),
    ("Enter", "only it", "Show only what belongs to the tunnel of the row; again: all"),
)
"""Key, word and sentence; where there is little room, the first words are shown."""
_MORE_KEYS: Final = (
    ("Arrows", "Choose a row; so do Page up, Page down, Home, End and the mouse"),
    ("Ctrl-Z", "Suspend to the shell"),
)

# The terminal's own colours, whatever they are: its user has chosen them.
_THEME: Final = Theme(
    name="terminal",
    primary="ansi_blue",
    secondary="ansi_cyan",
    warning="ansi_yellow",
    error="ansi_red",
    success="ansi_green",
    accent="ansi_cyan",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
)


@dataclass
class Told(Message):
    """The daemon has told something, or has not."""

    what: Snapshot | CommandError


@dataclass
class Done(Message):
    """A request has ended."""

    words: str
    failed: bool = False


def _wall_clock() -> float:
    return time.time_ns() / 1e9


class Section(Vertical):
    """A pane with its title."""

    DEFAULT_CSS = """
    Section { height: 1fr; }
    Section > Static { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, pane: Pane) -> None:
        super().__init__()
        self.table = RowTable(pane)
        self.title = Static("", markup=False)

    @override
    def compose(self) -> ComposeResult:
        """Put the title above the rows."""
        yield self.title
        yield self.table


class Board(Screen[None]):
    """The panes of a daemon.

    Args:
        source: The daemon.
        first: What it has told before.
        interval: Seconds between two looks at it.
        wall_clock: Tells Unix seconds.
    """

    DEFAULT_CSS = """
    Board > #head, Board > #notices, Board > #keys {
        height: 1; text-wrap: nowrap; text-overflow: ellipsis;
    }
    Board > #notices { height: auto; max-height: 3; color: $warning; }
    Board > #detail { height: 3; }
    Board > Input { height: 1; border: none; padding: 0; display: none; }
    Board > Input:focus { border: none; }
    Board > #head.-lost { color: $error; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        # By priority, so that they act in the order in which they were typed: others
        # wander from widget to widget, and one might meet what the next has changed.
        Binding(key, action, description, priority=True)
        for key, action, description in (
            ("question_mark", "help", "Help"),
            ("q", "leave", "Quit"),
            ("tab", "pane(1)", "Next pane"),
            ("shift+tab", "pane(-1)", "Previous pane"),
            ("slash", "filter", "Filter"),
            ("escape", "widen", "Show all"),
            ("p", "tell('pause')", "Pause"),
            ("r", "tell('resume')", "Resume"),
            ("d", "drain", "Drain"),
            ("k", "kill", "Kill"),
            ("D", "doctor", "Doctor"),
            ("ctrl+z", "suspend", "Suspend"),
        )
    ]

    def __init__(
        self,
        source: DaemonSource,
        first: Snapshot,
        interval: float = INTERVAL,
        wall_clock: Callable[[], float] = _wall_clock,
    ) -> None:
        super().__init__()
        self._source = source
        self._snapshot = first
        self._wall_clock = wall_clock
        self._flows = Flows()
        self._lost: tuple[float, str] | None = None
        self._feed = Feed(source, self._on_look, interval)
        self._sections = {pane.name: Section(pane) for pane in PANES}
        self._here = TUNNELS
        self._below = CONNECTIONS
        self._filter = ""
        self._only: str | None = None
        self._said: tuple[float, Text] | None = None
        self._busy = threading.Semaphore(MOST_ACTIONS)

    @override
    def compose(self) -> ComposeResult:
        """Put everything from top to bottom."""
        yield Static("", id="head", markup=False)
        yield Static("", id="notices", markup=False)
        yield from self._sections.values()
        yield Static("", id="detail", markup=False)
        yield Input(placeholder="filter; Enter keeps it, Esc ends it", compact=True)
        yield Static("", id="keys", markup=False)

    def on_mount(self) -> None:
        """Show what is known, and begin to look."""
        self._take(self._snapshot)
        self._go_to(TUNNELS)
        self._feed.start()

    def on_unmount(self) -> None:
        """Look no more."""
        self._feed.stop()

    # What the daemon tells.

    def _on_look(self, told: Snapshot | CommandError) -> None:
        """Pass on what a look has found; called in the feed's thread."""
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self.post_message(Told(told))

    def on_told(self, message: Told) -> None:
        """Show a snapshot, or that there is none."""
        if isinstance(message.what, Snapshot):
            self._take(message.what)
            return
        now = self._wall_clock()
        since = self._lost[0] if self._lost else now
        self._lost = since, str(message.what)
        self._show_head(now)
        self._show_detail()
        for table in self._tables():
            table.become_stale(stale=True)

    def _take(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._lost = None
        self._flows.observe(snapshot.status, snapshot.at)
        names = {tunnel["name"] for tunnel in snapshot.status["tunnels"]}
        if self._only not in names:
            self._only = None
        for table in self._tables():
            table.become_stale(stale=False)
        self._show_rows()
        self._show_head(self._wall_clock())

    def _show_head(self, now: float) -> None:
        status, connections = self._snapshot.status, self._snapshot.connections
        line = self.query_one("#head", Static)
        line.set_class(self._lost is not None, "-lost")
        if self._lost is not None:
            since, reason = self._lost
            _put(line, f"{printable(reason)} (for {duration(now - since)}); waiting")
        else:
            count = len(connections["connections"]) + connections["more"]
            _put(line, head(status, count, self._flows.restarts))
        lines = notices(status, now)[:MOST_NOTICES]
        below = self.query_one("#notices", Static)
        below.display = bool(lines) and self.size.height >= SHORT
        _put(below, "\n".join(lines))

    # Rows.

    def _tables(self) -> Iterator[RowTable]:
        for section in self._sections.values():
            yield section.table

    def _show_rows(self, *, anew: bool = False) -> None:
        for section in self._sections.values():
            section.table.show(self._rows_of(section.table.pane), anew=anew)
        self._show_titles()

    def _rows_of(self, pane: Pane) -> Sequence[Row]:
        rows = pane.rows(self._snapshot, self._flows)
        if self._only is not None and pane is not TUNNELS:
            rows = [row for row in rows if pane.tunnel(row) == self._only]
        return matching(rows, pane.columns, self._filter) if self._filter else rows

    def _show_titles(self) -> None:
        """Title the panes: each above its own, or next to another if space is short."""
        for section in self._sections.values():
            if not section.display:
                continue
            text = Text()
            for pane in self._beside(section.table.pane):
                text.append("  " if text else "")
                style = "bold reverse" if pane is self._here else "bold"
                shown = section.table.pane is pane
                text.append(f" {self._title(pane)} ", style if shown else "")
                if pane is self._here:
                    # Here and not at the end, where there may be no room.
                    text.append(self._limits(), "yellow")
            if text != section.title.content:
                section.title.update(text)

    def _beside(self, pane: Pane) -> Sequence[Pane]:
        """Return the panes that are named in the title of ``pane``."""
        if self.size.height >= TALL:
            return (pane,)
        if self.size.height < SHORT:
            # This one first, and then as Tab goes.
            index = PANES.index(pane)
            return (*PANES[index:], *PANES[:index])
        return (pane,) if pane is TUNNELS else PANES[1:]

    def _title(self, pane: Pane) -> str:
        return f"{pane.title} {self._sections[pane.name].table.count}"

    def _limits(self) -> str:
        """Return what keeps rows from being shown."""
        only = f" only {self._only}" if self._only is not None else ""
        letters = f" /{printable(self._filter)}" if self._filter else ""
        return only + letters

    def on_row_table_selected(self, message: RowTable.Selected) -> None:
        """Show in full what is selected."""
        if message.table.pane is self._here:
            self._show_detail()

    def _show_detail(self) -> None:
        """Show the selected row in full, or what has just come of a request."""
        line = self.query_one("#detail", Static)
        row = self._sections[self._here.name].table.selected
        text = Text("") if row is None else self._here.detail(row)
        said = self._said
        if said is not None and self._source.clock() < said[0]:
            text = said[1]
        else:
            said = self._said = None
        # Of one height, whatever is selected: nothing jumps.
        line.styles.height = 3 if said or self.size.height >= SHORT else 1
        if text != line.content:
            line.update(text)

    # Panes.

    def on_resize(self, _: Resize) -> None:
        """Show as many panes as there is room for."""
        self._arrange()

    def _arrange(self) -> None:
        height = self.size.height
        for name, section in self._sections.items():
            if height >= TALL:
                section.display = True
            elif height < SHORT:
                section.display = name == self._here.name
            else:
                section.display = name in {TUNNELS.name, self._below.name}
        _put(self.query_one("#keys", Static), _key_line(self.size.width))
        self._show_titles()
        self._show_detail()
        self._show_head(self._wall_clock())

    def _go_to(self, pane: Pane) -> None:
        self._here = pane
        if pane is not TUNNELS:
            self._below = pane
        self._arrange()
        self.set_focus(self._sections[pane.name].table)

    def on_descendant_focus(self) -> None:
        """Follow the mouse, which can put the focus elsewhere."""
        focused = self.focused
        if isinstance(focused, RowTable) and focused.pane is not self._here:
            self._go_to(focused.pane)

    def action_pane(self, step: int) -> None:
        """Go to the next pane, or to the one before."""
        if isinstance(self.focused, Input):
            self._end_filter()
            return
        index = PANES.index(self._here) + step
        self._go_to(PANES[index % len(PANES)])

    # Narrowing down.

    def action_filter(self) -> None:
        """Ask for the letters that rows must have."""
        field = self.query_one(Input)
        field.display = True
        self.query_one("#keys").display = False
        field.value = self._filter
        # At once: what is typed next must not be taken for other keys.
        self.set_focus(field)

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filter as letters are typed."""
        self._filter = message.value
        self._show_rows(anew=True)

    def on_input_submitted(self) -> None:
        """Go back to the rows, and keep the filter."""
        self._end_filter()

    def _end_filter(self) -> None:
        self.query_one(Input).display = False
        self.query_one("#keys").display = True
        self.set_focus(self._sections[self._here.name].table)

    def action_widen(self) -> None:
        """End the filter first, and then the choice of one tunnel."""
        if self._filter or isinstance(self.focused, Input):
            self._filter = self.query_one(Input).value = ""
            self._end_filter()
        else:
            self._only = None
        self._show_rows(anew=True)

    def on_row_table_chosen(self, message: RowTable.Chosen) -> None:
        """Show only what belongs to the tunnel of a row, or everything again."""
        tunnel = self._here.tunnel(message.row)
        self._only = None if tunnel == self._only else tunnel
        self._show_rows(anew=True)

    @override
    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let keys be letters as long as a filter is typed."""
        typing = isinstance(self.focused, Input)
        return not typing or action in {"pane", "widen", "suspend"}

    # Acting.

    def action_leave(self) -> None:
        """Quit."""
        self.app.exit()

    def action_suspend(self) -> None:
        """Stop the process, as Ctrl-Z does elsewhere."""
        self.app.action_suspend_process()

    async def action_help(self) -> None:
        """Show the keys."""
        keys = [(key, sentence) for key, _, sentence in KEYS]
        await self.app.push_screen(Help([*keys, *_MORE_KEYS]))

    def action_tell(self, what: str) -> None:
        """Pause or resume the tunnel of the selected row."""
        tunnel = self._tunnel()
        if tunnel is not None:
            work = {"pause": self._source.pause, "resume": self._source.resume}[what]
            self._do(partial(work, tunnel))

    async def action_drain(self) -> None:
        """Drain the tunnel of the selected row, if that is meant."""
        tunnel = self._tunnel()
        if tunnel is None:
            return
        count = self._connections_of(tunnel)
        await self._ask(
            f"Drain {tunnel}? It takes no new connections until it is resumed; "
            f"{counted(count, 'open connection')} may finish within drain_timeout, "
            "then what is left is reset.",
            partial(self._do, partial(self._source.drain, tunnel), f"{tunnel}: drains"),
        )

    def _connections_of(self, name: str) -> int:
        tunnels = self._snapshot.status["tunnels"]
        return sum(int(m["connections"]) for m in tunnels if m["name"] == name)

    async def action_kill(self) -> None:
        """Kill the connection of the selected row, if that is meant."""
        row = self._sections[self._here.name].table.selected
        if self._here is not CONNECTIONS or row is None:
            self._say("Choose a connection first: Tab goes to them", failed=True)
            return
        who = ", ".join(filter(None, (row["program"], row["user"], row["peer"])))
        await self._ask(
            f"Kill connection {row['id']} of {row['tunnel']} ({who})? "
            "Its client sees a reset.",
            partial(self._do, partial(self._source.kill, row["id"])),
        )

    async def action_doctor(self) -> None:
        """Diagnose the tunnel of the selected row."""
        tunnel = self._tunnel()
        if tunnel is not None:
            config = Path(self._snapshot.status["config"])
            await self.app.push_screen(Diagnosis(tunnel, config))

    def _tunnel(self) -> str | None:
        """Return the tunnel of the selected row; say so if there is none."""
        row = self._sections[self._here.name].table.selected
        tunnel = None if row is None else self._here.tunnel(row)
        if tunnel is None:
            self._say("No tunnel here: choose a row that belongs to one", failed=True)
        return tunnel

    async def _ask(self, question: str, act: Callable[[], None]) -> None:
        def answered(yes: bool | None) -> None:  # noqa: FBT001 - of textual
            if yes:
                act()

        await self.app.push_screen(Question(question), answered)

    def _do(self, work: Callable[[], str], announced: str = "") -> None:
        """Let a thread do ``work``, and show what it returns or why it failed."""
        if not self._busy.acquire(blocking=False):
            self._say("Too many requests wait for the daemon", failed=True)
            return
        if announced:
            self._say(announced)

        def run() -> None:
            try:
                done = Done(work())
            except CommandError as error:
                done = Done("; ".join(describe(error)), failed=True)
            finally:
                self._busy.release()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self.post_message(done)

        try:
            # Nobody waits for a drain in order to quit.
            start(threading.Thread(target=run, name="request", daemon=True))
        except NoThread as error:
            self._busy.release()
            self._say(str(error.strerror), failed=True)

    def on_done(self, message: Done) -> None:
        """Show what has come of a request, and look at once what it changed."""
        self._say(message.words, failed=message.failed)
        self._feed.hurry()

    def _say(self, words: str, *, failed: bool = False) -> None:
        style = "bold red" if failed else "bold green"
        self._said = self._source.clock() + SAID_FOR, Text(printable(words), style)
        self._show_detail()


def _put(line: Static, words: str) -> None:
    """Show lines of text, cut at the edge, unless they are shown already."""
    text = Text(words)
    if text != line.content:
        line.update(text)


def _key_line(width: int) -> str:
    """Return as many keys, with a word for each, as fit into a line."""
    line = ""
    for key, word, _ in KEYS:
        longer = f"{line}  {key} {word}" if line else f"{key} {word}"
        if cell_len(longer) > width:
            break
        line = longer
    return line


class TopApp(App[None]):
    """``ssmtunneld top``.

    Args:
        board: Makes the screen.

    Attributes:
        defect: The unforeseen exception that has ended it, without its text.
    """

    TITLE = "ssmtunneld top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", "Quit", priority=True, show=False),
    ]

    def __init__(self, board: Callable[[], Board]) -> None:
        # From the beginning: NO_COLOR would mean shades of grey otherwise.
        super().__init__(ansi_color=True)
        self.animation_level = "none"
        self.register_theme(_THEME)
        self.theme = _THEME.name
        self._board = board
        self._main_loop: asyncio.AbstractEventLoop | None = None
        self.defect: Defect | None = None

    async def on_mount(self) -> None:
        """Show the board."""
        self._main_loop = asyncio.get_running_loop()
        await self.push_screen(self._board())

    # Values of variables can be secrets, and so can an exception's text: textual would
    # print both.

    @override
    def _handle_exception(self, error: Exception) -> None:
        """Note a defect, and end."""
        if self.defect is None:
            self.defect = Defect.of(error)
        super()._handle_exception(error)

    @override
    def panic(self, *_: object) -> None:
        """End without showing what textual has to say of a defect."""
        self._close_messages_no_wait()

    @override
    def _fatal_error(self) -> None:
        self.panic()

    def take_defect(self, error: BaseException) -> None:
        """Note a defect of another thread, and end; called in that thread."""
        if isinstance(error, Exception) and self._main_loop is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._main_loop.call_soon_threadsafe(self._handle_exception, error)


def run(source: DaemonSource, first: Snapshot) -> None:
    """Show a daemon until somebody quits, or a signal ends it.

    Args:
        source: The daemon.
        first: What it has told already.

    Raises:
        CommandError: A defect has ended it.
    """
    app = TopApp(lambda: Board(source, first))
    try:
        with _ended_by_signals(app), _ended_by_threads(app):
            app.run()
    except Exception as error:  # noqa: BLE001 - the boundary of a compartment
        app.defect = app.defect or Defect.of(error)
    if app.defect is not None:
        raise CommandError(str(app.defect), _REPORT)


@contextmanager
def _ended_by_threads(app: TopApp) -> Iterator[None]:
    """Let a defect in a thread end the app, as one in the app itself does."""
    before = threading.excepthook

    def take(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            app.take_defect(args.exc_value)

    threading.excepthook = take
    try:
        yield
    finally:
        threading.excepthook = before


@contextmanager
def _ended_by_signals(app: App[Any]) -> Iterator[None]:
    """Let signals end the app, so that the terminal is left as it was found."""

    def end(*_: object) -> None:
        # A terminal that is gone, or stopped, takes nothing: it must not keep us.
        signal.alarm(LAST_RESORT)
        with suppress(RuntimeError):  # it has not begun, or has ended
            asyncio.get_running_loop().call_soon_threadsafe(app.exit)

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
