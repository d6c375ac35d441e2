"""Keys for one login each: made by ssh-keygen, private, and gone soon afterwards.

ssh looks at an ``IdentityFile`` twice. As soon as it has started its ProxyCommand it
looks for a public part, and while it logs in it reads the private one, which must fit
what it saw. So a key that some ssh could have seen must not be replaced before the
ProxyCommand of that ssh has taken it: one that is given up is put aside first, where no
ssh sees it, and a ProxyCommand that starts meanwhile takes it back.

Each key has a folder of its own. Whoever uses it holds a shared lock on that folder;
the kernel gives it back even for a process that was killed.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ssmtunneld.base.folders import make_private_folder
from ssmtunneld.errors import SsmtunneldError

NAME: Final = "key"
"""The private key, in its folder."""

ASIDE: Final = 5.0
"""Seconds that a key lies aside before it is deleted: more than a ProxyCommand takes
from its start until it asks for its key."""
FORGOTTEN: Final = 60.0
"""Seconds after which what lies aside was left behind by somebody who was killed."""
# A process of its own, because nobody must wait for it: not ssh, and not who waits for
# the end of ssh's output. The rename makes sure that a key is deleted or taken back.
_DELETE: Final = '(sleep "$1"; mv -- "$0" "$0.gone" && rm -rf -- "$0.gone") &'
_GONE: Final = ".gone"
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9:._=,+@-]")


class KeyUnavailable(SsmtunneldError):
    """There is no key, and ``str()`` says why."""

    advice = "check that ssh-keygen is installed, and that this folder is yours"


def folder_name(user: str, host: str) -> str:
    """Return what the folder of the key of ``user`` at ``host`` is called.

    ``%r@%h`` in the words of ssh_config(5).
    """
    return _NOT_IN_NAMES.sub("-", f"{user}@{host}")


def _wall_clock() -> float:
    return datetime.now(UTC).timestamp()


class Lease:
    """The use of a key, until it is released.

    Args:
        root: Where the folders of all keys are.
        name: Of this key's folder.
        now: The wall clock, in Unix seconds.
        aside: Seconds that it lies aside before it is deleted.

    Raises:
        KeyUnavailable: It can be neither found nor made.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        now: Callable[[], float] = _wall_clock,
        aside: float = ASIDE,
    ) -> None:
        self._root = root
        self._place = root / name
        self._now = now
        self._aside = aside
        self._folder: int | None = None
        try:
            for folder in (root.parent, root):
                make_private_folder(folder)
            with _locked(root):
                self._forget_old()
                if not self._take_back():
                    self._make()
                self._folder = os.open(self._place, os.O_RDONLY)
                fcntl.flock(self._folder, fcntl.LOCK_SH)
            self.public_key = " ".join(self._public.read_text().split()[:2])
        except OSError as error:
            raise KeyUnavailable(f"no key in {root}: {error.strerror}") from None
        except subprocess.CalledProcessError as error:
            said = " ".join(error.stderr.split())
            raise KeyUnavailable(f"no key in {root}: ssh-keygen: {said}") from None

    @property
    def _public(self) -> Path:
        return self._place / f"{NAME}.pub"

    def _take_back(self) -> bool:
        """Return whether there is a key that an ssh could have seen."""
        if self._public.exists():
            return True
        shutil.rmtree(self._place, ignore_errors=True)  # somebody took part of it
        for path in self._root.glob(f".{self._place.name}.*"):
            if path.suffix != _GONE:
                with suppress(FileNotFoundError):  # it is deleted in this moment
                    path.rename(self._place)
                    return True
        return False

    def _make(self) -> None:
        work = Path(tempfile.mkdtemp(prefix=".new.", dir=self._root))
        subprocess.run(  # noqa: S603 - no shell, and no secret among the arguments
            [  # noqa: S607 - the one that belongs to the ssh that started us
                "ssh-keygen",
                *("-q", "-t", "ed25519", "-N", "", "-C", "ssmtunneld"),
                *("-f", str(work / NAME)),
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.utime(work / f"{NAME}.pub", (0, 0))
        work.rename(self._place)

    def _forget_old(self) -> None:
        for path in self._root.glob(".*"):
            with suppress(FileNotFoundError):  # it is deleted in this moment
                if self._now() - path.stat().st_mtime > FORGOTTEN:
                    shutil.rmtree(path, ignore_errors=True)

    def is_fresh(self, seconds: float) -> bool:
        """Return True if the key was pushed at most ``seconds`` ago."""
        try:
            age = self._now() - self._public.stat().st_mtime
        except FileNotFoundError:  # released
            return False
        return 0 <= age < seconds

    @contextmanager
    def pushing(self, seconds: float) -> Iterator[bool]:
        """Tell whether to push the key, while nobody else does; note that it was done.

        Blocks while somebody else pushes it.

        Args:
            seconds: Seconds for which other processes can use the push.
        """
        with self._public.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            due = not self.is_fresh(seconds)
            yield due
            if due:
                now = self._now()
                os.utime(file.fileno(), (now, now))

    def release(self) -> None:
        """Give the key up; the last one who does lets it be deleted. Idempotent."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        try:
            with _locked(self._root):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(folder), self._place.stat()):
                    self._put_aside()
        except OSError:
            pass  # somebody else uses it, or it is gone already
        finally:
            os.close(folder)

    def _put_aside(self) -> None:
        aside = self._root / f".{self._place.name}.{os.getpid()}"
        self._place.rename(aside)
        now = self._now()
        os.utime(aside, (now, now))
        subprocess.run(  # noqa: S603 - a fixed program, and names as its arguments
            ["/bin/sh", "-c", _DELETE, str(aside), f"{self._aside:g}"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from making, taking and giving up keys."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
