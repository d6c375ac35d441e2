"""The greatest age of a session: configured, reported by the service, or learned."""

from typing import Final

from ssmtunneld.transport.channel_timing import Pauses

SHORTEST: Final = 60.0
"""Seconds. The service's limits are whole minutes (protocol 1.8)."""
SHORTEST_IDLE: Final = 55.0
"""Seconds: the least idle timeout of the service is a minute, and its clock another."""
SLACK: Final = 1.02
"""By how much a pause must exceed those before it to be longer for certain."""
KEEP_ALIVE_PART: Final = 0.4
"""Of a learned idle timeout: one NOP can be late, and there is another one."""
NO_PAUSE: Final = Pauses(0.0, 0.0)
LIKENESS: Final = 0.05
"""The greatest difference of two ages of the same limit, as a share of the greater."""


class Lifespan:
    """The smallest known maximum age of a session, in seconds.

    The service reports it if we may call DescribeSessions. Where it does not, two
    sessions in a row that the service ended at about the same age, although they were
    kept alive, reveal it.

    Args:
        configured: ``max_session_age``, or ``None``.
    """

    __slots__ = ("_configured", "_idle", "_last_age", "_last_idle", "_learned", "_told")

    def __init__(self, configured: float | None = None) -> None:
        self._configured = configured
        self._told: float | None = None
        self._learned: float | None = None
        self._last_age: float | None = None
        self._last_idle: float | None = None
        self._idle: float | None = None

    @property
    def limit(self) -> float | None:
        """Seconds, or ``None`` if there is no limit that we know of.

        Never below the shortest that the service has, even if so configured: sessions
        would have to be replaced before they are ready.
        """
        ages = (self._configured, self._told, self._learned)
        known = [age for age in ages if age is not None]
        return max(SHORTEST, min(known)) if known else None

    def configure(self, age: float | None) -> None:
        """Take another ``max_session_age``."""
        self._configured = age

    def tell(self, age: float) -> None:
        """Apply the maximum that the service reports."""
        self._told = age

    def note_end(self, age: float, pauses: Pauses = NO_PAUSE) -> None:
        """Learn from a session that the service ended at ``age``.

        ``pauses`` are those of our input. An end after a longer one than ever before
        could be the idle timeout, which says nothing about a session in use.
        """
        idled_out = pauses.now >= SHORTEST_IDLE and pauses.now > SLACK * pauses.before
        if age < SHORTEST or idled_out:
            return
        last = self._last_age
        self._last_age = age
        if last is not None and abs(last - age) <= LIKENESS * max(last, age):
            self._learned = min(last, age)

    @property
    def idle_timeout(self) -> float | None:
        """Seconds without input after which the service ends sessions, if learned."""
        return self._idle

    @property
    def keep_alive(self) -> float | None:
        """Seconds between NOPs that the learned idle timeout asks for, at most."""
        return None if self._idle is None else self._idle * KEEP_ALIVE_PART

    def note_idle_end(self, pauses: Pauses, keep_alive: float) -> bool:
        """Learn from a session that the service ended; say if the timeout is news.

        NOPs go every ``keep_alive`` seconds. Two sessions in a row that ended within
        that after about the same pause, longer than any that they had outlived, have
        met an idle timeout that is no longer than it.
        """
        idle, last = pauses.now, self._last_idle
        if (
            not SHORTEST_IDLE <= idle <= keep_alive + SHORTEST_IDLE
            or idle <= SLACK * pauses.before
        ):
            self._last_idle = None
            return False
        self._last_idle = idle
        if last is None or abs(last - idle) > LIKENESS * max(last, idle):
            return False
        news = self._idle is None or min(last, idle) < self._idle * (1 - LIKENESS)
        if news:
            self._idle = min(last, idle)
        return news
