"""Whether the agent is still repeating what was lost, which it does slowly.

It repeats ten messages a second, the oldest first (protocol 4.5), and whatever comes
after them has to wait: a new stream in such a session would wait with it. What is
missing shows when something later arrives. After a new websocket it may not show at
all, because nothing later was sent: the session is in doubt then, until more arrives in
order than an agent repeats, or nothing does.
"""

from typing import Final

SCAN_INTERVAL: Final = 0.1
"""Seconds in which an agent repeats one message at most (protocol 4.5)."""
MORE: Final = 4
"""Messages in order within an interval that are more than repetitions: with two clocks
and a network in between, two of those may come in one."""
PAUSE: Final = 0.7
"""Seconds of silence after which there is nothing to be repeated: a repetition follows
the acknowledgement of the one before, so several round trips are included."""


class PeerRecovery:
    """What the arrivals of one channel say about it."""

    __slots__ = ("_early", "_heard_at", "_in_order", "_since", "_window_at")

    def __init__(self) -> None:
        self._since: float | None = None
        self._early = False
        self._heard_at = self._window_at = float("-inf")
        self._in_order = 0

    def on_link(self, now: float) -> None:
        """Note that the session goes on with a new websocket."""
        self._heard_at = now
        if self._since is None:
            self._since = now

    def on_arrival(self, now: float, delivered: int, *, early: bool) -> None:
        """Note that messages have arrived.

        Args:
            now: The time, in seconds.
            delivered: How many were delivered now, in order.
            early: Whether any wait for one before them.
        """
        if self.behind(now) == 0.0:
            self._since = None
        self._heard_at = now
        self._early = early
        if now > self._window_at + SCAN_INTERVAL:
            self._window_at = now
            self._in_order = 0
        self._in_order += delivered
        if early:
            self._since = now if self._since is None else self._since
        elif self._in_order >= MORE:
            self._since = None

    def behind(self, now: float) -> float:
        """Return for how many seconds something has been, or may be, repeated."""
        if self._since is None or (not self._early and now >= self._heard_at + PAUSE):
            return 0.0
        return now - self._since
