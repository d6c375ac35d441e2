"""Variables in the syntax of shells and files, safe for any value."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Final

from ssmtunneld.cli.exit_codes import EXIT_USAGE, CommandError

_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+=:,./?&\[\]-]*")
"""Values that every reader of .env files takes literally."""

_NOT_IN_SINGLE_QUOTES: Final = re.compile(r"['\n\r]|\$\{|\\(?:\\|\Z)")
"""Parts that some readers of .env files do not take literally there: python-dotenv
knows escapes of backslash and quote, and puts in other variables."""
_NOT_IN_DOUBLE_QUOTES: Final = re.compile(r"[\"$`\\\n\r]")
"""Characters that they escape in different ways there, or not at all, as Node.js."""


def as_sh(values: Mapping[str, str]) -> str:
    """Return lines for sh, bash and zsh."""
    return "\n".join(f"export {key}={shlex.quote(values[key])}" for key in values)


def as_fish(values: Mapping[str, str]) -> str:
    """Return lines for fish."""
    return "\n".join(f"set -gx {key} {_for_fish(values[key])};" for key in values)


def as_dotenv(values: Mapping[str, str]) -> str:
    """Return lines of a .env file; quoted only where that is needed.

    Docker reads quotes as part of the value, other readers need them for spaces and #.

    Raises:
        CommandError: Programs would read a value in different ways.
    """
    return "\n".join(f"{key}={_for_dotenv(key, values[key])}" for key in values)


def as_json(values: Mapping[str, str]) -> str:
    """Return one JSON object."""
    return json.dumps(dict(values), indent=2)


FORMATS: Final[Mapping[str, Callable[[Mapping[str, str]], str]]] = {
    "sh": as_sh,
    "shell": as_sh,
    "fish": as_fish,
    "json": as_json,
    "dotenv": as_dotenv,
}


def _for_fish(value: str) -> str:
    # Within fish's single quotes only these two mean anything.
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _for_dotenv(key: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if not _NOT_IN_SINGLE_QUOTES.search(value):
        return f"'{value}'"
    if not _NOT_IN_DOUBLE_QUOTES.search(value):
        return f'"{value}"'
    raise CommandError(
        f"programs that read .env files would not agree on {key}: it has ${{, or "
        "quotes with $, `, \\ or line ends",
        "take --format json or sh",
        code=EXIT_USAGE,
    )
