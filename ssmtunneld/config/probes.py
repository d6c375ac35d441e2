"""Probes of a tunnel's destination, from the text that a person writes."""

import re
from typing import Final, Literal, TypeAlias, get_args

from typing_extensions import override

from ssmtunneld.base.nearest import nearest
from ssmtunneld.base.record import Record

Kind: TypeAlias = Literal["tcp", "banner", "postgres", "mysql", "redis", "http"]

# A first line, not a document: the answer is compared byte by byte.
LONGEST_BANNER: Final = 256
_PATH: Final = re.compile(r"/[!-~]{0,2047}")
_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_WITH_DETAIL: Final[dict[Kind, str]] = {"banner": "banner:SSH-", "http": "http:/path"}
_PLAIN: Final = tuple(kind for kind in _KINDS if kind not in _WITH_DETAIL)
EXAMPLES: Final = tuple(_WITH_DETAIL.get(kind, kind) for kind in _KINDS)
"""A spelling of every kind of probe."""
PROBE_PATTERN: Final = f"^({'|'.join(_PLAIN)}|banner:.+|http:/.*)$"
"""The spellings of a probe, for the JSON schema."""
MYSQL_PORT: Final = 3306
"""The port of MySQL and MariaDB."""
_SPELLINGS: Final = ", ".join([*(f'"{text}"' for text in EXAMPLES), "or false"])


class Probe(Record):
    """A way to check that a destination is alive.

    Attributes:
        kind: The protocol to speak.
        detail: The banner to expect, or the path to ask for; empty for the others.
    """

    kind: Kind
    detail: str = ""

    @override
    def __str__(self) -> str:
        return f"{self.kind}:{self.detail}" if self.detail else self.kind


def speaks_mysql(port: int | None, db_engine: str | None) -> bool:
    """Return True if the settings say that the destination is MySQL or MariaDB.

    Such a server counts visitors that do not finish its handshake, and locks their
    address out after ``max_connect_errors`` (100) of them: behind a tunnel that is the
    target's address, and so everybody's. Only the ``mysql`` probe does not count.
    """
    return db_engine == "mysql" or (db_engine is None and port == MYSQL_PORT)


def parse_probe(value: object) -> Probe | None:
    """Return the probe that ``value`` spells, None for ``false``.

    Raises:
        ValueError: The value is not a probe.
    """
    if value is None or value is False:
        return None
    if isinstance(value, Probe):
        return value
    kind, colon, detail = value.partition(":") if isinstance(value, str) else ("",) * 3
    if kind in _PLAIN and not colon:
        return Probe(kind)
    if kind == "banner":
        if not 0 < len(detail.encode()) <= LONGEST_BANNER:
            raise ValueError(
                "should say what the destination's first bytes are, "
                f'at most {LONGEST_BANNER} of them: "banner:SSH-"'
            )
        return Probe("banner", detail)
    if kind == "http":
        if not _PATH.fullmatch(detail):
            raise ValueError(
                "should have a path of printable ASCII without spaces: "
                '"http:/" or "http:/health"'
            )
        return Probe("http", detail)
    near = nearest(kind, _KINDS)
    guess = f" (did you mean {near[0]}?)" if near and kind not in _PLAIN else ""
    raise ValueError(f"is not a probe{guess}: write {_SPELLINGS}")
