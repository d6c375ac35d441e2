"""How a command ends when it cannot do what it was asked for (design section 6)."""

from collections.abc import Sequence
from typing import Final

from ssmtunneld.errors import SsmtunneldError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
"""Wrong usage, including a tunnel that does not exist; or a wrong configuration."""
EXIT_NOT_RUNNING: Final = 3
EXIT_REFUSED: Final = 4
"""AWS refused."""
EXIT_INTERRUPTED: Final = 130


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
