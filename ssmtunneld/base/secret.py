"""A string that will not print."""

from typing import Self

from typing_extensions import override

from ssmtunneld.base.redaction import register


class Secret:
    """A token or credential: ``repr`` and ``str`` show ``***``, only ``reveal`` tells.

    Pickling and copying into a format string give nothing away either, so a secret can
    stand in an exception, a log fact or a dataclass without being named in its output.
    What the process says is kept free of the value in other spellings too
    (``base/redaction.py``).

    Args:
        value: The secret text.
        known: Redact the value in all output; see :meth:`derived`.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str, *, known: bool = True) -> None:
        self._value = value
        if known:
            register(value)

    @classmethod
    def derived(cls, value: str) -> Self:
        """Return a secret because of a part that is one of its own: a proxy's URL.

        Only that part is removed from what the process says; the rest, such as the name
        of a host, is ordinary.
        """
        return cls(value, known=False)

    @classmethod
    def token(cls, value: str) -> Self:
        """Return the token of a session, which its service chooses.

        It is removed from all output like any secret, but never at the cost of others.
        """
        register(value, is_token=True)
        return cls(value, known=False)

    def reveal(self) -> str:
        """Return the value itself; the call site is where it can leak."""
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
