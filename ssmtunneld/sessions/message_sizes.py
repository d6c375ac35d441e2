"""Sizes of messages that agents and the service are known to take (design D22).

One record for each agent's version at each endpoint, for the daemon's life; the daemon
keeps them in a file for a week. Pure, but for the clock that it is given.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeGuard

from ssmtunneld.base.record import Record
from ssmtunneld.config.fields import LARGEST_MESSAGE
from ssmtunneld.protocol.message import MAX_PAYLOAD

FIRST_SIZE: Final = 4096
"""Bytes of payload that are tried first; then twice as much each time."""
NOP_SIZE: Final = 8
"""Bytes of an smux NOP, of which a trial consists: its size is a multiple of this."""

MOST_RECORDS: Final = 64
"""Records that are kept; the one that changed least recently goes."""
LIFETIME: Final = 7 * 86400.0
"""Seconds for which a record of an earlier process counts."""
UNCLEAR_LIMIT: Final = 2
"""Trials of one size that were lost for another reason, or so it seems, before that
size counts as refused: a link can be cut in every one of them."""
DOUBT_TIME: Final = 3600.0
"""Seconds in which a second session that ends in the middle of large messages shows
that they are not taken after all. One can have been ended by anything."""
NAME_LIMIT: Final = 256
"""Characters of a version or an endpoint in a record that is read."""


class AgentKind(Record):
    """Agents of one version at one endpoint: they take the same sizes."""

    version: str
    endpoint: str
    """Host and port of the data channel."""


class _Record:
    __slots__ = ("accepted", "at", "doubted_at", "refused", "trying", "unclear")

    def __init__(
        self, accepted: int = MAX_PAYLOAD, refused: int | None = None, at: float = 0.0
    ) -> None:
        self.accepted = accepted
        """The greatest size that was acknowledged."""
        self.refused = refused
        """The smallest one that was not."""
        self.at = at
        """The time at which that was learnt, in Unix seconds."""
        self.trying = False
        self.unclear = 0
        self.doubted_at = float("-inf")


def sizes_to_try(limit: int) -> Iterable[int]:
    """Yield the sizes of trials up to ``limit`` bytes, ascending; none up to 1024."""
    limit -= limit % NOP_SIZE
    size = FIRST_SIZE
    while size < limit:
        yield size
        size *= 2
    if limit > MAX_PAYLOAD:
        yield limit


class MessageSizes:
    """The records of one process.

    Args:
        wall_clock: Returns the time in Unix seconds.
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._records: dict[AgentKind, _Record] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called when something was learnt that is worth keeping."""

    @property
    def oldest(self) -> float:
        """The time, in Unix seconds, before which records of others do not count."""
        return self._wall_clock() - LIFETIME

    def allowed(self, kind: AgentKind, limit: int) -> int:
        """Return the bytes of payload that messages can have, at most ``limit``."""
        record = self._records.get(kind)
        return MAX_PAYLOAD if record is None else min(record.accepted, limit)

    def begin(self, kind: AgentKind, limit: int) -> int | None:
        """Return the size to try next, and claim the trial; ``None`` for no trial.

        One trial of a kind is under way at a time; ``accept``, ``refuse`` or
        ``abandon`` ends it.

        Args:
            kind: The agent.
            limit: Bytes; nothing larger is tried.
        """
        record = self._records.get(kind) or _Record()
        if record.trying:
            return None
        for size in sizes_to_try(limit):
            if record.refused is not None and size >= record.refused:
                return None
            if size > record.accepted:
                record.trying = True
                self._keep(kind, record)
                return size
        return None

    def accept(self, kind: AgentKind, size: int) -> None:
        """Note that the agent has acknowledged a trial of ``size`` bytes."""
        record = self._end_trial(kind)
        record.unclear = 0
        record.accepted = max(record.accepted, size)
        self._learn(record)

    def refuse(self, kind: AgentKind, size: int) -> None:
        """Note that a message of ``size`` bytes has ended its session."""
        record = self._end_trial(kind)
        self._refuse(record, size)

    def abandon(self, kind: AgentKind, size: int, *, unclear: bool) -> None:
        """Note that a trial of ``size`` bytes has ended without a result.

        Args:
            kind: The agent.
            size: Bytes.
            unclear: It has ended with its link, which something else can have cut. The
                second time it counts as refused.
        """
        record = self._end_trial(kind)
        record.unclear += unclear
        if record.unclear >= UNCLEAR_LIMIT:
            self._refuse(record, size)

    def doubt(self, kind: AgentKind, now: float) -> None:
        """Note that a session has ended in the middle of large messages of a user.

        They are tried again before they are used again; the second time within
        ``DOUBT_TIME`` they count as refused.

        Args:
            kind: The agent.
            now: The time, in seconds, on any clock that never jumps.
        """
        record = self._records.get(kind)
        if record is None or record.accepted == MAX_PAYLOAD:
            # Not tried again since the last time: one event can end many sessions.
            return
        doubted_before = now < record.doubted_at + DOUBT_TIME
        record.doubted_at = now
        record.accepted = MAX_PAYLOAD
        if doubted_before:
            record.refused = FIRST_SIZE
        self._learn(record)

    def _end_trial(self, kind: AgentKind) -> _Record:
        record = self._records.get(kind) or _Record()
        record.trying = False
        self._keep(kind, record)
        return record

    def _refuse(self, record: _Record, size: int) -> None:
        record.unclear = 0
        record.refused = min(size, record.refused or size)
        # What was acknowledged once can be refused later: the service has changed.
        if record.accepted >= size:
            record.accepted = MAX_PAYLOAD
        self._learn(record)

    def _learn(self, record: _Record) -> None:
        record.at = self._wall_clock()
        self.changed()

    def _keep(self, kind: AgentKind, record: _Record) -> None:
        self._records.pop(kind, None)
        self._records[kind] = record  # behind all others
        while len(self._records) > MOST_RECORDS:
            del self._records[next(iter(self._records))]

    # The file's content.

    def export(self) -> list[dict[str, Any]]:
        """Return what is worth keeping, as JSON has it."""
        return [
            {
                "agent": kind.version,
                "endpoint": kind.endpoint,
                "accepted": record.accepted,
                "refused": record.refused,
                "at": record.at,
            }
            for kind, record in self._records.items()
            if record.accepted > MAX_PAYLOAD or record.refused is not None
        ]

    def restore(self, entries: object) -> None:
        """Take over what an earlier process has kept.

        Anything in it that does not make sense, or is too old, is left out; what this
        process has learnt itself stays.

        Args:
            entries: As :meth:`export` returned it, or anything else.
        """
        if not isinstance(entries, list):
            return
        learnt, self._records = self._records, {}
        for entry in entries[-MOST_RECORDS:]:
            found = _read(entry, self._wall_clock())
            if found is not None:
                self._keep(*found)
        for kind, record in learnt.items():
            self._keep(kind, record)


def _read(entry: object, now: float) -> tuple[AgentKind, _Record] | None:
    if not isinstance(entry, dict):
        return None
    version, endpoint, at = entry.get("agent"), entry.get("endpoint"), entry.get("at")
    accepted, refused = entry.get("accepted"), entry.get("refused")
    if not (_is_name(version) and _is_name(endpoint) and _is_size(accepted)):
        return None
    if not (refused is None or (_is_size(refused) and refused > accepted)):
        return None
    if not isinstance(at, int | float) or not now - LIFETIME <= at <= now:
        return None
    return AgentKind(version, endpoint), _Record(accepted, refused, float(at))


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= NAME_LIMIT


def _is_size(value: object) -> TypeGuard[int]:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return MAX_PAYLOAD <= value <= LARGEST_MESSAGE
