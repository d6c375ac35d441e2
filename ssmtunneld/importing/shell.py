"""Simple commands of a shell script, as words.

Quotes, comments and redirections are gone; command substitutions are marks in the
words, because nothing here is run. Variables are left as they are spelled.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

_BREAK: Final = r"(?<![^\s;&|()])"
_TOKEN: Final = re.compile(
    rf"""
    (?P<fence>^[ \t]*```[^\n]*)
  | (?P<joined>\\\n|(?<!\S)[`^]\n)
  | (?P<comment>{_BREAK}\#[^\n]*)
  | \$?'(?P<single>[^']*)'
  | (?P<double>\$?")
  | (?P<substitution>[$<>]\()
  | `(?P<backticks>(?:[^`\\]++|\\.)*+)`
  | (?P<open>')
  | (?P<placeholder><\w[^<>|&;\n]*(?<!\s)>)
  | (?P<redirection>(?:{_BREAK}[0-9]+)?(?:<<<|<<-?|<&|<>|>>|>&|>\||[<>])|&>>?)
  | (?P<end>;;&?|&&|\|\||\|&|[;&|()\n])
  | (?P<space>[ \t\r\f\v]+)
  | \\(?P<escaped>.)
  | (?P<plain>[A-Za-z_=,.:/{{}}\[\]-]+|.)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_QUOTED: Final = re.compile(
    r"""
    (?P<joined>\\\n)
  | \\(?P<escaped>["\\$`])
  | (?P<close>")
  | (?P<substitution>\$\()
  | `(?P<backticks>(?:[^`\\]++|\\.)*+)`
  | (?P<plain>[^"\\$`]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NESTED: Final = re.compile(r"""\\.|'[^']*'|["'()]|[^\\'"()]+|\\""", re.DOTALL)
_MARK: Final = re.compile("\ue000([0-9]+)\ue001")
_DEEPEST: Final = 20


@dataclass(frozen=True, slots=True)
class Substitution:
    """A command in a command: ``$(...)``, backticks, or the list of an array."""

    spelled: str
    inner: str
    line: int


@dataclass(slots=True)
class Command:
    """A simple command."""

    line: int
    """The line that it begins on."""
    hidden: Sequence[Substitution]
    words: list[str] = field(default_factory=list)
    end: str = ""
    """The operator behind it; empty at the end of the text."""
    unread: str = ""
    """The rest of the text from here, if a quote or a parenthesis never ends."""

    def shown(self, word: str) -> str:
        """Return ``word`` with its substitutions as they were spelled."""
        return _MARK.sub(lambda match: self.hidden[int(match[1])].spelled, word)

    def substitution(self, word: str) -> Substitution | None:
        """Return the substitution that ``word`` is; None if it is something else."""
        match = _MARK.fullmatch(word)
        return self.hidden[int(match[1])] if match else None

    def substitutions(self, word: str) -> list[Substitution]:
        """Return all substitutions in ``word``."""
        return [self.hidden[int(match[1])] for match in _MARK.finditer(word)]


class _UnclosedError(Exception):
    pass


def read_shell(text: str, line: int = 1) -> Iterator[Command]:
    """Yield the simple commands of a text that begins on line ``line``."""
    plain = text.replace("\r\n", "\n").replace("\ue000", "").replace("\ue001", "")
    return _Lexer(plain, line).commands()


class _Lexer:
    def __init__(self, text: str, line: int) -> None:
        self._text = text
        self._at = 0
        self._line = line
        self._counted = 0
        self._hidden: list[Substitution] = []
        self._command = Command(line, self._hidden)
        self._start = 0
        self._word: list[str] | None = None
        self._dropped = False

    def commands(self) -> Iterator[Command]:
        """Yield all commands."""
        while match := _TOKEN.match(self._text, self._at):
            kind = str(match.lastgroup)
            begun = self._word is not None or bool(self._command.words)
            if not begun and kind not in {"space", "end", "joined", "comment"}:
                self._start = match.start()
                self._command.line = self._line_of(match.start())
            self._at = match.end()
            try:
                ended = self._take(kind, match)
            except _UnclosedError:
                self._command.unread = self._text[self._start :]
                yield self._command
                return
            if ended:
                yield self._finished(match[0])
        self._end_word()
        yield self._command

    def _finished(self, end: str) -> Command:
        done, done.end = self._command, end
        self._command = Command(done.line, self._hidden)
        self._dropped = False
        return done

    def _take(self, kind: str, match: re.Match[str]) -> bool:
        """Take one token; return True if it ends a command."""
        if kind == "end":
            if match[0] == "(" and self._word and self._word[-1].endswith("="):
                self._substitute("(", self._at)
                return False
            self._end_word()
            return True
        if kind in {"space", "fence", "comment"}:
            self._end_word()
        elif kind == "redirection":
            self._end_word()
            self._dropped = True
        elif kind != "joined":
            self._add(kind, match)
        return False

    def _add(self, kind: str, match: re.Match[str]) -> None:
        """Add a token to the word."""
        self._word = self._word if self._word is not None else []
        if kind == "open":
            raise _UnclosedError
        if kind == "double":
            self._read_double()
        elif kind == "substitution":
            self._substitute(match[0], self._at)
        elif kind == "backticks":
            self._hide(match[0], match[kind], match.start(kind))
        else:
            self._word.append(match[kind])

    def _read_double(self) -> None:
        while match := _QUOTED.match(self._text, self._at):
            self._at = match.end()
            kind = str(match.lastgroup)
            if kind == "close":
                return
            if kind != "joined":
                self._add(kind, match)
        raise _UnclosedError

    def _substitute(self, opening: str, at: int) -> None:
        self._at = _closing(self._text, at)
        inner = self._text[at : self._at - 1]
        self._hide(f"{opening}{inner})", inner, at)

    def _hide(self, spelled: str, inner: str, at: int) -> None:
        self._word = [] if self._word is None else self._word
        self._word.append(f"\ue000{len(self._hidden)}\ue001")
        self._hidden.append(Substitution(spelled, inner, self._line_of(at)))

    def _end_word(self) -> None:
        if self._word is None:
            return
        if not self._dropped:
            self._command.words.append("".join(self._word))
        self._word, self._dropped = None, False

    def _line_of(self, at: int) -> int:
        self._line += self._text.count("\n", self._counted, at)
        self._counted = max(at, self._counted)
        return self._line


def _closing(text: str, at: int, depth: int = 0) -> int:
    """Return the place behind the parenthesis that closes what ``at`` is inside of."""
    opened = 1
    while match := _NESTED.match(text, at):
        at = match.end()
        if match[0] == '"':
            at = _closing_quote(text, at, depth + 1)
        elif match[0] == "'":
            raise _UnclosedError
        opened += {"(": 1, ")": -1}.get(match[0], 0)
        if not opened:
            return at
    raise _UnclosedError


def _closing_quote(text: str, at: int, depth: int) -> int:
    if depth > _DEEPEST:
        raise _UnclosedError
    while match := _QUOTED.match(text, at):
        at = match.end()
        if match.lastgroup == "close":
            return at
        if match.lastgroup == "substitution":
            at = _closing(text, at, depth)
    raise _UnclosedError
