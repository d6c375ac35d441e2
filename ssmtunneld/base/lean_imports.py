"""Imports without what a library brings along for what nobody here does."""

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
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


@contextmanager
def uncollected() -> Iterator[None]:
    """Let the garbage collector pass over what imports in the block make, for ever.

    Modules stay, and its looks through them are a tenth of what their imports take.
    For processes that carry little afterwards: garbage of the block, half a MiB for
    all that a session needs, stays too. In other people's programs without effect.
    """
    if not (gc.isenabled() and runs_as_command()):
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def leave_out(name: str, contents: Mapping[str, object]) -> None:
    """Let imports of the module ``name`` find nothing but ``contents`` in it.

    Without effect where it or one of its packages is imported already, and in other
    people's programs.
    """
    parts = name.split(".")
    known = any(".".join(parts[:n]) in sys.modules for n in range(2, len(parts) + 1))
    if known or not runs_as_command():
        return
    module = ModuleType(name, "Left out by ssmtunneld, which has no use for it.")
    vars(module).update(contents)
    sys.modules[name] = module


def runs_as_command() -> bool:
    """Return True if this process is the command ``ssmtunneld``, nobody else's."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    # By its entry point, or by ``python -m``.
    named = getattr(spec, "name", None) == _BEFORE_MAIN
    return named or _BEFORE_MAIN in sys.modules
