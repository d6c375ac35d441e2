"""Running another program in our place: its signals, its terminal, its exit code."""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

from ssmtunneld.cli.exit_codes import CommandError

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""Exit codes as shells and env(1) have them."""
BY_SIGNAL: Final = 128
"""The exit code of what a signal ended is this and the signal's number."""

# A terminal sends these to everybody in front of it: the program has its own already.
_OF_TERMINAL: Final = frozenset({signal.SIGINT, signal.SIGQUIT})
_FORWARDED: Final = (
    *_OF_TERMINAL,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def run_program(
    command: Sequence[str], environ: Mapping[str, str], *, hushed: bool = False
) -> int:
    """Run ``command`` with our input, output and terminal; return its exit code.

    Signals that we get meanwhile are passed on to it, but for those that are ignored.
    If one ends it, the code is 128 and the signal's number, as in shells.

    Args:
        command: The program and its arguments.
        environ: Its environment.
        hushed: Whether its standard error goes nowhere.

    Raises:
        CommandError: It cannot be run.
    """
    with _forwarding() as program:
        try:
            process = subprocess.Popen(  # noqa: S603 - what the user has asked for
                list(command),
                env=environ,
                # No pipe: what it leaves running may write there for hours.
                stderr=subprocess.DEVNULL if hushed else None,
            )
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            raise CommandError(
                f"{shlex.quote(command[0])} cannot be run: {error.strerror or error}",
                code=NOT_FOUND if missing else NOT_EXECUTABLE,
            ) from None
        program.start(process)
        code = process.wait()
    return code if code >= 0 else BY_SIGNAL - code


class _Program:
    """The program that gets our signals, once it has started."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def start(self, process: subprocess.Popen[bytes]) -> None:
        """Send what came too early, and everything from now on."""
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def signal(self, number: int, _: FrameType | None) -> None:
        """Pass ``number`` on, unless the terminal has."""
        if number in _OF_TERMINAL and _in_front():
            return
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)


@contextmanager
def _forwarding() -> Iterator[_Program]:
    program = _Program()
    before: dict[int, Any] = {}
    try:
        for number in _FORWARDED:
            # What nohup or a shell has ignored, the program is to ignore as well: a
            # handler of ours would be the default to it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, program.signal)
        yield program
    finally:
        for taken, handler in before.items():
            signal.signal(taken, handler)


def _in_front() -> bool:
    """Return true if we, and so our program, are in a terminal's foreground."""
    with suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False
