"""Users that a configuration names: of this machine, and of an instance."""

import pwd
import re
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator

from ssmtunneld.base.nearest import nearest

EVERYBODY: Final = "*"
"""Stands for all users."""

User: TypeAlias = int | Literal["*"]
"""A user id, or all users."""

# The service's model of InstanceOSUser.
_INSTANCE_USER: Final = re.compile(
    r"[A-Za-z_][A-Za-z0-9@._-]{0,30}[A-Za-z0-9$_-]?"
    r"|(?=.{2,32}$)[0-9]+[A-Za-z@._-][A-Za-z0-9@._-]*[A-Za-z0-9$_-]?"
)
# The last one means "no user" to the kernel: (uid_t)-1.
_MOST: Final = 2**32 - 2


def parse_user(value: object) -> User:
    """Return the user that ``value`` names: a name, a user id, or ``"*"`` for all.

    Blocks for as long as the system's user database does; call it at start only.

    Raises:
        ValueError: The value is none of these, or no user has that name.
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
        return "is not a user of this machine: write a user id without quotes"
    names = {entry.pw_name for entry in pwd.getpwall()}
    near = nearest(name, names)
    guess = f" (did you mean {near[0]}?)" if near else ""
    return f"is not a user of this machine{guess}"


def check_instance_user(name: str) -> str:
    """Return ``name``, which EC2 Instance Connect takes for a user of an instance.

    Raises:
        ValueError: The service would refuse the name.
    """
    if not _INSTANCE_USER.fullmatch(name):
        raise ValueError('is not a user of an instance: write it like "ec2-user"')
    return name


InstanceUser: TypeAlias = Annotated[str, AfterValidator(check_instance_user)]
