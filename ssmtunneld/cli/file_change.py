"""A change of one of the user's own files: shown, and made in one step."""

import difflib
import os
import stat
import tempfile
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
