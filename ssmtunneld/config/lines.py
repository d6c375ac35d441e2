"""Lines of the keys of a TOML text.

``tomllib`` gives values without positions. This scanner reads a text that
``load.parse_toml`` has accepted, so it knows where things end and that nothing is
nested deeply; it runs only when there is something to report.
"""

import re
import tomllib
from bisect import bisect_left
from typing import Final, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_BLANK: Final = re.compile(r"[ \t]*")
_GAP: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
# A multi-line string can end in up to two quotes of its own before the three.
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?""""{0,2}'
    r"|'''.*?''''{0,2}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]*")


class KeyLines:
    """Finds the lines of key paths in one text."""

    def __init__(self, text: str) -> None:
        self._found = _Scanner(text).scan()
        self._breaks = [match.start() for match in re.finditer("\n", text)]

    def find(self, path: KeyPath) -> int:
        """Return the line of ``path``, or of the nearest table above it, from 1."""
        while path and path not in self._found:
            path = path[:-1]
        return bisect_left(self._breaks, self._found.get(path, 0)) + 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._found: dict[KeyPath, int] = {}
        self._last_item: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        """Return the offset at which each key path is first named."""
        table: KeyPath = ()
        self._skip(_GAP)
        while self._at < len(self._text):
            if self._next() == "[":
                table = self._header()
            else:
                self._entry(table)
            self._skip(_GAP)
        return self._found

    def _next(self) -> str:
        return self._text[self._at]

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None, "tomllib has accepted this text"
        self._at = match.end()
        return match[0]

    def _header(self) -> KeyPath:
        start = self._at
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        *parents, name = self._key()
        self._at += brackets
        path: KeyPath = ()
        for part in parents:
            path = self._enter((*path, part), start)
        path = (*path, name)
        if brackets == 1:
            return self._enter(path, start)
        self._last_item[path] = self._last_item.get(path, -1) + 1
        return self._enter(path, start)

    def _enter(self, path: KeyPath, start: int) -> KeyPath:
        """Note a table's name; a name of an array of tables means its last one."""
        self._found.setdefault(path, start)
        if path in self._last_item:
            path = (*path, self._last_item[path])
            self._found.setdefault(path, start)
        return path

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip(_BLANK)
            token = self._skip(_KEY)
            if token[0] in "\"'":
                token = tomllib.loads(f"key = {token}")["key"]
            parts.append(token)
            self._skip(_BLANK)
            if self._next() != ".":
                return parts
            self._at += 1

    def _entry(self, table: KeyPath) -> None:
        start = self._at
        path = table
        for part in self._key():
            path = (*path, part)
            self._found.setdefault(path, start)
        self._at += 1
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        match self._next():
            case '"' | "'":
                self._skip(_STRING)
            case "[":
                self._items(path, "]")
            case "{":
                self._items(path, "}")
            case _:
                self._skip(_SCALAR)

    def _items(self, path: KeyPath, end: str) -> None:
        """Pass an array or an inline table, which differ in what an item is."""
        self._at += 1
        self._skip(_GAP)
        index = 0
        while self._next() != end:
            if end == "}":
                self._entry(path)
            else:
                self._found.setdefault((*path, index), self._at)
                self._value((*path, index))
            index += 1
            self._skip(_GAP)
            if self._next() == ",":
                self._at += 1
                self._skip(_GAP)
        self._at += 1
