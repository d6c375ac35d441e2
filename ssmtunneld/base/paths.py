"""Paths as the same file has them, whoever names it, and those of this user.

None of these functions raises: ``Path.home`` and ``Path.expanduser`` do where a user id
has no entry in the user database, as in many containers, and until Python 3.14 so do
``Path.is_file`` and ``Path.exists`` where a folder on the way may not be searched.
"""

import os
from pathlib import Path
from typing import Final

_NO_HOME: Final = Path("/")
"""The home of a user whom nobody knows, as container runtimes have it."""


def real_path(path: Path) -> Path:
    """Return ``path`` from the root on, with its links followed.

    Never raises: where links go round, or the working directory is gone, the path is
    returned as far as it could be followed. Whoever opens it is told.
    """
    try:
        return Path(os.path.realpath(path))
    except OSError:
        return path


def home() -> Path:
    """Return the user's folder: ``HOME``, or else what the user database says.

    The root folder for a user who has neither.
    """
    found = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home raises
    return found if found.is_absolute() else _NO_HOME


def expanded(text: str) -> Path:
    """Return ``text`` as a path, with ``~`` replaced where it can be."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises


def exists(path: Path) -> bool:
    """Return True if ``path`` is there, as far as this user can see."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises


def is_link(path: Path) -> bool:
    """Return True if ``path`` is a link, as far as this user can see."""
    return os.path.islink(path)  # noqa: PTH114 - Path.is_symlink raises


def is_file(path: Path) -> bool:
    """Return True if ``path`` is a regular file, as far as this user can see."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises


def listed(folder: Path, pattern: str) -> list[Path]:
    """Return the paths in ``folder`` that match ``pattern``, sorted.

    An empty list if it is not there, or not for this user to look into.
    """
    try:
        return sorted(folder.glob(pattern))
    except (OSError, ValueError):  # a NUL in the name, as of Python 3.13
        return []
