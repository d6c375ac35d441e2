"""The files of one configuration, as they were read: texts and tables, unchecked."""

from pathlib import Path
from typing import Any

from ssmtunneld.base.record import Record


class SourceFile(Record):
    """One file.

    Attributes:
        path: As errors name it; relative paths in the file start from its folder.
        text: TOML.
        tables: The parsed text.
        problems: Complete lines that say why there are no tables; empty if it was read.
    """

    path: Path
    text: str
    tables: dict[str, Any]
    problems: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of the tunnels; none where the file says something else there."""
        tunnels = self.tables.get("tunnels")
        return [*tunnels] if isinstance(tunnels, dict) else []


class Sources(Record):
    """The main file, and those that it includes.

    Attributes:
        main: The file that a command names.
        included: The files of its ``include``, in their order.
        problems: What is wrong with ``include``: the number of the pattern, and words.
        unmatched: Patterns that match no file.
    """

    main: SourceFile
    included: tuple[SourceFile, ...] = ()
    problems: tuple[tuple[int, str], ...] = ()
    unmatched: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """All files, the main one first."""
        return (self.main, *self.included)
