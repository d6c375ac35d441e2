"""Users of this machine, as a configuration names them."""

import pwd
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias

EVERYBODY: Final = "*"
"""Stands for all users."""

User: TypeAlias = int | Literal["*"]
"""A user id, or all users."""

# The last one means "no user" to the kernel: (uid_t)-1.
_MOST: Final = 2**32 - 2


def parse_user(value: object) -> User:
    """Return the user that ``value`` names: a name, a user id, or ``"*"`` for all.

    Blocks for as long as the system's user database does; call it at start only.

    Raises:
        ValueError: It is none of these, or no user of this machine has that name.
    """
    if value == EVERYBODY:
        return EVERYBODY
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= _MOST:
            raise ValueError("is not a user id")
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError('is not a user: write a name, a user id, or "*" for everybody')
    try:
        return pwd.getpwnam(value).pw_uid
    except KeyError:
        raise ValueError(_why_nobody(value)) from None


def _why_nobody(name: str) -> str:
    if name.isascii() and name.isdigit():
        return "names no user of this machine: write a user id without quotes"
    names = {entry.pw_name for entry in pwd.getpwall()}
    near = get_close_matches(name, names, n=1)
    guess = f" (did you mean {near[0]}?)" if near else ""
    return f"names no user of this machine{guess}"
