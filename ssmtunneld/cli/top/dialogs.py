"""The windows over the panes of ``top``: a question, the keys, and a diagnosis."""

import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import RichLog, Static
from typing_extensions import override

from ssmtunneld.base.interpreter import interpreter
from ssmtunneld.base.threads import NoThread, start
from ssmtunneld.cli.terminal.text import visible

LINES: Final = 2000
"""Lines of a diagnosis that are kept."""

_BOX: Final = """
    align: center middle;
    & > * {
        width: auto; height: auto; max-width: 100%; max-height: 100%;
        border: round $primary; padding: 0 1;
    }
"""


class Question(ModalScreen[bool]):
    """A question that is answered by y or n; its result is True for yes.

    Args:
        text: The question, and what follows from yes.
    """

    DEFAULT_CSS = f"Question {{ {_BOX} }}"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,Y", "answer(True)", "Yes", priority=True),
        Binding("n,N,escape,q,enter", "answer(False)", "No", priority=True),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    @override
    def compose(self) -> ComposeResult:
        """Show the question, and how to answer."""
        text = Text(visible(self._text))
        text.append("\n\ny yes   n no", "bold")
        yield Static(text, markup=False)

    def action_answer(self, yes: bool) -> None:  # noqa: FBT001 - of a binding
        """Take an answer."""
        _ = self.dismiss(yes)  # it cannot be awaited in here


class Help(ModalScreen[None]):
    """The keys.

    Args:
        keys: Each key and what it does.
    """

    DEFAULT_CSS = f"""
    Help {{ {_BOX} }}
    Help > VerticalScroll {{ width: 100%; max-width: 78; }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "Close", priority=True),
    ]

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._keys = keys

    @override
    def compose(self) -> ComposeResult:
        """Show a line for each key."""
        width = max(len(key) for key, _ in self._keys)
        text = Text()
        for key, words in self._keys:
            text.append(key.ljust(width), "bold").append(f"  {words}\n")
        text.append("Esc closes this")
        with VerticalScroll():
            yield Static(text, markup=False)


class Words(RichLog):
    """Lines that are wrapped at the edge, also when that has moved."""

    DEFAULT_CSS = "Words { overflow-x: hidden; }"

    def __init__(self) -> None:
        super().__init__(max_lines=LINES, wrap=True, markup=False, highlight=False)
        self._said: deque[Text] = deque(maxlen=LINES)
        self._width = 0

    def say(self, line: Text) -> None:
        """Add a line."""
        self._said.append(line)
        if self._width:
            self._put(line)

    def _put(self, line: Text) -> None:
        # Left alone it takes 78 columns at least, which is beyond the edge of 80 with a
        # frame, and what COLUMNS says at most.
        self.write(line, width=self._width)

    @override
    def on_resize(self, event: Resize) -> None:
        """Wrap the lines anew if they were wrapped for another width.

        textual calls that of the class below, too.
        """
        width = self.scrollable_content_region.width
        if width not in {0, self._width}:
            self._width = width
            self.clear()
            for line in self._said:
                self._put(line)


class Diagnosis(ModalScreen[None]):
    """The words of ``ssmtunneld doctor`` about a tunnel, as they come.

    Args:
        tunnel: The tunnel's name.
        config: The file that it stands in.
    """

    DEFAULT_CSS = f"""
    Diagnosis {{ {_BOX} }}
    Diagnosis > Words {{ width: 100%; height: 100%; }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Close", priority=True),
    ]

    @dataclass
    class Said(Message):
        """The doctor has said something, or has ended."""

        line: str
        style: str = ""

    def __init__(self, tunnel: str, config: Path) -> None:
        super().__init__()
        self._tunnel = tunnel
        self._config = config
        self._process: subprocess.Popen[str] | None = None

    @override
    def compose(self) -> ComposeResult:
        """Show nothing yet."""
        log = Words()
        log.border_title = f"doctor {self._tunnel}"
        log.border_subtitle = "Esc closes"
        yield log

    def on_mount(self) -> None:
        """Start the doctor."""
        command = [
            *interpreter("-m", "ssmtunneld", "doctor"),
            *("--config", str(self._config), "--", self._tunnel),
        ]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                # It must not ask at a terminal that is ours.
                start_new_session=True,
            )
        except OSError as error:
            self.post_message(self.Said(f"cannot be run: {error.strerror}", "bold red"))
            return
        reading = threading.Thread(
            target=self._read, args=(self._process,), name="doctor", daemon=True
        )
        try:
            start(reading)
        except NoThread as error:
            self._process.terminate()
            self._process.wait()
            self._say(str(error.strerror), "bold red")

    def _read(self, process: "subprocess.Popen[str]") -> None:
        """Pass on what the doctor says; in a thread of its own."""
        with process:
            assert process.stdout is not None, "asked for"
            for line in process.stdout:
                self._say(visible(line.rstrip("\n")), _style_of(line))
        well = process.returncode == 0
        self._say(*(("the tunnel works", "bold green") if well else _BROKEN))

    def _say(self, line: str, style: str) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self.post_message(self.Said(line, style))

    def on_diagnosis_said(self, message: Said) -> None:
        """Add a line."""
        self.query_one(Words).say(Text(message.line, message.style))

    def on_unmount(self) -> None:
        """End the doctor as Ctrl-C does: it then terminates its session at AWS."""
        process = self._process
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)


_BROKEN: Final = ("the tunnel does not work: see above", "bold red")
_MARKS: Final = {"[fail]": "bold red", "[warn]": "yellow", "cure:": "bold"}


def _style_of(line: str) -> str:
    start = line.lstrip()
    return next((s for mark, s in _MARKS.items() if start.startswith(mark)), "")
