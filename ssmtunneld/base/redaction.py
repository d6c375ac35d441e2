"""Removal of secrets from text that is about to leave the process (design D19).

Every :class:`~ssmtunneld.secret.Secret` registers its value here, and every output (log
lines, status, health, hook, service manager, messages of the command line) passes its
text through :func:`redact`. That is the last line of defence: text is kept free of
secrets where it is made, but a library or a service can quote one in any spelling.

A secret is recognised verbatim, percent-encoded (also partly), escaped as in JSON, in
Python's repr or in HTML, as base64 in any alignment, as hex, in up to
:data:`LAYERS` layers of these, and in pieces of :data:`PIECE` characters and more.

The index has every fourth group of five characters of each value: any eight characters
in a row contain one of these, so that one look-up for each character of a text finds
all candidates, and memory stays small.

What is known is bounded. A service gives out as many tokens of sessions as it likes, so
these have a bound of their own: they never push out what we prove ourselves with.
"""

import re
import threading
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple, TypeVar, cast
from urllib.parse import unquote

_Document = TypeVar("_Document")

MARK: Final = "***"
"""Stands for what has been removed."""
PIECE: Final = 8
"""Characters of the shortest piece that is recognised, and of the shortest secret: a
shorter one is likely to be an ordinary word."""
PIECES_FROM: Final = 16
"""Characters of the shortest secret that is recognised by its pieces. What AWS issues
has 40 and more; a short password is recognised as a whole, or its words would be
missing everywhere."""
VALUE_LIMIT: Final = 8192
"""Characters of one secret that are registered."""
VALUES_LIMIT: Final = 512
"""Tokens of sessions that are registered, and as many other secrets; of each kind,
those used longest ago are forgotten."""
TOTAL_LIMIT: Final = 131_072
"""Characters of each kind: both take at most 12 MB with the index."""
ALIKE_LIMIT: Final = 16
"""Long secrets that are looked for where a text has a group of characters of all of
them. Random ones share none; a service that gives out others must not take our time."""
LAYERS: Final = 3
"""Encodings around each other that are undone."""
CACHED_TEXTS: Final = 4096
"""Texts whose result is remembered."""
CACHED_TEXT_LIMIT: Final = 512
"""Characters of the longest one of these."""

ANSWER_LIMIT: Final = 64
"""Runs of characters that are registered of one answer: credentials are four texts."""

_GRAM: Final = 5
_STRIDE: Final = 4  # _GRAM + _STRIDE - 1 == PIECE
# A piece that looks like words in lower case is one by chance, unless it is long.
_WORDS: Final = re.compile(r"[a-z]+(?:[-_. /:][a-z]+)*[-_. /:]?|[0-9]+")
_WORDS_FROM: Final = 16

_ESCAPE: Final = re.compile(
    r"%(?P<percent>[0-9A-Fa-f]{2})"
    r"|\\(?:x(?P<x>[0-9A-Fa-f]{2})|u(?P<u>[0-9A-Fa-f]{4})|(?P<letter>[\"'\\/abfnrtv0]))"
    r"|&(?:(?P<name>amp|lt|gt|quot|apos)|#(?P<decimal>[0-9]{1,6})"
    r"|#[xX](?P<hex>[0-9A-Fa-f]{1,5}));"
)
_CODES: Final = {"percent": 16, "x": 16, "u": 16, "hex": 16, "decimal": 10}
_LETTERS: Final = {
    **{c: c for c in "\"'\\/"},
    **dict(zip("abfnrtv0", "\a\b\f\n\r\t\v\0", strict=True)),
}
_NAMES: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{11,}")
_STANDARD: Final = str.maketrans("-_", "+/")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2}[: ]?){8,}")
# Of decoded bytes, only what could be a secret; random bytes rarely look like that.
_PRINTABLE: Final = re.compile(rb"[ -~]{8,}")
_ANYTHING: Final = re.compile(rb"[ -~\x80-\xff]{8,}")

# Variables that hold a secret, by what tools call them, and no path of a file with one.
_SECRET_NAME: Final = re.compile(
    r".*(?:SECRET|TOKEN|PASSWORD|PASSWD|_PWD|_AUTH)(?:_KEY|_ACCESS_KEY)?", re.IGNORECASE
)
_RUN: Final = re.compile(rb"[A-Za-z0-9+/=_.\\-]{16,}")
_ACCESS_KEY_ID: Final = re.compile(r"A[KS]IA[A-Z0-9]{16}")
_PASSWORD: Final = re.compile(r"://[^/@\s:]*:([^/@\s]*)@")
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]*@")
_SIGNATURE: Final = re.compile(r"(?<=Signature=)[0-9A-Fa-f]{64}")


class _Entry:
    """One spelling of a secret; its repr must not show it, as a tuple's would."""

    __slots__ = ("in_pieces", "text")

    def __init__(self, text: str, *, in_pieces: bool) -> None:
        self.text = text
        self.in_pieces = in_pieces


class _Span(NamedTuple):
    start: int
    end: int


class _Shelf:
    """The secrets of one kind, those used longest ago first."""

    __slots__ = ("size", "values")

    def __init__(self) -> None:
        self.values: dict[str, tuple[_Entry, ...]] = {}
        self.size = 0

    def touch(self, value: str) -> bool:
        """Note that ``value`` is used; return whether it is here."""
        known = self.values.pop(value, None)
        if known is None:
            return False
        self.values[value] = known
        return True

    def add(self, value: str, entries: tuple[_Entry, ...]) -> Iterator[_Entry]:
        """Take another one; yield the spellings of those that it pushes out."""
        self.values[value] = entries
        self.size += len(value)
        while len(self.values) > VALUES_LIMIT or self.size > TOTAL_LIMIT:
            oldest = next(iter(self.values))
            self.size -= len(oldest)
            yield from self.values.pop(oldest)


class Redactor:
    """Secrets, and what removes them from a text. May be used by any thread."""

    def __init__(self) -> None:
        # Reentrant: the garbage collector can run a finalizer at any moment.
        self._lock = threading.RLock()
        self._own, self._tokens = _Shelf(), _Shelf()
        self._index: dict[str, tuple[_Entry, ...]] = {}
        self._beyond_ascii = False
        self._results: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._own.values) + len(self._tokens.values)

    def register(self, value: str, *, is_token: bool = False) -> None:
        """Remove ``value`` from every text from now on.

        One that is shorter than :data:`PIECE` is not registered. Registering a value
        again keeps it from being forgotten.

        Args:
            value: The secret.
            is_token: It is the token of a session, of which there can be any number.
        """
        value = value[:VALUE_LIMIT]
        if len(value.strip()) < PIECE:
            return
        shelf = self._tokens if is_token else self._own
        with self._lock:
            if shelf.touch(value):
                return
            entries = tuple(_entries(value))
            for entry in entries:
                self._add(entry)
            for entry in shelf.add(value, entries):
                self._remove(entry)
            self._beyond_ascii = self._beyond_ascii or not value.isascii()
            self._results = {}

    def _add(self, entry: _Entry) -> None:
        for gram in _grams(entry):
            others = self._index.get(gram, ())
            # A short one is found by this group alone, a long one by many others.
            if entry not in others and (
                not entry.in_pieces or len(others) < ALIKE_LIMIT
            ):
                self._index[gram] = (*others, entry)

    def _remove(self, entry: _Entry) -> None:
        for gram in _grams(entry):
            others = tuple(e for e in self._index.get(gram, ()) if e is not entry)
            if others:
                self._index[gram] = others
            else:
                self._index.pop(gram, None)

    def redact(self, text: str) -> str:
        """Return ``text`` with :data:`MARK` in place of every secret. Idempotent."""
        results = self._results
        known = results.get(text)
        if known is not None:
            return known
        result = self._redacted(text)
        if len(text) <= CACHED_TEXT_LIMIT:
            if len(results) >= CACHED_TEXTS:
                results.clear()
            results[text] = result
        return result

    def _redacted(self, text: str) -> str:
        if len(text) < PIECE:
            return text
        if self._index:
            text = _replaced(text, self._spans(text, LAYERS))
        if "://" in text:
            text = _USERINFO.sub(f"{MARK}@", text)
        return _SIGNATURE.sub(MARK, text) if "Signature=" in text else text

    def _spans(self, text: str, layers: int) -> list[_Span]:
        found = list(self._plain(text))
        if not layers:
            return found
        found += self._encoded(text, _BASE64, _from_base64, layers)
        found += self._encoded(text, _HEX, _from_hex, layers)
        if _ESCAPE.search(text):
            plain, origin = _unescaped(text)
            found += [
                _Span(origin[span.start], origin[span.end])
                for span in self._spans(plain, layers - 1)
            ]
        return found

    def _plain(self, text: str) -> Iterator[_Span]:
        index = self._index
        end = 0
        places = [
            i for i in range(len(text) - _GRAM + 1) if text[i : i + _GRAM] in index
        ]
        for i in places:
            if i + _GRAM <= end:
                continue  # within what has been found already
            for entry in index.get(text[i : i + _GRAM], ()):
                for span in _matches(text, i, entry):
                    end = max(end, span.end)
                    yield span

    def _encoded(
        self,
        text: str,
        runs: re.Pattern[str],
        decoded: Callable[[str], Iterator[bytes]],
        layers: int,
    ) -> Iterator[_Span]:
        readable = _ANYTHING if self._beyond_ascii else _PRINTABLE
        for run in runs.finditer(text):
            if any(
                self._spans(piece.decode("latin-1"), layers - 1)
                for plain in decoded(run[0])
                for piece in readable.findall(plain)
            ):
                yield _Span(*run.span())


def _entries(value: str) -> Iterator[_Entry]:
    """Yield the spellings of ``value`` that no decoding of a text leads to."""
    in_pieces = len(value) >= PIECES_FROM
    texts = dict.fromkeys([value, value.strip(), value.replace(" ", "+")])
    if not value.isascii():
        # Percent-encoded, base64 and hex have its bytes.
        texts[value.encode("utf-8", "surrogatepass").decode("latin-1")] = None
    for text in texts:
        yield _Entry(text, in_pieces=in_pieces)


def _grams(entry: _Entry) -> Iterator[str]:
    last = len(entry.text) - _GRAM if entry.in_pieces else 0
    for start in range(0, last + 1, _STRIDE):
        yield entry.text[start : start + _GRAM]


def _matches(text: str, start: int, entry: _Entry) -> Iterator[_Span]:
    """Yield the pieces of ``entry`` around the group of characters at ``start``."""
    if not entry.in_pieces:
        if text.startswith(entry.text, start):
            yield _Span(start, start + len(entry.text))
        return
    core = _Span(start, start + _GRAM)
    secret = entry.text
    # A span that grows to one side first can meet a repetition, and stop on the other.
    for span in {
        _grown_right(text, _grown_left(text, core, secret), secret),
        _grown_left(text, _grown_right(text, core, secret), secret),
    }:
        if _counts(text[span.start : span.end]):
            yield span


def _grown_left(text: str, span: _Span, secret: str) -> _Span:
    start, end = span
    while start > 0 and text[start - 1 : end] in secret:
        start -= 1
    return _Span(start, end)


def _grown_right(text: str, span: _Span, secret: str) -> _Span:
    start, end = span
    while end < len(text) and text[start : end + 1] in secret:
        end += 1
    return _Span(start, end)


def _counts(piece: str) -> bool:
    if len(piece) < PIECE:
        return False
    return len(piece) >= _WORDS_FROM or not _WORDS.fullmatch(piece)


def _unescaped(text: str) -> tuple[str, list[int]]:
    """Return ``text`` without one layer of escapes, and where each character was.

    The places have one entry more than the text: its end.
    """
    parts: list[str] = []
    origin: list[int] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[at : match.start()])
        origin.extend(range(at, match.start() + 1))
        parts.append(_character(match))
        at = match.end()
    parts.append(text[at:])
    origin.extend(range(at, len(text) + 1))
    return "".join(parts), origin


def _character(match: re.Match[str]) -> str:
    kind = str(match.lastgroup)
    if kind == "letter":
        return _LETTERS[match[kind]]
    if kind == "name":
        return _NAMES[match[kind]]
    return chr(int(match[kind], _CODES[kind]))


def _from_base64(run: str) -> Iterator[bytes]:
    """Yield what ``run`` can mean: it can begin within a group of four characters."""
    standard = run.translate(_STANDARD)
    for offset in range(4):
        part = standard[offset:]
        yield a2b_base64(part + "A" * (-len(part) % 4))


def _from_hex(run: str) -> Iterator[bytes]:
    """Yield what ``run`` can mean: it can begin within a byte."""
    digits = run.replace(":", "").replace(" ", "")
    for offset in range(2):
        part = digits[offset:]
        yield bytes.fromhex(part[: len(part) // 2 * 2])


def _replaced(text: str, spans: list[_Span]) -> str:
    if not spans:
        return text
    parts: list[str] = []
    at = 0
    for start, end in sorted(spans):
        if start >= at:
            # Neighbours get one mark: their number is private too.
            parts += [text[at:start], MARK] if start > at or not parts else []
        at = max(at, end)
    parts.append(text[at:])
    return "".join(parts)


_process: Final = Redactor()


def register(value: str, *, is_token: bool = False) -> None:
    """Remove ``value`` from everything that this process says from now on.

    Args:
        value: The secret.
        is_token: See :meth:`Redactor.register`.
    """
    _process.register(value, is_token=is_token)


def register_environment(environ: Mapping[str, str]) -> None:
    """Register what looks like a secret in ``environ``: also what no library takes.

    These are the values of variables that are named like a secret, and passwords in
    addresses, such as a proxy's.
    """
    for name, value in environ.items():
        if _SECRET_NAME.fullmatch(name):
            register(value)
        for password in _PASSWORD.findall(value):
            register(unquote(password))


def register_answer(answer: bytes) -> None:
    """Register whatever could be a secret in an answer that has credentials in it.

    Whoever reads it, and stumbles, can quote what stands where it should not: a secret
    key as a version. So all runs of 16 and more characters count that keys and tokens
    are made of, except access keys' ids, which are names.
    """
    for run in islice(_RUN.finditer(answer), ANSWER_LIMIT):
        text = run[0].decode("ascii").replace("\\/", "/")
        if not _ACCESS_KEY_ID.fullmatch(text):
            register(text)


def redact(text: str) -> str:
    """Return ``text`` with :data:`MARK` in place of every secret of this process.

    Costs about 50 ns a character for a text that has not been seen lately.
    """
    return _process.redact(text)


def redact_document(document: _Document) -> _Document:
    """Return a copy of ``document``, as JSON has them, with every text redacted."""
    return cast("_Document", _redacted_document(document))


def _redacted_document(document: object) -> object:
    if isinstance(document, str):
        return _process.redact(document)
    if isinstance(document, dict):
        return {key: _redacted_document(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_redacted_document(value) for value in document]
    if isinstance(document, tuple):
        return tuple(_redacted_document(value) for value in document)
    return document
