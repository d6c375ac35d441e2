"""The answers of AWS, read without trust.

A service, or whatever answers in its place, can say anything: other types than its
model has, lists of nothing, texts of megabytes. Here every field is read with its type,
texts are cleaned (design D19), and what travels on as it is (a token, a URL, an id) is
compared with what AWS allows (protocol 1.1, 1.3). Reading never raises for any answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ssmtunneld.base.foreign import CleanText, clean

if TYPE_CHECKING:
    from re import Pattern

ITEM_LIMIT: Final = 10_000
"""Items of one list that are read: ten times the longest page that AWS sends."""

SESSION_ID: Final = re.compile(r"[A-Za-z0-9_+=,.@:-]{1,96}")
"""The caller's session name, which IAM limits so, a dash, and more (protocol 1.1)."""
TOKEN: Final = re.compile(r"[!-~]{1,8192}")
"""A token: the model says 300 characters at most, which the service exceeds."""
STREAM_URL: Final = re.compile(r"wss?://[!-~]{1,4096}")
"""The URL of a data channel."""
INSTANCE_ID: Final = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")
"""An EC2 instance (protocol 1.3)."""
NODE_ID: Final = re.compile(r"mi-[0-9a-f]{17}")
"""A managed node (protocol 1.3)."""
TASK_PART: Final = re.compile(r"[A-Za-z0-9-]{1,128}")
"""The id of an ECS task, or of a container's runtime (protocol 1.3)."""
ACCESS_REQUEST_ID: Final = re.compile(r"oi-[0-9a-f]{12}")
"""A request for just-in-time access (protocol Appendix E)."""
ACCESS_KEY: Final = re.compile(r"[A-Za-z0-9_]{16,128}")
"""The id of an access key."""
PAGE_TOKEN: Final = re.compile(r"[ -~]{1,8192}")
"""A pointer to the next page."""
PASSWORD: Final = re.compile(r"[ -~]{1,8192}")
"""A database's user or password."""


class Answer:
    """One structure of an answer.

    Args:
        fields: What was parsed; anything but a tunnel is read as an empty structure.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: object) -> None:
        self._fields: Mapping[object, object] = (
            fields if isinstance(fields, Mapping) else {}
        )

    def text(self, name: str) -> CleanText:
        """Return a text fit to be shown; empty if there is none."""
        value = self._fields.get(name)
        return clean(value) if isinstance(value, str) else CleanText("")

    def matching(self, name: str, pattern: Pattern[str]) -> str:
        """Return a text unchanged; empty if there is none, or none like ``pattern``."""
        value = self._fields.get(name)
        return value if isinstance(value, str) and pattern.fullmatch(value) else ""

    def moment(self, name: str) -> float:
        """Return a time in Unix seconds; 0 if there is none."""
        value = self._fields.get(name)
        if not isinstance(value, datetime):
            return 0.0
        try:
            return value.timestamp()
        except (OverflowError, ValueError, OSError):  # of the year 1, or 9999
            return 0.0

    def number(self, name: str) -> int:
        """Return a whole number; 0 if there is none."""
        value = self._fields.get(name)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return value if is_number and isinstance(value, int) else 0

    def has(self, name: str) -> bool:
        """Return whether a field holds anything but an empty value."""
        return bool(self._fields.get(name))

    def names(self, pattern: Pattern[str]) -> list[str]:
        """Return the names of fields that are like ``pattern``, in order."""
        found = (name for name in self._fields if isinstance(name, str))
        return sorted(name for name in found if pattern.fullmatch(name))

    def is_true(self, name: str) -> bool:
        """Return whether a field is the boolean true."""
        return self._fields.get(name) is True

    def structure(self, name: str) -> Answer:
        """Return a structure inside; an empty one if there is none."""
        return Answer(self._fields.get(name))

    def structures(self, name: str) -> list[Answer]:
        """Return the structures of a list inside; what is none is left out."""
        return [Answer(item) for item in self._list(name) if isinstance(item, Mapping)]

    def texts(self, name: str) -> list[CleanText]:
        """Return the texts of a list inside; what is none is left out."""
        return [clean(item) for item in self._list(name) if isinstance(item, str)]

    def _list(self, name: str) -> list[object]:
        value = self._fields.get(name)
        return value[:ITEM_LIMIT] if isinstance(value, list) else []
