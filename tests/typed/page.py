"""Pages of the manual as a reader has them: their blocks, and the commands in these."""

import functools
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLAYED = set()
"""Pairs of page and section whose commands a test types."""
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^##+ (.*)$", re.MULTILINE)
_VARIABLE = {
    r"oi-[0-9a-f]{12}": r"oi-[0-9a-f]{12}",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    r"\b\d\d:\d\d\b": r"\d\d:\d\d",
    r"\b[0-9a-f]{6}-\d+\b": r"[0-9a-z]+-\d+",
}
"""What differs from one time to the next: in a page's words, and in all others."""


@dataclass(frozen=True)
class Block:
    """A fenced block without its indentation."""

    kind: str
    section: str
    text: str
    follows: bool
    """True if nothing stands between it and the block before it."""

    @property
    def is_typed(self):
        """True if commands stand in it."""
        return self.kind in {"sh", "bash"} or self.is_console

    @property
    def is_console(self):
        """True if what is typed begins with a dollar, and the rest is the answer."""
        return self.kind in {"console", ""} and self.text.startswith("$ ")


@dataclass(frozen=True)
class Command:
    """A line as it stands on a page, and what the page shows below it, if anything."""

    text: str
    section: str
    shown: str = ""

    @property
    def words(self):
        """The line without the comment at its end."""
        return re.sub(r"\s+# .*", "", self.text)


class Page:
    """A page.

    Args:
        path: From the root of the repository.
    """

    def __init__(self, path):
        self.path = path
        self.text = (ROOT / path).read_text("utf-8")
        self.blocks = list(self._blocks())

    def _blocks(self):
        end = 0
        for found in _FENCE.finditer(self.text):
            indent = found["indent"]
            lines = found["text"].splitlines()
            text = "".join(f"{line.removeprefix(indent)}\n" for line in lines)
            sections = _HEADING.findall(self.text[: found.start()])
            section = sections[-1].replace("`", "") if sections else ""
            between = self.text[end : found.start()]
            yield Block(found["kind"], section, text, not between.strip())
            end = found.end()

    def commands(self, section=None):
        """Return the commands, of one section or of all of them, in their order."""
        found = []
        for block in self.blocks:
            if section not in {None, block.section}:
                continue
            if block.is_console:
                found += _conversation(block)
            elif block.is_typed:
                found += [Command(line, block.section) for line in _lines(block.text)]
            elif found and not block.kind and block.follows:
                # What the last command above says.
                last = found.pop()
                found.append(Command(last.text, last.section, block.text))
        return found

    def block(self, section, kind="toml", number=0):
        """Return the text of a block of a section."""
        texts = [
            block.text
            for block in self.blocks
            if (block.section, block.kind) == (section, kind)
        ]
        return texts[number]

    def words(self, text):
        """Return ``text``, which stands in the page's running text as code."""
        assert f"`{text}`" in self.text, f"{self.path} has no {text}"
        return text


def _lines(text):
    joined = text.replace("\\\n", "")
    return [line for line in joined.splitlines() if line and line[0] != "#"]


def _conversation(block):
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        typed, _, shown = part.partition("\n")
        yield Command(typed, block.section, shown)


class Script:
    """The commands of one section, each to be taken once, in their order.

    Args:
        page: Where they stand.
        section: Its heading, without backticks; empty for what precedes all of them.
        elsewhere: Those that are not played, without comments.
    """

    def __init__(self, page, section, elsewhere=()):
        self.page = page
        self.section = section
        commands = page.commands(section)
        self._left = deque(c for c in commands if c.words not in elsewhere)

    def next(self, start):
        """Return the next command, which begins with ``start``."""
        assert self._left, f"{self.page.path} has no more commands; expected {start}"
        command = self._left.popleft()
        assert command.text.startswith(start), f"expected {start}: {command}"
        return command

    def block(self, kind="toml", number=0):
        """Return the text of a block of this section."""
        return self.page.block(self.section, kind, number)

    def words(self, text):
        """Return a command that stands in the running text of the page as code."""
        return self.page.words(text)

    def end(self):
        """Check that every command was taken."""
        assert not self._left, f"not typed: {[command.text for command in self._left]}"


def plays(path, section=""):
    """Let a test type the commands of a section: it has their ``script``."""
    PLAYED.add((path, section))

    def decorate(test):
        @functools.wraps(test)
        def play(*args, script, **kwargs):
            test(*args, script=script, **kwargs)
            script.end()

        play.plays = path, section
        return play

    return decorate


def looks_like(said, shown):
    """Return whether ``said`` is what a page shows, but for ids and times."""
    shown = shown.strip()
    pattern, end = "", 0
    for found in re.finditer("|".join(f"({kind})" for kind in _VARIABLE), shown):
        pattern += re.escape(shown[end : found.start()])
        pattern += list(_VARIABLE.values())[found.lastindex - 1]
        end = found.end()
    pattern += re.escape(shown[end:])
    return re.fullmatch(pattern, said.strip()) is not None
