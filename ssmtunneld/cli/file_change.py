"""A change of one of the user's own files: shown, and made in one step."""

import difflib
import errno
import os
import pwd
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ssmtunneld.base.folders import make_private_folder
from ssmtunneld.base.on_error import on_error
from ssmtunneld.cli.exit_codes import CommandError


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

        It keeps its owner, group and attributes: root may change what a daemon of
        another user must be able to read.

        Raises:
            CommandError: It cannot be written, or not such that the same users can
                read it; nothing has changed.
        """
        try:
            make_private_folder(self.path.parent)
            handle, name = tempfile.mkstemp(prefix=".ssmtunneld-", dir=self.path.parent)
            with on_error(Path(name).unlink):
                with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                    if self.path.exists():
                        take_after(self.path, handle, self.mode)
                    else:
                        os.fchmod(handle, self.mode)
                    file.write(self.after)
                    file.flush()
                    os.fsync(handle)
                Path(name).replace(self.path)
        except ReadersLost as lost:
            raise CommandError(
                f"cannot write {self.path}: {lost.strerror}",
                "run the command with sudo, or as the file's owner",
            ) from None
        except OSError as error:
            raise CommandError(f"cannot write {self.path}: {error.strerror}") from None


class ReadersLost(PermissionError):
    """A file cannot be replaced such that the same users can read it."""

    def __init__(self, whose: str) -> None:
        super().__init__(errno.EPERM, f"{whose} could not read it any more")


def take_after(old: Path, new: int, mode: int | None = None) -> None:
    """Give the open file ``new`` the owner, group, mode and attributes of ``old``.

    Args:
        old: A file.
        new: A descriptor of what is to take its place. Whoever can write to the folder
            could put another file under its name, and root must not give that away.
        mode: The mode to give it instead.

    Raises:
        ReadersLost: This user may not, and somebody could not read it any more.
        OSError: It cannot be done.
    """
    status = old.stat()
    mode = stat.S_IMODE(status.st_mode) if mode is None else mode
    _give(new, status.st_uid, status.st_gid, mode)
    _copy_attributes(old, new)
    os.fchmod(new, mode)


def _give(new: int, uid: int, gid: int, mode: int) -> None:
    """Give ``new`` to an owner and a group, as far as it makes a difference."""
    with suppress(PermissionError):  # only root gives files away
        os.fchown(new, uid, gid)
        return
    try:
        os.fchown(new, -1, gid)
    except PermissionError:
        if _group_bits(mode) != _other_bits(mode):
            raise ReadersLost("its group") from None
    if not _reads_without_owning(uid, gid, mode):
        raise ReadersLost("its owner")


def _copy_attributes(old: Path, new: int) -> None:
    """Copy access lists, and what SELinux calls the file."""
    if sys.platform == "linux":
        # Each file system has others, and some none.
        with suppress(OSError):
            for name in os.listxattr(old):
                with suppress(OSError):
                    os.setxattr(new, name, os.getxattr(old, name))


def _group_bits(mode: int) -> int:
    return mode >> 3 & 0o7


def _other_bits(mode: int) -> int:
    return mode & 0o7


def _reads_without_owning(uid: int, gid: int, mode: int) -> bool:
    """Return True if the user ``uid`` can read what another user owns."""
    if uid in {0, os.geteuid()} or mode & stat.S_IROTH:
        return True
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return False
    is_member = gid in os.getgrouplist(user.pw_name, user.pw_gid)
    return is_member and bool(mode & stat.S_IRGRP)


def read_own(path: Path, otherwise: str) -> str | None:
    """Return the text of a file of the user; None if there is none.

    Args:
        path: The file.
        otherwise: What to do instead, if it is not UTF-8 text.

    Raises:
        CommandError: It cannot be read, or is another user's, or no regular file.
    """
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
        raise CommandError(f"{path} is not UTF-8 text", otherwise) from None
