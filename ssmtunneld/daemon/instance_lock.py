"""The lock of a daemon: one for each configuration file, user and machine.

The name is part of the reason of every session, so that a daemon that starts after a
crash knows the sessions of the one before it. A lock makes sure that there is only one
at a time; a second one must not take the first one's sessions for forgotten. Once the
first one has ended, the second one takes its place.
"""

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from platformdirs import user_state_path

from ssmtunneld.base.folders import make_private_folder, read_private_file
from ssmtunneld.base.paths import home, listed, real_path

CLAIM_INTERVAL: Final = 5.0
"""Seconds between attempts to take an instance that another process has."""


def instance_name(source: Path) -> str:
    """Return the name of the daemon that runs the configuration in ``source``."""
    identity = f"{os.getuid()}@{_machine()}:{real_path(source)}"
    # Not every path is UTF-8.
    return hashlib.sha256(os.fsencode(identity)).hexdigest()[:12]


def _machine() -> str:
    """Return what no other machine is called, as far as can be."""
    name = socket.gethostname()
    try:
        # Many are called the same, and reach the same targets.
        return f"{name} {Path('/etc/machine-id').read_text().strip()}"
    except (OSError, UnicodeDecodeError):
        return name


def state_directory() -> Path:
    """Return where locks and control sockets are: systemd's place, or the user's.

    Never raises. Of several folders of a unit it is the first one.
    """
    if state := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(state)
    try:
        found = user_state_path("ssmtunneld")
    except RuntimeError:  # nobody's home; older versions return what leads nowhere
        found = Path()
    return found if found.is_absolute() else home() / ".local/state/ssmtunneld"


def control_socket(name: str) -> Path:
    """Return the control socket of the instance called ``name``."""
    return state_directory() / f"{name}.sock"


def control_sockets(source: Path | None) -> list[Path]:
    """Return the control sockets of the daemon of ``source``, or of all daemons.

    Some can be left behind: a daemon that was killed does not remove its own.
    """
    if source is not None:
        return [control_socket(instance_name(source))]
    return listed(state_directory(), "*.sock")


class Claim:
    """The right to be the daemon of a configuration file: one process has it at a time.

    Attributes:
        name: The instance's name once it is ours; ``None`` as long as it is not. Then
            nothing of another daemon is touched.
        holder: The process that has it; ``None`` if that is unknown.
        reason: Why it is not ours; empty if it is.
    """

    def __init__(self, source: Path, directory: Path | None = None) -> None:
        self.name: str | None = None
        self.holder: int | None = None
        self.reason = ""
        self._wanted = instance_name(source)
        self._path = (directory or state_directory()) / f"{self._wanted}.lock"
        self._handle: int | None = None

    def attempt(self) -> bool:
        """Take the instance if it is free; return whether it is ours."""
        try:
            self._handle = _lock(self._path)
        except BlockingIOError:
            self.holder = _read_holder(self._path)
            whose = "" if self.holder is None else f" (pid {self.holder})"
            self.reason = f"another daemon{whose} runs this file"
            return False
        except OSError as error:
            self.holder = None
            self.reason = f"its lock cannot be written: {error}"
            return False
        self.name, self.holder, self.reason = self._wanted, None, ""
        return True

    async def wait(self, interval: float = CLAIM_INTERVAL) -> str:
        """Take the instance as soon as it is free; return its name.

        Cancelling is safe.

        Args:
            interval: Seconds between attempts.
        """
        import asyncio  # noqa: PLC0415 - commands look for locks too, and start faster

        while not self.attempt():  # noqa: ASYNC110 - nobody tells when a process ends
            await asyncio.sleep(interval)
        return self._wanted

    def renew(self) -> bool:
        """Lock the file anew if somebody has removed it; return whether it is ours."""
        if self._handle is None:
            return False
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._handle), self._path.stat()):
                return True
        try:
            handle = _lock(self._path)
        except OSError:
            return False
        os.close(self._handle)
        self._handle = handle
        return True

    def release(self) -> None:
        """Give it back; idempotent."""
        handle, self._handle, self.name = self._handle, None, None
        if handle is not None:
            # While it is still held, so that nobody locks a file that is about to go.
            with suppress(OSError):
                self._path.unlink()
            os.close(handle)


@contextmanager
def claim_instance(source: Path, directory: Path | None = None) -> Iterator[Claim]:
    """Try to take the instance of a configuration, for the length of a block.

    Args:
        source: The configuration file.
        directory: Where locks are; by default systemd's StateDirectory, or else the
            user's state directory.
    """
    claim = Claim(source, directory)
    claim.attempt()
    try:
        yield claim
    finally:
        claim.release()


def holders(source: Path | None) -> list[int]:
    """Return the processes that hold an instance, as far as their locks tell.

    Args:
        source: Only the one of this configuration; by default all of this user's.
    """
    if source is not None:
        locks = [state_directory() / f"{instance_name(source)}.lock"]
    else:
        locks = listed(state_directory(), "*.lock")
    found = [_read_holder(path) for path in locks if _is_held(path)]
    return [pid for pid in found if pid is not None]


def state_trouble() -> str:
    """Return why no daemon can keep its socket where it should; empty if it can."""
    directory = state_directory()
    folders = (directory, *directory.parents)
    # A folder that may not be searched hides whether the next one exists.
    there = next((f for f in folders if os.path.lexists(f)), folders[-1])
    if os.access(there, os.W_OK | os.X_OK) and there.is_dir():
        return ""
    return f"{there} is not writable"


def _is_held(path: Path) -> bool:
    try:
        # Whatever is there is not waited for, as a named pipe would be.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _read_holder(path: Path) -> int | None:
    try:
        return int(read_private_file(path, 20).decode("ascii"))
    except (OSError, ValueError):
        return None


def _lock(path: Path) -> int:
    """Return a descriptor that holds the lock ``path``, with our pid in it.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: It cannot be written.
    """
    while True:
        make_private_folder(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with ExitStack() as undo:
            undo.callback(os.close, handle)
            # Its holder may remove it in between: it locks nothing any more.
            with suppress(FileNotFoundError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(handle), path.stat()):
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
                    undo.pop_all()
                    return handle
