"""The interpreter that runs this program, to start one of our modules with it."""

import sys


def interpreter(*arguments: str) -> list[str]:
    """Return the words that run this interpreter with ``arguments``.

    No module is looked for in the working directory (``-P``): it can be somebody else's
    checkout, with a module that has the name of one of ours, or of Python's.
    """
    return [sys.executable, "-P", *arguments]
