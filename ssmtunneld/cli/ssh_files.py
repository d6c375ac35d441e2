"""The user's ssh files: one that is ours, and one line in one that is not."""

import difflib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ssmtunneld.base.folders import make_private_folder
from ssmtunneld.base.on_error import on_error
from ssmtunneld.cli.exit_codes import CommandError
from ssmtunneld.daemon.instance_lock import state_directory

OURS: Final = "ssmtunneld.conf"
INCLUDE: Final = f"Include {OURS}\n"

_PRIVATE: Final = 0o600
_KEYWORD: Final = re.compile(r"\s*(?P<keyword>[A-Za-z]+)(?:\s*=\s*|\s+)(?P<rest>.*)")


@dataclass(frozen=True, slots=True)
class Change:
    """A file as it is, and as it should be."""

    path: Path
    """A file, not a link to one."""
    before: str | None
    """None if there is no file."""
    after: str
    mode: int

    @property
    def needed(self) -> bool:
        """True if the file must change."""
        return self.before != self.after

    def diff(self) -> str:
        """Return what changes, in the unified form; empty if nothing does."""
        lines = difflib.unified_diff(
            (self.before or "").splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            "/dev/null" if self.before is None else str(self.path),
            str(self.path),
        )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)

    def apply(self) -> None:
        """Replace the file in one step: whoever reads it sees the old or the new one.

        Raises:
            CommandError: It cannot be written; nothing has changed.
        """
        try:
            make_private_folder(self.path.parent)
            handle, name = tempfile.mkstemp(prefix=".ssmtunneld-", dir=self.path.parent)
            with on_error(Path(name).unlink):
                with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                    os.fchmod(handle, self.mode)
                    file.write(self.after)
                    file.flush()
                    os.fsync(handle)
                Path(name).replace(self.path)
        except OSError as error:
            raise CommandError(f"cannot write {self.path}: {error.strerror}") from None


def keys_directory() -> Path:
    """Return where the keys of single logins are (``proxy --instance-connect``)."""
    return state_directory() / "ssh"


def plan_changes(folder: Path, text: str) -> list[Change]:
    """Return what must be done so that ssh reads ``text``.

    Args:
        folder: The user's ``~/.ssh``.
        text: What our file should hold.

    Raises:
        CommandError: A file is not what it should be: somebody else's, no file at all.
    """
    ours = folder / OURS
    if ours.is_symlink():
        raise CommandError(f"{ours} is a link instead of a file", "remove it")
    own = Change(ours, _read(ours), text, _PRIVATE)
    # Many keep this one elsewhere and link to it: the file is replaced, not the link.
    config = folder / "config"
    if config.is_symlink() and not config.exists():
        raise CommandError(f"{config} is a link that leads nowhere", "mend it")
    path = config.resolve()
    before = _read(path)
    mode = _PRIVATE if before is None else stat.S_IMODE(path.stat().st_mode)
    return [own, Change(path, before, _with_include(before or "", folder), mode)]


def _read(path: Path) -> str | None:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise CommandError(f"{path} is not a regular file", "move it away")
        if found.st_uid != os.geteuid():
            raise CommandError(
                f"{path} belongs to another user", "change its owner first"
            )
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(
            f"{path} is not UTF-8 text", f"add the line yourself: {INCLUDE.strip()}"
        ) from None


def _with_include(text: str, folder: Path) -> str:
    """Return ``text`` with our line at its top, unless it has one that counts.

    One that stands behind a Host or Match line counts for those hosts only.
    """
    names = {OURS, f"~/.ssh/{OURS}", str(folder / OURS)}
    if any(name.strip('"') in names for name in _included(text)):
        return text
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = newline if text and not text.startswith(("\n", "\r")) else ""
    return INCLUDE.replace("\n", newline) + gap + text


def _included(text: str) -> Iterator[str]:
    for line in text.splitlines():
        match = _KEYWORD.fullmatch(line)
        if match is None:
            continue
        keyword = match["keyword"].lower()
        if keyword in {"host", "match"}:
            return
        if keyword == "include":
            yield from match["rest"].split()
