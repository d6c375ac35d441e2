"""The reason why a target could not be stopped, kept for the person who comes next.

The process that stops it has neither a terminal nor a log. It writes down in one line
what went wrong last, one file for each target, and removes that when all is well.
"""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final

from ssmtunneld.base.folders import read_private_file, replace_private_file
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.sentences import with_advice

TROUBLE_LIMIT: Final = 1000
"""Characters that are kept."""

_DIGITS: Final = 16
_LONGEST_CHARACTER: Final = 4


class StopTrouble:
    """The last trouble with the stop of a target.

    Nothing depends on it: a file that cannot be read or written is none.

    Args:
        folder: Where the files are.
        target: As the configuration spells it.
    """

    def __init__(self, folder: Path, target: str) -> None:
        name = hashlib.sha256(target.encode("utf-8", "surrogateescape")).hexdigest()
        self._path = folder / name[:_DIGITS]

    def note(self, bastion: str, reason: str, advice: str) -> None:
        """Write down that ``bastion`` could not be stopped, and the cure."""
        line = with_advice(f"bastion {bastion} could not be stopped: {reason}", advice)
        with suppress(OSError):
            content = clean(line, TROUBLE_LIMIT).encode("utf-8")
            replace_private_file(self._path, content)

    def clear(self) -> None:
        """Forget it: the target is looked after again, or needs nobody any more."""
        with suppress(OSError):
            self._path.unlink()

    @property
    def text(self) -> str:
        """One line for people; empty if there is no trouble."""
        try:
            content = read_private_file(self._path, TROUBLE_LIMIT * _LONGEST_CHARACTER)
        except OSError:
            return ""
        return clean(content, TROUBLE_LIMIT)
