"""Undo what a block has begun if the block does not reach its end."""

from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec

_P = ParamSpec("_P")


class _OnError:
    __slots__ = ("_undo",)

    def __init__(self, undo: Callable[[], object]) -> None:
        self._undo = undo

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._undo()


def on_error(
    undo: Callable[_P, object], /, *args: _P.args, **kwargs: _P.kwargs
) -> _OnError:
    """Return a context manager that calls ``undo`` if its block raises anything.

    Cancellation counts too. The exception goes on; a return is an orderly end.

    Args:
        undo: Closes or aborts what the block would have handed on.
        args: Its arguments.
        kwargs: Its arguments by name.
    """
    return _OnError(lambda: undo(*args, **kwargs))
