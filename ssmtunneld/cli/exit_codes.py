"""Exit codes and their meanings, and the error of a command that fails.

The one source: the help of the program, its manual page and ``docs/commands.md`` are
made from here (design section 6).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from ssmtunneld.errors import SsmtunneldError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
"""Wrong usage, including a tunnel that does not exist; or a wrong configuration."""
EXIT_NOT_RUNNING: Final = 3
EXIT_REFUSED: Final = 4
"""AWS refused."""
EXIT_INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as in shells."""

MEANINGS: Final[Mapping[int, str]] = {
    0: "success",
    EXIT_FAILED: "failure: not ready in time, connections reset by a drain, no browser "
    "for a page, or no answer from the daemon",
    EXIT_USAGE: "wrong usage, unknown tunnel, several daemons and none named, or an "
    "invalid configuration",
    EXIT_NOT_RUNNING: "no daemon is running",
    EXIT_REFUSED: "AWS refused",
    EXIT_INTERRUPTED: "interrupted by Ctrl-C",
}
"""Every code that commands end with of their own; ``exec`` and ``proxy`` add more."""


class CommandError(SsmtunneldError):
    """A command could not be carried out.

    Args:
        message: What happened, as one sentence.
        advice: What to do about it.
        code: The exit code.
        problems: Lines that come before the sentence.
    """

    def __init__(
        self,
        message: str,
        advice: str = "",
        *,
        code: int = EXIT_FAILED,
        problems: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code
        self.problems = tuple(problems)
