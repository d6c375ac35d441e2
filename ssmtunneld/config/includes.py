"""The files that a configuration includes: patterns, and what they match.

A pattern is a path in which ``*``, ``?`` and ``[...]`` stand for characters of one
name, as in a shell. A path without them names a file that must exist; a pattern can
match none. The work is bounded, because a daemon looks again and again: in files, in
patterns, and in names that are compared.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from ssmtunneld.base.paths import real_path
from ssmtunneld.base.record import Record
from ssmtunneld.config.parsers import expand_home

FILE_LIMIT: Final = 256
"""Files that a configuration may include: about one for each two tunnels."""
PATTERN_LIMIT: Final = 256
"""Patterns that are looked for: one for each file."""
NAME_LIMIT: Final = 10_000
"""Names in folders that are compared with one pattern: some 20 ms."""
ALL_NAMES_LIMIT: Final = 50_000
"""Names that are compared with all patterns, one after the other."""
KEY: Final = "include"

_WILD: Final = re.compile(r"[*?[]")


def check_pattern(pattern: str) -> str:
    """Return ``pattern`` if it is one.

    Raises:
        ValueError: It is not; says so without quoting it.
    """
    if not pattern or not pattern.isprintable():
        raise ValueError('should be a path or a pattern, such as "conf.d/*.toml"')
    if "**" in pattern:
        raise ValueError(
            'cannot have **: name each folder, such as "conf.d/*.toml", "*/conf.toml"'
        )
    return pattern


@dataclass(slots=True)
class FoundFiles:
    """The files that patterns match.

    Attributes:
        paths: In the order of the patterns, and by name for each; none twice.
        problems: The number of a pattern, and why its files cannot be told.
        unmatched: Patterns that match no file.
    """

    paths: list[Path] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)


class Includes(Record):
    """The patterns of one file.

    Attributes:
        main: The file, from whose folder relative patterns start.
        patterns: In the order of the file.
        home: The meaning of ``~``; None where nobody knows.
    """

    main: Path
    patterns: tuple[str, ...] = ()
    home: Path | None = None

    @classmethod
    def of(
        cls, main: Path, tables: Mapping[str, Any], environ: Mapping[str, str]
    ) -> "Includes":
        """Return the patterns of a parsed file, without those that are none.

        ``tables.py`` says what is wrong with the others.
        """
        value = tables.get(KEY, [])
        home = Path(environ["HOME"]) if environ.get("HOME") else None
        listed = value if isinstance(value, list) else [value]
        return cls(main, tuple(map(_usable, listed)), home)

    def find(self) -> FoundFiles:
        """Return the files that there are now. Raises nothing.

        The main file is left out, and a file that several patterns match is there once.
        Names that start with a dot are matched by patterns that do: editors and
        Kubernetes keep files of their own under such names.
        """
        found = FoundFiles()
        known = {real_path(self.main)}
        budget = _Budget(ALL_NAMES_LIMIT)
        for number, pattern in enumerate(self.patterns[:PATTERN_LIMIT]):
            if pattern:
                self._add(number, pattern, budget, found, known)
        if len(self.patterns) > PATTERN_LIMIT:
            problem = f"comes after {PATTERN_LIMIT} others, which are too many"
            found.problems.append((PATTERN_LIMIT, problem))
        if len(found.paths) > FILE_LIMIT:
            last = len(self.patterns) - 1
            found.problems.append((last, f"matches more than {FILE_LIMIT} files"))
            del found.paths[FILE_LIMIT:]
        return found

    def _add(
        self,
        number: int,
        pattern: str,
        budget: "_Budget",
        found: FoundFiles,
        known: set[Path],
    ) -> None:
        """Add the files of one pattern that are not ``known``, or what is wrong."""
        try:
            paths = self._expand(pattern, budget)
        except ValueError as error:
            found.problems.append((number, str(error)))
            return
        if not paths:
            found.unmatched.append(pattern)
        for path in paths:
            if len(found.paths) > FILE_LIMIT:
                return  # one too many: further ones change nothing
            if (real := real_path(path)) not in known:
                known.add(real)
                found.paths.append(path)

    def _expand(self, pattern: str, budget: "_Budget") -> list[Path]:
        """Return the files of one pattern, sorted.

        Raises:
            ValueError: They cannot be told, or the file that it names is not there.
        """
        root, parts = self._split(pattern)
        if not any(map(_WILD.search, parts)):
            return [_existing(root.joinpath(*parts))]
        names = _Names(budget)
        paths = [root]
        for part in parts:
            if _WILD.search(part):
                paths = [f / name for f in paths for name in names.matching(f, part)]
            else:
                paths = [folder / part for folder in paths]
        return sorted(path for path in paths if os.path.lexists(path))

    def _split(self, pattern: str) -> tuple[Path, tuple[str, ...]]:
        """Return the folder from which a pattern starts, and its names.

        Nothing in the folder is a wildcard, whatever the folder is called.
        """
        if pattern.startswith("~/"):
            return expand_home("~/", self.home), Path(pattern[2:]).parts
        path = Path(pattern)
        if path.is_absolute():
            return Path(path.anchor), path.parts[1:]
        return self.main.parent, path.parts


@dataclass(slots=True)
class _Budget:
    """Names that may still be compared with patterns."""

    left: int


class _Names:
    """Names in folders, as many as are compared with one pattern."""

    def __init__(self, budget: _Budget) -> None:
        self._left = NAME_LIMIT
        self._budget = budget

    def matching(self, folder: Path, pattern: str) -> list[str]:
        """Return the names in ``folder`` that match; none if there is no such folder.

        Raises:
            ValueError: It cannot be looked into: what it has must not count as gone.
        """
        try:
            found = [name for name in self._listed(folder) if _matches(name, pattern)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            reason = error.strerror or str(error)
            raise ValueError(f"{folder} cannot be listed: {reason}") from None
        # Whoever may write there must not choose what logs and terminals are told.
        if not all(map(str.isprintable, found)):
            raise ValueError(f"matches a name in {folder} that cannot be shown")
        return found

    def _listed(self, folder: Path) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                self._left -= 1
                self._budget.left -= 1
                if self._left < 0:
                    raise ValueError(f"has more than {NAME_LIMIT} names to look at")
                if self._budget.left < 0:
                    limit = ALL_NAMES_LIMIT
                    raise ValueError(f"has, with the others, more than {limit} names")
                yield entry.name


def _matches(name: str, pattern: str) -> bool:
    hidden = name.startswith(".") and not pattern.startswith(".")
    return not hidden and fnmatchcase(name, pattern)


def _existing(path: Path) -> Path:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise ValueError(f'{path} is a folder: name its files, such as "conf.d/*.toml"')
    return path


def _usable(value: object) -> str:
    """Return ``value`` if it is a pattern, else nothing."""
    try:
        return check_pattern(value) if isinstance(value, str) else ""
    except ValueError:
        return ""
