"""Detection of an agent that is still repeating lost messages, which it does slowly.

The agent repeats ten messages a second, the oldest first (protocol 4.5), and all later
messages have to wait: a new stream in such a session would wait with them. A gap shows
when a later message arrives. After a new websocket it can stay hidden, because nothing
later was sent: then the session is in doubt until more arrives in order than an agent
repeats, or nothing does.
"""

from typing import Final

SCAN_INTERVAL: Final = 0.1
"""Seconds in which an agent repeats one message at most (protocol 4.5)."""
MORE: Final = 4
"""Messages in order within an interval that are more than repetitions: with two clocks
and a network in between, two repetitions can come in one interval."""
PAUSE: Final = 0.7
"""Seconds of silence after which nothing is left to repeat: a repetition follows
the acknowledgement of the one before, so several round trips are included."""


class PeerRecovery:
    """Estimates from the arrivals of one channel how far its agent is behind."""

    __slots__ = ("_early", "_heard_at", "_in_order", "_since", "_window_at")

    def __init__(self) -> None:
        self._since: float | None = None
        self._early = False
        self._heard_at = self._window_at = float("-inf")
        self._in_order = 0

    def on_link(self, now: float) -> None:
        """Note that the session continues on a new websocket."""
        self._heard_at = now
        if self._since is None:
            self._since = now

    def on_arrival(self, now: float, delivered: int, *, early: bool) -> None:
        """Note that messages have arrived.

        Args:
            now: The time, in seconds.
            delivered: The number of messages that were delivered now, in order.
            early: Messages wait for a missing one before them.
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
        """Return the seconds that the agent has been repeating; 0.0 if it is not."""
        if self._since is None or (not self._early and now >= self._heard_at + PAUSE):
            return 0.0
        return now - self._since
