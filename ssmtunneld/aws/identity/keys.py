"""Keys that can stand in a header: without what a file's line ends have left in them.

An environment file with CRLF ends its values in a carriage return. As a part of a
header that is an attack, which libraries refuse in texts that quote the value. So each
key is looked at before any library sees it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES: Final = ("access key id", "secret access key", "session token")
_PLAIN: Final = re.compile(r"[ -~]*")
_VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_ACCOUNT_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


class KeysUnfit(BotoCoreError):
    """Keys hold what no key holds; the text names the part, never its value."""

    fmt = "the {name} of {whose} {problem}"


def tidy(
    access_key: object, secret_key: object, token: object, *, whose: str
) -> tuple[str | None, str | None, str | None]:
    """Return keys without line ends behind them.

    Args:
        access_key: The id, as a provider has it; of any type.
        secret_key: Likewise.
        token: Likewise.
        whose: Where they come from, for the message.

    Raises:
        KeysUnfit: One is not text, or has control or non-ASCII characters.
    """
    found = [
        _tidy(part, name, whose)
        for part, name in zip((access_key, secret_key, token), _NAMES, strict=True)
    ]
    return found[0], found[1], found[2]


def _tidy(part: object, name: str, whose: str) -> str | None:
    if part is None:
        return None
    if not isinstance(part, str):
        raise KeysUnfit(name=name, whose=whose, problem="is not text")
    bare = part.rstrip("\r\n")
    if not bare.isascii():
        raise KeysUnfit(name=name, whose=whose, problem="has non-ASCII characters")
    if not _PLAIN.fullmatch(bare):
        raise KeysUnfit(name=name, whose=whose, problem="has control characters")
    return bare


def tidy_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of the environment whose keys have no line ends behind them."""
    ended = {
        name: environ[name].rstrip("\r\n") for name in _VARIABLES if name in environ
    }
    return {**environ, **ended}
