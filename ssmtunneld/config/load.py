"""From a file to a ``Config``, or to one ``ConfigError`` that lists every problem.

A file can include more: each is read, bounded and named in errors as the first. A
problem is one line: ``FILE:LINE: key.path: what is wrong``. Values are not quoted where
they might be secrets, and those of unknown keys never are.
"""

import errno
import os
import re
import shlex
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import platformdirs

from ssmtunneld.base.folders import read_now
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.paths import home, real_path
from ssmtunneld.config.includes import Includes
from ssmtunneld.config.model import Config
from ssmtunneld.config.parsers import format_size
from ssmtunneld.config.sources import SourceFile, Sources
from ssmtunneld.config.tables import read_source_tables
from ssmtunneld.errors import ConfigError, ConfigMissing

SYSTEM_CONFIG: Final = Path("/etc/ssmtunneld/config.toml")
VARIABLE: Final = "SSMTUNNELD_CONFIG"

LARGEST_FILE: Final = 2**20
"""Bytes of a configuration file, and characters of it and all that it includes; 500
tunnels take 200 KB."""
DEEPEST: Final = 32
"""Tables and lists within each other, and parts of a key. Settings need five."""

# TOML's own parser takes a time that is quadratic in the parts of a key: a text of 1
# MiB would keep it busy for hours. The time of this pattern is linear: it is possessive
# and follows a quoted part for 64 characters. Keys of longer parts cost 3 s at most.
_LONG_KEY: Final = re.compile(
    r"(?<![A-Za-z0-9_\\-])(?:"
    r"""(?:[A-Za-z0-9_-]++|"(?:\\.|[^"\\\n]){0,64}+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
    rf"){{{DEEPEST}}}"
)
_WINDOW: Final = 16 * 1024
"""Characters that are searched for such a key at a time: no other thread runs then. One
that is not seen because it lies in two of them has long parts, and so not many."""
_HINTED: Final = 1000
"""Characters of a line that is not TOML which are looked at for the slip in it."""
# A value that is no number, date, string, list or table, nor true, false, inf or nan:
# text without quotes, such as i-0182d91e, eu-west-1 or 127.0.0.1:5432.
_UNQUOTED: Final = re.compile(
    r"[ \t]*[A-Za-z0-9_.-]+[ \t]*=[ \t]*"
    r"(?!(?:true|false|[+-]?(?:inf|nan|[0-9][0-9_]*(?:\.[0-9_]+)?))(?:[\s#,]|$))"
    r"[A-Za-z0-9_.:/~$*+-]"
)
_SLIPS: Final = (
    (
        re.compile(r"[^=#]*=[ \t]*(?!true|false)(?i:true|false)[ \t]*(?:#|$)"),
        "write true or false, in small letters",
    ),
    (re.compile("[^=#]*=[ \t]*[\u2018-\u201f]"), "write straight quotes: \" or '"),
    (re.compile(r"[^=#]*=[ \t]*[+-]?0[0-9]"), "a number does not begin with 0"),
    (_UNQUOTED, 'text needs quotes: key = "..."'),
)
"""Lines that are slips where they are not TOML, and what to write."""
_UNCLOSED_TEXT: Final = re.compile(
    r"""(?:Illegal|Found invalid) character '\\n'|Expected "'+"|Unterminated string"""
)
"""The complaints of tomllib about texts without an end."""
_TWICE: Final = re.compile(r"Cannot declare \((?P<key>.+)\) twice")
"""tomllib's complaint about a table's second header, with a tuple of Python's."""
_AGAIN: Final = "Cannot overwrite a value"
"""tomllib's complaint about a key that stands in the same table twice."""
_APOSTROPHE: Final = re.compile(r"""^[^'"#\n=]*+=[^'"\n]*+'[^'\n]*+$""", re.MULTILINE)
"""A line with a single one around a value, for whose end the whole file is searched."""
_POSITION: Final = re.compile(
    r" \((?:at line (?P<line>[0-9]+), column (?P<column>[0-9]+)|at end of document)\)$"
)


def find_config(
    explicit: Path | None,
    environ: Mapping[str, str],
    system_wide: Path = SYSTEM_CONFIG,
) -> Path:
    """Return the file to load.

    A file that is named, by ``explicit`` or by ``$SSMTUNNELD_CONFIG``, is taken without
    looking; then come the user's configuration directory and ``system_wide``.

    Raises:
        ConfigMissing: None is named and none exists; lists the places.
    """
    if explicit is not None:
        return explicit
    if named := environ.get(VARIABLE):
        return Path(named)
    candidates = (user_config(environ), system_wide)
    for candidate in candidates:
        if _exists(candidate):
            return candidate
    places = ", ".join(str(candidate) for candidate in candidates)
    raise ConfigMissing(
        f"no configuration file: looked for --config, ${VARIABLE}, {places}",
        "write one with ssmtunneld init, or do without: ssmtunneld open",
    )


def load_config(
    path: Path,
    environ: Mapping[str, str],
    *,
    instead: Mapping[Path, str] | None = None,
    about_to_include: Callable[[Includes], None] = lambda _: None,
) -> Config:
    """Return the configuration in the file at ``path``, and in those that it includes.

    Args:
        path: The file; TOML in UTF-8.
        environ: Environment for ``${NAME}`` and ``~``.
        instead: Texts that stand for those of files, by their real paths.
        about_to_include: Called before the included files are looked for.

    Raises:
        ConfigError: A file cannot be read, or has problems; lists all of them.
    """
    sources = read_sources(
        path, environ, instead=instead, about_to_include=about_to_include
    )
    return read_source_tables(sources, environ)


def read_sources(
    path: Path,
    environ: Mapping[str, str],
    *,
    instead: Mapping[Path, str] | None = None,
    about_to_include: Callable[[Includes], None] = lambda _: None,
) -> Sources:
    """Return the files of a configuration, unchecked; the arguments are as above.

    Raises:
        ConfigError: The main file cannot be read, or is not TOML. Where an included one
            cannot, its ``problems`` say so.
    """
    instead = instead or {}
    given = instead.get(real_path(path))
    text = read_file(path) if given is None else given
    main = SourceFile(path, text, parse_toml(text, path))
    includes = Includes.of(path, main.tables, environ)
    about_to_include(includes)
    return _with_included(main, includes, instead)


def _with_included(
    main: SourceFile, includes: Includes, instead: Mapping[Path, str]
) -> Sources:
    found = includes.find()
    files: list[SourceFile] = []
    left = LARGEST_FILE - len(main.text)
    for path in found.paths:
        file = _read_included(path, instead)
        left -= len(file.text)
        if left < 0:
            limit = format_size(LARGEST_FILE)
            found.problems.append(
                (len(includes.patterns) - 1, f"has files of more than {limit} in all")
            )
            break
        files.append(file)
    return Sources(main, tuple(files), tuple(found.problems), tuple(found.unmatched))


def _read_included(path: Path, instead: Mapping[Path, str]) -> SourceFile:
    text = ""
    try:
        given = instead.get(real_path(path))
        text = read_file(path) if given is None else given
        return SourceFile(path, text, parse_toml(text, path))
    except ConfigError as error:
        return SourceFile(path, text, {}, tuple(error.problems))


def read_file(path: Path) -> str:
    """Return the text of a configuration file. Never waits: a pipe is refused.

    Raises:
        ConfigMissing: There is none.
        ConfigError: It cannot be read, is not a regular file, is larger than
            ``LARGEST_FILE``, or is not UTF-8.
    """
    try:
        raw = _read_bytes(path)
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError):
            cure = f"write one: ssmtunneld init -c {shlex.quote(str(path))}"
            raise ConfigMissing(f"{path}: cannot be read: {reason}", cure) from None
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from None
    if len(raw) > LARGEST_FILE:
        limit = format_size(LARGEST_FILE)
        raise ConfigError([f"{path}: is larger than {limit}, so not a configuration"])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: is not UTF-8 text"]) from None


def _read_bytes(path: Path) -> bytes:
    # Without O_NONBLOCK, opening a named pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise ConfigError([f"{path}: is not a regular file"])
        with open(descriptor, "rb", closefd=False) as file:
            return read_now(file, LARGEST_FILE + 1)
    finally:
        os.close(descriptor)


def parse_config(text: str, source: str | Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration in ``text``, and in the files that it includes.

    Args:
        text: TOML.
        source: The file it came from: named in errors, and relative paths start from
            its directory. It need not exist.
        environ: Environment for ``${NAME}`` and ``~``.

    Raises:
        ConfigError: Lists every problem that was found, in the order of the lines.
    """
    path = Path(source)
    return load_config(path, environ, instead={real_path(path): text})


def parse_toml(text: str, source: Path) -> dict[str, Any]:
    """Return the tables of ``text``, nested no deeper than ``DEEPEST``.

    Raises:
        ConfigError: It is not TOML, or nested deeper; names ``source`` and the line.
    """
    if (match := _find_long_key(text)) is not None:
        line = text.count("\n", 0, match.start()) + 1
        problem = f"has a key of more than {DEEPEST} parts"
        raise ConfigError([f"{source}:{line}: {problem}"])
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(source) from None
    except ValueError as error:
        # Mostly a TOMLDecodeError; a number of 5000 digits is a plain ValueError.
        raise _not_toml(str(error), text, source) from None
    if _is_deep(tables):
        raise _too_deep(source)
    return tables


def _find_long_key(text: str) -> re.Match[str] | None:
    windows = range(0, len(text), _WINDOW)
    found = (_LONG_KEY.search(text, start, start + _WINDOW) for start in windows)
    return next((match for match in found if match is not None), None)


def _is_deep(tables: dict[str, Any]) -> bool:
    level: list[Any] = [tables]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _too_deep(source: Path) -> ConfigError:
    return ConfigError([f"{source}: is nested too deeply"])


def _not_toml(message: str, text: str, source: Path) -> ConfigError:
    line, column = _position(message, text)
    # Behind a semicolon Python tells programmers what to do.
    what = clean(_POSITION.sub("", message).partition("; use sys.")[0])
    if _UNCLOSED_TEXT.fullmatch(what):
        what = clean("a text is not closed: the quote at its end is missing")
        begun = _APOSTROPHE.search(text)
        if begun is not None and line > text.count("\n"):
            line, column = text.count("\n", 0, begun.end()) + 1, len(begun[0]) + 1
    hint = _hint(text.split("\n")[line - 1])
    problem = f"is not TOML: {_reworded(what)}{hint}"
    return ConfigError([f"{source}:{line}:{column}: {problem}"])


def _reworded(what: str) -> str:
    """Return tomllib's complaint for people who know the file, and no Python."""
    if (twice := _TWICE.fullmatch(what)) is not None:
        key = ".".join(re.findall("'([^']*)'", twice["key"]))
        return f"there is a table [{key}] above: choose another name"
    if what == _AGAIN:
        return "this key has a value above: write it once"
    return f"{what[:1].lower()}{what[1:]}"


def _hint(line: str) -> str:
    """Return the cure of a common slip in ``line``, without its value."""
    slips = (cure for slip, cure in _SLIPS if slip.match(line[:_HINTED]))
    return next((f" ({cure})" for cure in slips), "")


def _position(message: str, text: str) -> tuple[int, int]:
    """Return line and column of an error of tomllib's; without them, of the end."""
    position = _POSITION.search(message)
    if position is not None and position["line"]:
        return int(position["line"]), int(position["column"])
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def user_config(environ: Mapping[str, str]) -> Path:
    """Return where the user's own file is, or would be."""
    return _user_directory(environ) / "config.toml"


def _user_directory(environ: Mapping[str, str]) -> Path:
    # A relative one counts as none, by the XDG specification.
    if (base := environ.get("XDG_CONFIG_HOME", "")).startswith("/"):
        return Path(base) / "ssmtunneld"
    try:
        found = platformdirs.user_config_path("ssmtunneld", appauthor=False)
    except RuntimeError:  # nobody's home; older versions return what leads nowhere
        found = Path()
    return found if found.is_absolute() else home() / ".config/ssmtunneld"


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # load_config says why it cannot be read
    return True
