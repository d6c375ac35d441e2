"""Diagnosis of a session that says nothing: dead, or only blocked (design D21).

An agent acknowledges nothing while it waits for a destination that does not read, and
nothing once it is stopped. From here both look the same, so whoever knows more is
asked: the agent, which must acknowledge a NOP, and then the service, which hears of
agents by another way. Pure.
"""

from enum import Enum, StrEnum, auto
from typing import Final

from ssmtunneld.base.record import Record

QUIET_TIME: Final = 20.0
"""Seconds without any message from the agent, while there are streams, after which it
is asked for a sign of life."""
SUSPECT_TIME: Final = 5.0
"""The same once another session of the tunnel has said nothing for as long: all of them
can have the same agent."""
SILENT_TIME: Final = 10.0
"""Seconds without an acknowledgement that is due after which the service is asked, and
again after as many."""
BLOCKED_INTERVAL: Final = 30.0
"""Seconds until it is asked again once ``BLOCKED_TIME`` has passed."""
BLOCKED_TIME: Final = 120.0
"""Seconds without an acknowledgement after which it is asked less often."""
PROOFS: Final = 2
"""Answers in a row that the service hears nothing of the agent: one can come from the
moment in which an agent is replaced by a newer version, and its sessions live on."""


class Answer(StrEnum):
    """Answer of the service about the target."""

    CONNECTED = "connected"
    """It hears of the agent."""
    NOT_CONNECTED = "not connected"
    """It does not."""
    UNKNOWN = "unknown"
    """It did not tell: the caller may not ask, or the call has failed."""


class Step(Enum):
    """Next step with a session that is silent."""

    NOTHING = auto()
    """It is well, or nothing more can be known yet."""
    ASK_AGENT = auto()
    """Send something that must be acknowledged."""
    ASK_SERVICE = auto()
    """Ask whether the service hears of the agent; tell :meth:`SilenceWatch.note`."""
    GIVE_UP = auto()
    """It is dead."""


class Signs(Record):
    """Facts about a session at one moment."""

    listening: bool
    """Its link is up and read: what is not heard then was not said."""
    streams: int
    """Those that somebody needs."""
    silent_for: float
    """Seconds for which nothing new was acknowledged although something is due."""
    quiet_for: float
    """Seconds since anything came from the agent."""
    delivered: int
    """Messages that came from the agent, acknowledgements not counted."""
    suspected: bool
    """Another session of the tunnel has been silent for ``SUSPECT_TIME``."""


class SilenceWatch:
    """Watches one session.

    Args:
        now: The time, in seconds.
        respects_idle: The service's idle timeout is respected. To ask the agent counts
            as use of the session, so it is asked once after the last thing it said.
    """

    __slots__ = (
        "_asked_after",
        "_asked_agent_at",
        "_asking",
        "_listening_since",
        "_next_question",
        "_respects_idle",
        "answer",
        "proofs",
    )

    def __init__(self, now: float, *, respects_idle: bool = False) -> None:
        self._respects_idle = respects_idle
        self._listening_since = now
        self._asked_agent_at = float("-inf")
        self._asked_after = -1
        self._asking = False
        self._next_question = float("-inf")
        self.answer: Answer | None = None
        """The service's last one about this silence; ``None`` if there is none."""
        self.proofs = 0
        """Times in a row that it has said that it hears nothing of the agent."""

    def silence(self, now: float, signs: Signs) -> float:
        """Return for how many seconds the agent owes an acknowledgement.

        Time in which we could not have heard it does not count.
        """
        if not signs.listening:
            return 0.0
        return min(signs.silent_for, now - self._listening_since)

    def look(self, now: float, signs: Signs, stall_timeout: float) -> Step:
        """Return the next step.

        Args:
            now: The time, in seconds.
            signs: What is known of the session.
            stall_timeout: Seconds of silence that are enough if the service does not
                tell whether it hears of the agent.
        """
        if not signs.listening:
            self._listening_since = now
        silence = self.silence(now, signs)
        if silence < SILENT_TIME:
            self.answer, self.proofs = None, 0
            self._next_question = now
            return self._look_at_quiet(now, signs)
        doubtful = self.answer is not Answer.CONNECTED
        if self.proofs >= PROOFS or (doubtful and silence >= stall_timeout):
            return Step.GIVE_UP
        if self._asking or now < self._next_question:
            return Step.NOTHING
        self._asking = True
        interval = SILENT_TIME if silence < BLOCKED_TIME else BLOCKED_INTERVAL
        self._next_question = now + interval
        return Step.ASK_SERVICE

    def _look_at_quiet(self, now: float, signs: Signs) -> Step:
        if not signs.listening or signs.silent_for:
            return Step.NOTHING  # something is due already
        patience = SUSPECT_TIME if signs.suspected else QUIET_TIME
        wanted = signs.streams or signs.suspected
        repeated = self._respects_idle and signs.delivered == self._asked_after
        if not wanted or repeated or signs.quiet_for < patience:
            return Step.NOTHING
        if now < self._asked_agent_at + patience:
            return Step.NOTHING
        self._asked_agent_at = now
        self._asked_after = signs.delivered
        return Step.ASK_AGENT

    def note(self, answer: Answer) -> None:
        """Note what the service said."""
        self._asking = False
        self.answer = answer
        if answer is Answer.NOT_CONNECTED:
            self.proofs += 1
        elif answer is Answer.CONNECTED:
            self.proofs = 0
