"""Those who are told of a change, each in the compartment that it belongs to.

What several tunnels share (a login, an access, a bastion) tells all of them. Whoever of
them breaks is a defect of its own, and the others are told all the same (design D18).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from ssmtunneld.base.compartment import Defects, defects_here


class Listeners:
    """Callbacks without arguments.

    Args:
        compartment: The name under which their defects are noted.
    """

    def __init__(self, compartment: str) -> None:
        self._compartment = compartment
        self._all: list[tuple[Callable[[], None], Defects | None]] = []

    @contextmanager
    def telling(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call ``listener`` at each :meth:`tell`, for the duration of the context."""
        entry = listener, defects_here()
        self._all.append(entry)
        try:
            yield
        finally:
            self._all.remove(entry)

    def tell(self) -> None:
        """Call all of them. What one raises is raised here if it is nobody's part."""
        for listener, defects in tuple(self._all):
            with nullcontext() if defects is None else defects.guard(self._compartment):
                listener()
