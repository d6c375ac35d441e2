"""How many connections all mappings may have together, and what is each one's own.

Half of them belong to the mappings in equal parts, whether they are used or not; the
other half to whoever comes first. So a mapping that takes all it can get, for hours,
still leaves every other one its part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Beside connections, sessions and listeners: the loop, the log, control and HTTP
# sockets with their clients, AWS calls in threads, files of credentials.
OTHER_FILES: Final = 128


class Allowance:
    """The connections of all mappings together.

    Attributes:
        taken: Connections now.
    """

    __slots__ = ("_limit", "_part", "_shares", "_unused", "taken")

    def __init__(self, limit: int) -> None:
        self.taken = 0
        self._limit = limit
        self._part = limit
        self._unused = 0
        self._shares: list[Share] = []

    @property
    def limit(self) -> int:
        """How many there may be; may be changed while it is in use."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self.divide()

    @property
    def unused(self) -> int:
        """How many of the free ones are kept for mappings that have not used theirs."""
        return self._unused

    def join(self, most: int) -> Share:
        """Return the share of another mapping, which may have ``most`` connections."""
        share = Share(self, most)
        self._shares.append(share)
        self.divide()
        return share

    def leave(self, share: Share) -> None:
        """Give the part of a mapping that is over to the others; idempotent."""
        if share in self._shares:
            self._shares.remove(share)
            self.divide()

    def divide(self) -> None:
        """Give every mapping its part, after a change of numbers."""
        half = self._limit // (2 * max(1, len(self._shares)))
        # However many mappings there are, each has room for one if there is so much.
        each = max(half, int(len(self._shares) <= self._limit))
        self._unused = 0
        for share in self._shares:
            share.part = min(each, share.most)
            self._unused += max(0, share.part - share.taken)
        self.announce()

    def count(self, share: Share, change: int) -> None:
        """Note that ``share`` has one connection more, or one less."""
        self.taken += change
        if share in self._shares:
            before = max(0, share.part - share.taken)
            self._unused += max(0, share.part - share.taken - change) - before
        share.taken += change
        if change < 0:
            self.announce()

    def announce(self) -> None:
        """Tell those who found no room that there may be some."""
        for share in self._shares:
            if share.waiting is not None and not share.full:
                waiting, share.waiting = share.waiting, None
                waiting()


class Share:
    """One mapping's part of an allowance.

    Attributes:
        most: How many connections the mapping itself may have.
        part: How many of the allowance are its own.
        taken: Connections now.
        waiting: Called once there is room again.
    """

    __slots__ = ("_allowance", "most", "part", "taken", "waiting")

    def __init__(self, allowance: Allowance, most: int) -> None:
        self._allowance = allowance
        self.most = most
        self.part = 0
        self.taken = 0
        self.waiting: Callable[[], None] | None = None

    @property
    def full(self) -> bool:
        """Whether all mappings together leave no room for another of this one."""
        allowance = self._allowance
        if self.taken < self.part:
            return allowance.taken >= allowance.limit
        return allowance.taken + allowance.unused >= allowance.limit

    @property
    def limit(self) -> int:
        """How many connections all mappings together may have."""
        return self._allowance.limit

    def take(self) -> None:
        """Count one more connection; look at ``full`` first."""
        self._allowance.count(self, 1)

    def give_back(self) -> None:
        """Count one less."""
        self._allowance.count(self, -1)

    def resize(self, most: int) -> None:
        """Change how many connections the mapping itself may have."""
        if most != self.most:
            self.most = most
            self._allowance.divide()

    def leave(self) -> None:
        """Keep no part any more; connections still count until they end."""
        self._allowance.leave(self)


def files_needed(connections: int, sessions: int, listeners: int) -> int:
    """Return how many files a process needs that has all of these at once."""
    return connections + sessions + listeners + OTHER_FILES
