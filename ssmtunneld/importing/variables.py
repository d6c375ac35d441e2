"""Variables of a script, as far as its text alone says what they are."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from ssmtunneld.importing.found import Note
from ssmtunneld.importing.shell import Command, read_shell

ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
"""An assignment: name, a plus if it appends, value."""

_USE: Final = re.compile(
    r"\$(?:\{(?P<braced>[A-Za-z_]\w*|[0-9]+|[@*])(?::?(?P<how>[-=?+])(?P<other>[^{}]*))?\}"
    r"|(?P<bare>[A-Za-z_]\w*|[0-9@*]))"
)
_ALL_OF_LIST: Final = re.compile(r"\$\{([A-Za-z_]\w*)\[[@*]\]\}")
_KNOWN_LATER: Final = re.compile(r"\$\{[A-Za-z_]\w*\}")
_SEVERAL: Final = re.compile(r"--[a-z]\S*\s|(?:\S*/)?aws(?:\s|$)")
_TAG: Final = re.compile(r"Name=tag:([^,'\"\s]+),\s*Values=([^,'\"\s\]]+)")
_DECLARES: Final = frozenset({"export", "declare", "typeset", "local", "readonly"})
_LEADS: Final = frozenset(
    {"if", "then", "elif", "else", "do", "while", "until", "{", "!", "time", "&"}
)
_OPENS: Final = frozenset({"if", "case", "for", "while", "until", "select"})
_TURNS: Final = frozenset({"else", "elif"})
_CLOSES: Final = frozenset({"fi", "esac", "done"})
_LONGEST: Final = 80
_LARGEST_VALUE: Final = 4096


@dataclass(frozen=True, slots=True)
class _Value:
    text: str
    line: int
    branch: tuple[int, ...] = ()
    remarks: tuple[Note, ...] = ()
    """Said when the variable is used."""
    items: tuple[str, ...] | None = None
    """Of an array."""


@dataclass(slots=True)
class Variables:
    """Values at the place in a script that has been read."""

    _values: dict[str, _Value] = field(default_factory=dict)
    _undo: list[list[tuple[str, _Value | None]]] = field(default_factory=list)
    _branch: list[int] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)

    def follow(self, command: Command) -> None:
        """Take over what ``command`` assigns for those behind it."""
        words = self._inside(command)
        first = words[0] if words else ""
        if first == "unset":
            for name in words[1:]:
                self._put(name, None)
        elif first == "read":
            for name in filter(str.isidentifier, words[1:]):
                self._unknown(name, "is read from its input", command.line)
        elif first == ":":
            self._default(words[1:], command.line)
        elif first in _DECLARES or all(map(ASSIGNMENT.fullmatch, words)):
            self._assign_all(words, command)
        self._nest(command)

    def __contains__(self, name: str) -> bool:
        value = self._values.get(name)
        return value is not None and bool(value.text)

    def items(self, word: str, notes: list[Note]) -> list[str]:
        """Return what ``word`` becomes; several words if it is an array or options."""
        match = _ALL_OF_LIST.fullmatch(word)
        value = self._values.get(match[1]) if match else None
        if value is not None and value.items is not None:
            notes += value.remarks
            return list(value.items)
        use = _USE.fullmatch(word)
        if use is not None and (name := use["braced"] or use["bare"]) in self:
            text = self._values[name].text
            if _SEVERAL.match(text):
                notes += self._values[name].remarks
                return next(read_shell(text)).words
        return [word]

    def expand(self, text: str, line: int, notes: list[Note]) -> str:
        """Return ``text`` with the variables that are known.

        Args:
            text: With variables as a shell spells them.
            line: Where it stands.
            notes: Gets what a person should know about those that it uses.
        """

        def replaced(match: re.Match[str]) -> str:
            return self._use(match, line, notes)

        return _USE.sub(replaced, text)

    def _use(self, match: re.Match[str], line: int, notes: list[Note]) -> str:
        name, how = match["braced"] or match["bare"], match["how"]
        value = self._values.get(name)
        if value is not None and (value.text or how not in {"-", "="}):
            notes += value.remarks
            if value.branch != tuple(self._branch[: len(value.branch)]):
                text = f"{name} depends on a branch: {brief(value.text)} is taken"
                notes.append(Note(value.line, text))
            return match["other"] if how == "+" else value.text
        if how in {"-", "="}:
            other = self.expand(match["other"], line, notes)
            text = f"{name} has no value in this file: its default is taken, {other}"
            if not name.isidentifier():
                text = f"argument {name} of the script has a default: {other} is taken"
            notes.append(Note(line, text))
            return other
        if how == "+":
            return ""
        if not name.isidentifier():
            return match[0]
        text = f"{name} is not set in this file: it must be in the environment"
        notes.append(Note(line, text))
        return f"${{{name}}}"

    def _assign_all(self, words: Iterable[str], command: Command) -> None:
        for word in words:
            # A unit of systemd has them as Environment=NAME=value.
            match = ASSIGNMENT.fullmatch(word.removeprefix("Environment="))
            if match is not None:
                self._assign(match, command)

    def _assign(self, match: re.Match[str], command: Command) -> None:
        name, appends, word = match.groups()
        notes: list[Note] = []
        before = self._values.get(name) if appends else None
        listed = command.substitution(word)
        if listed is not None and listed.spelled.startswith("("):
            inner = [w for each in read_shell(listed.inner) for w in each.words]
            items = tuple(self.expand(item, command.line, notes) for item in inner)
            items = (before.items or () if before else ()) + items
            text = items[0] if items else ""
            self._store(name, text, command.line, notes, items)
            return
        shown, tags = command.shown(word), tag_search(word, command)
        text = self.expand(tags or word, command.line, notes)
        text = (before.text if before else "") + text
        if len(text) > _LARGEST_VALUE:
            self._unknown(name, "is too long", command.line)
        elif command.substitutions(word) and not tags:
            self._unknown(name, f"comes from a command, {brief(shown)}", command.line)
        elif is_open(text):
            self._unknown(name, f"is {brief(text)}", command.line)
        else:
            self._store(name, text, command.line, notes)

    def _default(self, words: Iterable[str], line: int) -> None:
        """Take over ``: ${NAME:=value}``."""
        for word in words:
            match = _USE.fullmatch(word)
            if match is not None and match["how"] == "=":
                notes: list[Note] = []
                text = self._use(match, line, notes)
                self._store(match["braced"], text, line, notes)

    def _unknown(self, name: str, reason: str, line: int) -> None:
        text = f"{name} {reason}: set it in the environment, or write its value"
        self._store(name, f"${{{name}}}", line, [Note(line, text)])

    def _store(
        self,
        name: str,
        text: str,
        line: int,
        notes: Sequence[Note],
        items: tuple[str, ...] | None = None,
    ) -> None:
        branch = tuple(self._branch)
        self._put(name, _Value(text, line, branch, tuple(dict.fromkeys(notes)), items))

    def _put(self, name: str, value: _Value | None) -> None:
        if self._undo:
            self._undo[-1].append((name, self._values.get(name)))
        if value is None:
            self._values.pop(name, None)
        else:
            self._values[name] = value

    def _inside(self, command: Command) -> list[str]:
        """Enter and leave branches; return the words behind their keywords."""
        rest = list(command.words)
        while rest:
            word = rest[0]
            if word in _CLOSES and self._branch:
                self._branch.pop()
            elif word in _OPENS:
                self._branch.append(next(self._numbers))
            elif word in _TURNS and self._branch:
                self._branch[-1] = next(self._numbers)
            if word == "for" and len(rest) > 1 and rest[1].isidentifier():
                self._unknown(rest[1], "is set by a loop", command.line)
            if word not in _LEADS:
                break
            rest.pop(0)
        return rest

    def _nest(self, command: Command) -> None:
        if command.end == "(":
            self._undo.append([])
        elif command.end == ")" and self._undo:
            for name, value in reversed(self._undo.pop()):
                if value is None:
                    self._values.pop(name, None)
                else:
                    self._values[name] = value
        elif command.end.startswith(";;") and self._branch:
            self._branch[-1] = next(self._numbers)


def tag_search(word: str, command: Command) -> str:
    """Return the target of a search by tag; empty if ``word`` is something else."""
    only = command.substitution(word)
    tags = _TAG.findall(only.inner) if only else ()
    return ",".join(f"tag:{key}={wanted}" for key, wanted in tags)


def is_open(text: str) -> bool:
    """Return True if a part of ``text`` is known only when it is run."""
    return bool(re.search(r"\$[({0-9@*]|`", _KNOWN_LATER.sub("", text)))


def brief(text: str) -> str:
    """Return ``text`` on one line, shortened."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
