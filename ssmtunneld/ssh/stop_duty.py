"""The duty to stop a target that connections have left: one process's at a time.

Each connection has a process that keeps its target. When it ends, another one may be
there already that waits for the time to stop it. One is enough, so the later one tells
it the time, and ends.

The duty is the lock of a file, and what is told is the file's time of modification.
Whoever tells looks after that whether the lock is still held, and whoever gives it up
looks after that whether anything was told. So of two one goes on.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.base.folders import make_private_folder
from ssmtunneld.config import TunnelSettings

_DIGITS: Final = 16
_SECRETS: Final = ("_KEY", "_TOKEN")
"""Ends of the names of variables that hold some. An access key has an id besides."""


def duty_name(tunnel: TunnelSettings, environ: Mapping[str, str]) -> str:
    """Return the name of a file for all that stop one target in the same way.

    Settings and variables of AWS are the same for them, so that each can do what the
    others can: a target can be another instance in another account, and keys end.
    """
    variables = sorted(
        (name, value)
        for name, value in environ.items()
        if name.startswith("AWS_") and not name.endswith(_SECRETS)
    )
    identity = replace(Identity.of(tunnel), tunnel="")
    facts = (tunnel.target, tunnel.stop_target_after, identity, variables)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:_DIGITS]


class StopDuty:
    """The duty, whether this process has it or not.

    Where the file cannot be written, each process has one of its own.

    Args:
        path: Its file.
        clock: Returns the seconds of the clock that `last_use` uses.
        wall_clock_ns: Returns Unix nanoseconds.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = path
        self._clock = clock
        self._wall_clock_ns = wall_clock_ns
        self._handle: int | None = None
        self._told: int | None = None
        self._used_at = float("-inf")

    def leave_to_holder(self) -> bool:
        """Tell the process that has it that the target was used just now.

        Return False if there is none, or none any more: then this process has it.
        """
        told: int | None = None
        with ExitStack() as opened, suppress(OSError):
            make_private_folder(self._path.parent)
            # Others can take it, and give it up, in between.
            while (held := self._take()) is not None:
                opened.callback(os.close, held)
                if told is not None and os.path.sameopenfile(held, told):
                    return True
                now = self._wall_clock_ns()
                os.utime(held, ns=(now, now))
                told = held
        return False

    def last_use(self) -> float:
        """Return when others have last told of a use; minus infinity for never."""
        if self._handle is not None:
            self._hear(self._handle)
        return self._used_at

    def _hear(self, handle: int) -> bool:
        """Take over what was told; return True if that is new."""
        told = os.fstat(handle).st_mtime_ns
        if told == self._told:
            return False
        self._told = told
        # A clock that is set back makes no use of the future.
        age = max(0.0, (self._wall_clock_ns() - told) / 1e9)
        self._used_at = max(self._used_at, self._clock() - age)
        return True

    def release(self) -> bool:
        """Give it up; return True if a use was told since `last_use` was asked."""
        handle, self._handle = self._handle, None
        if handle is None:
            return False
        with ExitStack() as opened:
            opened.callback(os.close, handle)
            with suppress(OSError):
                if self._is_there(handle):
                    self._path.unlink()
            fcntl.flock(handle, fcntl.LOCK_UN)
            return self._hear(handle)

    def _take(self) -> int | None:
        """Take it if it is free; else return the open file that another one has locked.

        Raises:
            OSError: The file cannot be opened or locked.
        """
        while self._handle is None:
            with ExitStack() as opened:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                handle = os.open(self._path, flags, 0o600)
                opened.callback(os.close, handle)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    opened.pop_all()
                    return handle
                # Its last holder may have removed it meanwhile.
                if self._is_there(handle):
                    self._handle, self._told = handle, None
                    opened.pop_all()
        return None

    def _is_there(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self._path.lstat())
        except FileNotFoundError:
            return False
