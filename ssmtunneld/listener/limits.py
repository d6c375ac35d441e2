"""The limit of connections of all tunnels together, and the quota of each.

Half of the connections are reserved for the tunnels in equal parts, used or not; the
other half is for any tunnel, first come, first served. So a tunnel that takes all it
can get, for hours, still leaves every other tunnel its part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Apart from connections, sessions and listeners: the loop, the log, control and HTTP
# sockets with their clients, AWS calls in threads, files of credentials.
OTHER_FILES: Final = 128


class ConnectionLimit:
    """The connections of all tunnels together.

    Attributes:
        taken: Connections now.
    """

    __slots__ = ("_limit", "_part", "_shares", "_unused", "taken")

    def __init__(self, limit: int) -> None:
        self.taken = 0
        self._limit = limit
        self._part = limit
        self._unused = 0
        self._shares: list[ConnectionQuota] = []

    @property
    def limit(self) -> int:
        """The greatest number of connections; changes apply at once."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self.divide()

    @property
    def unused(self) -> int:
        """The number of free connections that are reserved for other tunnels."""
        return self._unused

    def join(self, most: int) -> ConnectionQuota:
        """Return the share of another tunnel, which may have ``most`` connections."""
        quota = ConnectionQuota(self, most)
        self._shares.append(quota)
        self.divide()
        return quota

    def leave(self, quota: ConnectionQuota) -> None:
        """Give the part of a tunnel that is over to the others; idempotent."""
        if quota in self._shares:
            self._shares.remove(quota)
            self.divide()

    def divide(self) -> None:
        """Give every tunnel its part, after a change of numbers."""
        half = self._limit // (2 * max(1, len(self._shares)))
        # However many tunnels there are, each has room for one if there is so much.
        each = max(half, int(len(self._shares) <= self._limit))
        self._unused = 0
        for quota in self._shares:
            quota.part = min(each, quota.most)
            self._unused += max(0, quota.part - quota.taken)
        self.announce()

    def count(self, quota: ConnectionQuota, change: int) -> None:
        """Note that ``quota`` has one connection more, or one less."""
        self.taken += change
        if quota in self._shares:
            before = max(0, quota.part - quota.taken)
            self._unused += max(0, quota.part - quota.taken - change) - before
        quota.taken += change
        if change < 0:
            self.announce()

    def announce(self) -> None:
        """Call the tunnels that wait for room: there can be some now."""
        for quota in self._shares:
            if quota.waiting is not None and not quota.full:
                waiting, quota.waiting = quota.waiting, None
                waiting()


class ConnectionQuota:
    """One tunnel's part of an allowance.

    Attributes:
        most: The greatest number of connections of this tunnel.
        part: The number of connections that are reserved for it.
        taken: Connections now.
        waiting: Called once there is room again.
    """

    __slots__ = ("_connection_limit", "most", "part", "taken", "waiting")

    def __init__(self, connection_limit: ConnectionLimit, most: int) -> None:
        self._connection_limit = connection_limit
        self.most = most
        self.part = 0
        self.taken = 0
        self.waiting: Callable[[], None] | None = None

    @property
    def full(self) -> bool:
        """True if there is no room for another connection of this tunnel."""
        connection_limit = self._connection_limit
        if self.taken < self.part:
            return connection_limit.taken >= connection_limit.limit
        return (
            connection_limit.taken + connection_limit.unused >= connection_limit.limit
        )

    @property
    def limit(self) -> int:
        """The greatest number of connections of all tunnels together."""
        return self._connection_limit.limit

    def take(self) -> None:
        """Count one more connection; look at ``full`` first."""
        self._connection_limit.count(self, 1)

    def give_back(self) -> None:
        """Count one less."""
        self._connection_limit.count(self, -1)

    def resize(self, most: int) -> None:
        """Change the greatest number of connections of this tunnel."""
        if most != self.most:
            self.most = most
            self._connection_limit.divide()

    def leave(self) -> None:
        """Keep no part any more; connections still count until they end."""
        self._connection_limit.leave(self)


def files_needed(connections: int, sessions: int, listeners: int) -> int:
    """Return how many files a process needs that has all of these at once."""
    return connections + sessions + listeners + OTHER_FILES
