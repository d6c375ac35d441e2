"""The origin of a session, read from its reason (``daemon/backend.py`` writes it)."""

from __future__ import annotations

import re
from typing import Final

from ssmtunneld.config.fields import NAME_PATTERN
from ssmtunneld.sessions.reason import default_reason, mark

# Anybody can write a reason: what is found here is shown, and nothing more.
_MARKED: Final = re.compile(rf"\[[0-9a-f]{{12}}/(?P<name>{NAME_PATTERN})\]$")
_PLAIN: Final = re.compile(
    rf"ssmtunneld/\S+ (?P<who>[^\r\n]+@\S+ tunnel (?P<name>{NAME_PATTERN}))(?=: | \[|$)"
)


def tunnel_in(reason: str) -> str:
    """Return the tunnel that a session was started for; empty if it is not one of ours.

    Of any daemon's, on any machine.
    """
    match = _MARKED.search(reason) or _PLAIN.match(reason)
    return match["name"] if match else ""


def is_of(reason: str, instance: str, name: str) -> bool:
    """Say whether a session is tunnel ``name``'s, of the configuration ``instance``.

    Sessions of ``proxy`` and ``doctor``, and those of a daemon without a lock, have no
    mark: they count if they are of this user and machine. The version can be another.

    Args:
        reason: The session's reason.
        instance: What ``instance_name`` says of the configuration's file.
        name: The tunnel's.
    """
    if _MARKED.search(reason):
        return reason.endswith(mark(instance, name))
    theirs, ours = _PLAIN.match(reason), _PLAIN.match(default_reason(name))
    return theirs is not None and ours is not None and theirs["who"] == ours["who"]
