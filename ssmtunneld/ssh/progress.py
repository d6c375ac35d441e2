"""Lines for the person behind an ssh that waits."""

import sys
from collections.abc import Callable
from contextlib import suppress

Tell = Callable[[str], None]
"""Gets a line for a person."""


def tell_person(line: str) -> None:
    """Write a line of progress to standard error, where a person looks."""
    # A closed terminal is no reason to give up.
    with suppress(OSError, ValueError):
        sys.stderr.write(f"ssmtunneld: {line}\n")
        sys.stderr.flush()
