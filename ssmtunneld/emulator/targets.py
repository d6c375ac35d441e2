"""The form of a target, as StartSession takes it (protocol 1.3)."""

import re
from typing import Final

TARGET: Final = re.compile(
    r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})|mi-[0-9a-f]{17}"
    r"|ecs:[A-Za-z0-9_-]+_[A-Za-z0-9]+_[A-Za-z0-9-]+"
)
"""The form of a target."""
FORMS: Final = (
    "i- and 8 or 17 hex digits, mi- and 17 hex digits, or ecs:cluster_task_runtime"
)
"""The same in words, for messages."""


def check_target(text: str) -> str:
    """Return ``text`` if it is a target.

    Raises:
        ValueError: It is none; quotes it, and says what to write.
    """
    if not TARGET.fullmatch(text):
        raise ValueError(f"{text!r} is not a target: write {FORMS}")
    return text
