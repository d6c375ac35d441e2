"""Imports without what a library brings along for what nobody here does."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_BEFORE_MAIN: Final = "ssmtunneld.__main__"


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Let imports in the block not find the package ``name``.

    Without effect where it is imported already, and in other people's programs: there
    a library must find all that they have installed.
    """
    if name in sys.modules or not runs_as_command():
        yield
        return
    # The import system's own sign for a module that must not be imported.
    modules: dict[str, Any] = {name: None}
    sys.modules.update(modules)
    try:
        yield
    finally:
        del sys.modules[name]


def runs_as_command() -> bool:
    """Return True if this process is the command ``ssmtunneld``, nobody else's."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    # By its entry point, or by ``python -m``.
    named = getattr(spec, "name", None) == _BEFORE_MAIN
    return named or _BEFORE_MAIN in sys.modules
