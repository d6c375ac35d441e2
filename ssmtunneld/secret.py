"""A string that will not print."""

from typing_extensions import override


class Secret:
    """A token or credential: ``repr`` and ``str`` show ``***``, only ``reveal`` tells.

    Pickling and copying into a format string give nothing away either, so a secret can
    stand in an exception, a log fact or a dataclass without being named in its output.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself; the call site is where it may leak."""
        return self._value

    @override
    def __repr__(self) -> str:
        return "Secret(***)"

    @override
    def __str__(self) -> str:
        return "***"

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    @override
    def __hash__(self) -> int:
        return hash(self._value)

    @override
    def __reduce__(self) -> str:
        raise TypeError("a Secret is never serialised")
