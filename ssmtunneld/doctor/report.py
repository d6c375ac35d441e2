"""Findings of the doctor."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ssmtunneld.base.redaction import redact
from ssmtunneld.errors import AwsError

HOPS: Final = (
    "credentials",
    "region",
    "proxy",
    "dns",
    "tcp",
    "tls",
    "clock",
    "identity",
    "target",
    "agent",
    "permission",
    "upgrade",
    "handshake",
    "destination",
    "round trip",
    "throughput",
)
"""The hops of a tunnel, in the order in which they are looked at."""

NOT_REACHED: Final = "not reached"
"""Begins the text of each hop behind one that is broken."""


class Verdict(StrEnum):
    """The verdict on a hop."""

    OK = "ok"
    WARN = "warn"
    """It works, but worse than it should."""
    FAIL = "fail"
    SKIP = "skip"
    """It was not looked at, or could not be; that alone says nothing bad."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one hop."""

    hop: str
    """One of ``HOPS``; before them ``config``, and ``listen`` for local addresses."""
    verdict: Verdict
    text: str
    """The result, or the reason for not testing."""
    cure: str = ""
    """Advice; empty if nothing has to be done."""

    def __post_init__(self) -> None:
        """Remove secrets from what libraries and services have said."""
        object.__setattr__(self, "text", redact(self.text))
        object.__setattr__(self, "cure", redact(self.cure))

    @property
    def told(self) -> str:
        """Hop, finding and cure, in one line."""
        return f"{self.hop}: {self.text}{f'; {self.cure}' if self.cure else ''}"


class Broken(Exception):
    """A hop is broken; nothing behind it can be looked at.

    Args:
        text: What was found.
        cure: What to do about it.
        hop: Which one, if another than the one that was looked at.
    """

    def __init__(self, text: str, cure: str = "", hop: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.cure = cure
        self.hop = hop

    @classmethod
    def by(cls, error: AwsError, hop: str = "") -> "Broken":
        """Return what a refusal of the service means."""
        return cls(" ".join(str(error).split()), error.advice, hop)


class Doubtful(Exception):
    """A hop works badly; the way goes on.

    Args:
        text: What was found.
        cure: What to do about it.
    """

    def __init__(self, text: str, cure: str) -> None:
        super().__init__(text)
        self.text = text
        self.cure = cure


class Skipped(Exception):
    """A hop is not there, or cannot be looked at; the way goes on.

    Args:
        text: Why.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
