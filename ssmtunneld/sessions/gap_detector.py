"""Detection of a missing message that can no longer come.

An agent whose buffer is full sends messages that it cannot record (protocol 4.4): such
a message, once lost, is never repeated, and all later ones wait for it. So a session in
which nothing is delivered although the agent lives and answers is given up: its
connections are reset instead of hanging.
"""

from enum import Enum, auto
from typing import Final

from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.protocol.channel import ChannelStatistics
from ssmtunneld.transport.basic_port import BasicPort
from ssmtunneld.transport.driver import Driver
from ssmtunneld.transport.mux_port import MuxPort

PROBE_INTERVAL: Final = 5.0
"""Seconds between two signs of life that are asked for. Each is a message, which also
ends a pause that the service has asked the agent for (protocol 4.6)."""
PROOFS: Final = 6
"""Signs of life without the missing message. In so long a time the agent repeats it
thirty times, once a second at least (protocol 4.5)."""
UNPROVEN: Final = 600.0
"""Seconds after which it is given up although nothing proves that the agent lives. A
basic session has no sign of life to ask for."""


class GapFinding(Enum):
    """The result of an examination."""

    FLOWING = auto()
    """Nothing is missing, or not for long."""
    SUSPECT = auto()
    """The same message has been missing for a while: ask for a sign of life."""
    LOST = auto()
    """It will not come."""


class GapDetector:
    """Watches one session for a message that never comes."""

    __slots__ = ("_acknowledged", "_delivered", "_looked_at", "_proofs", "_since")

    def __init__(self, now: float) -> None:
        self._delivered = -1
        self._start(now, 0)

    def _start(self, now: float, acknowledged: int) -> None:
        self._since = self._looked_at = now
        self._acknowledged = acknowledged
        self._proofs = 0

    def examine(self, now: float, driver: Driver, port: MuxPort | BasicPort) -> None:
        """Look at a session whose link is up, and do what follows from that."""
        if not driver.missing:
            self._delivered = -1  # nearly always: nothing is missing
            return
        match self.look(now, driver.statistics(), driver.delivered):
            case GapFinding.SUSPECT:
                port.nop()
            case GapFinding.LOST:
                driver.close(RemoteProtocolError("the agent has lost a message"))
            case GapFinding.FLOWING:
                pass

    def look(
        self, now: float, channel: ChannelStatistics, delivered: int
    ) -> GapFinding:
        """Look at a session whose link is up.

        Args:
            now: The time, in seconds.
            channel: The session's channel.
            delivered: The number of messages delivered in order so far.
        """
        if not channel.early or delivered != self._delivered:
            self._delivered = delivered
            self._start(now, channel.acknowledged)
            return GapFinding.FLOWING
        if now < self._looked_at + PROBE_INTERVAL:
            return GapFinding.FLOWING
        self._looked_at = now
        self._proofs += channel.acknowledged > self._acknowledged
        self._acknowledged = channel.acknowledged
        if self._proofs >= PROOFS or now >= self._since + UNPROVEN:
            return GapFinding.LOST
        return GapFinding.SUSPECT
