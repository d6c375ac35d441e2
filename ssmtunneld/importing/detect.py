"""Telling the formats apart, by what only one of them has."""

import re
from typing import Final

from ssmtunneld.importing.basti import read_basti
from ssmtunneld.importing.commands import read_commands
from ssmtunneld.importing.found import Found
from ssmtunneld.importing.ssh import read_ssh_config
from ssmtunneld.importing.tunneld import read_tunneld

FORMATS: Final = {
    "aws": read_commands,
    "ssh": read_ssh_config,
    "basti": read_basti,
    "tunneld": read_tunneld,
}
"""The reader of each format, by its name."""

_MARKS: Final = (
    ("tunneld", re.compile(r"^\s*\[\[\s*tunnels\s*\]\]", re.MULTILINE)),
    ("ssh", re.compile(r"^\s*(?:Host|Match)[\s=]+\S", re.MULTILINE | re.IGNORECASE)),
    ("aws", re.compile(r"\bssm\s+(?:\\\s*)?start-session\b")),
    ("basti", re.compile(r"^\s*\{?\s*\"?connections\"?\s*:", re.MULTILINE)),
    ("ssh", re.compile(r"^\s*Include[\s=]+\S", re.MULTILINE)),
)


def detect(text: str) -> str:
    """Return the name of the format of ``text``.

    Raises:
        ValueError: It is none that we know.
    """
    for name, mark in _MARKS:
        if mark.search(text):
            return name
    raise ValueError(
        "has nothing that could be imported: neither aws ssm start-session, nor hosts "
        "of ssh, connections of basti, or [[tunnels]] of tunneld"
    )


def read(text: str, form: str | None = None) -> Found:
    """Return the tunnels in ``text``.

    Args:
        text: All of it.
        form: A key of ``FORMATS``; None to find out.

    Raises:
        ValueError: It cannot be read; says why.
    """
    return FORMATS[form or detect(text)](text)
