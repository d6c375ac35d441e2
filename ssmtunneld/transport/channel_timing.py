"""Conclusions from the times at which the messages of one channel come and go.

Three of them: how far the agent is behind with repeating what was lost
(``PeerRecovery``), how long reading can be delayed (``DownloadPace``), and for how long
the service has had no input of ours, which is what its idle timeout counts (protocol
7.5).
"""

from typing import NamedTuple

from ssmtunneld.transport.peer_recovery import SCAN_INTERVAL, PeerRecovery
from ssmtunneld.transport.read_scheduler import DownloadPace


class Pauses(NamedTuple):
    """Seconds without input of ours: a message of the stream, or a new websocket."""

    now: float
    before: float
    """The longest finished one."""


class ChannelTiming:
    """The driver reports each round to it. All times are in seconds on one clock.

    Args:
        now: The current time.
    """

    __slots__ = ("_input_at", "_longest_pause", "_pace", "_recovery")

    def __init__(self, now: float) -> None:
        self._recovery = PeerRecovery()
        self._pace = DownloadPace()
        self._input_at = now
        self._longest_pause = 0.0

    def on_link(self, now: float, *, resumed: bool) -> None:
        """Note a new websocket.

        Args:
            now: The current time.
            resumed: The channel was open before.
        """
        self._note_input(now)
        if resumed:
            self._recovery.on_link(now)

    def on_arrival(self, now: float, delivered: int, *, early: bool) -> None:
        """Note a batch of messages from the agent.

        Args:
            now: The current time.
            delivered: The number of messages of the batch that were delivered in order.
            early: Messages wait for a missing one before them.
        """
        self._pace.note_arrival(delivered, now)
        self._recovery.on_arrival(now, delivered, early=early)

    def on_sent(self, now: float) -> None:
        """Note messages of ours."""
        self._note_input(now)
        self._pace.note_sent()

    def _note_input(self, now: float) -> None:
        self._longest_pause = max(self._longest_pause, now - self._input_at)
        self._input_at = now

    def read_delay(self, now: float) -> float:
        """Return the seconds from ``now`` on for which nothing need be read."""
        return self._pace.delay(now)

    def behind(self, now: float, missing: int) -> float:
        """Return the seconds that the agent has spent on repeating, or still needs.

        Args:
            now: The current time.
            missing: The number of missing messages before some that have arrived.

        Returns:
            The greater of the two.
        """
        return max(self._recovery.behind(now), missing * SCAN_INTERVAL)

    def pauses(self, now: float) -> Pauses:
        """Return the pauses without input of ours: the current and the longest one."""
        return Pauses(now - self._input_at, self._longest_pause)
