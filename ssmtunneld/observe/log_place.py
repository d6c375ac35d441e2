"""The place of this process's log: the journal, a file, or neither."""

import fcntl
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ssmtunneld.base.paths import exists

_PATH_MAX: Final = 1024
"""Bytes of a path on macOS."""
_GET_PATH: Final = 50
"""F_GETPATH of macOS's fcntl.h."""
_CGROUP: Final = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class LogPlace:
    """A place to read the whole log at; all empty where it is only shown.

    Attributes:
        unit: The unit whose journal has it.
        user: True if that is a unit of the user's own service manager.
        file: The file that has it.
    """

    unit: str = ""
    user: bool = False
    file: str = ""


def log_place(
    environ: Mapping[str, str], descriptor: int = 2, cgroup: Path = _CGROUP
) -> LogPlace:
    """Return where the log goes that is written to ``descriptor``.

    Args:
        environ: The environment of this process.
        descriptor: Standard error.
        cgroup: What tells the unit that this process belongs to.
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        return LogPlace()  # the process was started without standard error
    # A shell in a service has the variable, too: it must be this very stream.
    if environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}":
        return _in_journal(cgroup)
    if stat.S_ISREG(found.st_mode):
        return LogPlace(file=_path_of(descriptor))
    return LogPlace()


def _in_journal(cgroup: Path) -> LogPlace:
    try:
        path = cgroup.read_text().splitlines()[-1].rpartition(":")[2]
    except (OSError, IndexError):
        return LogPlace()
    parts = path.split("/")
    units = [part for part in parts if part.endswith(".service")]
    if not units:
        return LogPlace()
    user = len(units) > 1 and units[0].startswith("user@")
    return LogPlace(unit=units[-1], user=user)


def _path_of(descriptor: int) -> str:
    try:
        if sys.platform == "darwin":
            path = fcntl.fcntl(descriptor, _GET_PATH, b"\0" * _PATH_MAX)
            return os.fsdecode(path.rstrip(b"\0"))
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""
    # One that was opened for us can be where we may not look.
    return path if exists(Path(path)) else ""
