"""The window of a channel: bytes that may be unacknowledged at a time (design D23).

It is the delivered rate times the least round trip that was seen, and a little more:
as much as waits on the path for a *tolerance*. Three rules:

* Less than half of that waits: the window grows with each acknowledgement; twofold in
  a round trip at first, and again whenever slower growth has met no delay.
* More waits: the window becomes the delivered rate times the round trip that is
  wanted, plus a step that is relatively greater for a small window than for a large
  one, so that flows that share a path come to have equal parts of it.
* Every few seconds a busy channel lets the path run empty and sends two messages, one
  after the other, to learn how long an empty path takes. All channels do so at the
  same time; each would otherwise take the queue of the others for the path.

What waits is told from the *least* round trip of a slice of time, which a queue
raises and jitter, or acknowledgements that come in bursts, hardly do. If a smaller
window leaves the round trip as it was, the delay is not of our making (another path,
or the queue of somebody else), and the window shrinks no further until the path is
measured again.

A loss shrinks nothing: it shows in the rate, and below us TCP has heeded it.
"""

from math import inf, sqrt
from typing import Final

MIN_WINDOW: Final = 16 << 10
"""Bytes: two of the large messages, 16 of the usual ones. A path whose round trips
differ more than ``MOST_UNREST`` looks full when it is empty; this much it gets."""
INITIAL_WINDOW: Final = 64 << 10
"""Bytes: what a web page or a query result often is."""
MAX_WINDOW: Final = 16 << 20
"""Bytes of one channel: 160 MB/s over 100 ms."""
MAX_TOTAL: Final = 64 << 20
"""Bytes of all channels that share a ``WindowBudget``."""

TOLERANCE: Final = 0.02
"""Seconds that may wait on a short path. The queue feeds the path while we do not, and
a turn of a busy loop takes some milliseconds."""
TOLERANCE_SHARE: Final = 1 / 8
"""The part of a long path's round trip that may wait in addition."""
MOST_UNREST: Final = 4 * TOLERANCE
"""Seconds by which round trips can differ from each other before more makes no
difference. Half of that is tolerated in addition."""
PROBE_INTERVAL: Final = 5.0
"""Seconds between two measurements of the empty path, each of which costs a little more
than a round trip. Twice as many from ``LONG_PATH`` on, and again from twice that on."""
PROBE_MESSAGES: Final = 2
"""Messages of a probe: the first can meet what other channels sent before theirs."""
LONG_PATH: Final = 0.1
"""Seconds of a round trip."""
MOST_DOUBLINGS: Final = 3
"""Powers of two between the shortest and the longest interval."""
FOREIGN: Final = 3
"""Tolerances: a delay beyond them can be of somebody else's making. Two channels that
share a path see less; each of them sees that its smaller window changes little."""
SLOW: Final = 1 / 16
"""Growth in a round trip, as a part of the window, after a delay."""
STEP: Final = 1024
"""Bytes: the step of a window of this size. Others' grow as the square root."""
UNMOVED: Final = 0.75
"""A round trip that is still this part of the former one, with half of the bytes ahead
of the message, is not long because of us."""


class WindowBudget:
    """Bytes that are unacknowledged in all channels of a process.

    Each channel may have as many as are free: n busy channels have an equal part each,
    and one more such part is left for those that come. Where less is free than a window
    has at first, that much: channels that nobody acknowledges must not stop the others.
    """

    __slots__ = ("free",)

    def __init__(self, total: int = MAX_TOTAL) -> None:
        self.free = total
        """Bytes; less than 0 if many channels have no more than a window at first."""


class Window:
    """Decides how many bytes may be unacknowledged.

    All times are in seconds, on the clock of the caller.
    """

    __slots__ = (
        "_ahead",
        "_begin_at",
        "_busy",
        "_delivered",
        "_due",
        "_earlier_rate",
        "_former",
        "_growth",
        "_last",
        "_least",
        "_least_ever",
        "_most",
        "_probe_at",
        "_probed",
        "_probing",
        "_set_aside",
        "_since",
        "_spread",
        "_undelayed",
        "dry",
        "filled",
        "rate",
        "size",
    )

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget the path: what follows takes another one."""
        self.rate: float | None = None
        """Bytes per second that were acknowledged lately, headers included; ``None``
        before the first measurement."""
        self.size = float(INITIAL_WINDOW)
        """Bytes that may be unacknowledged now."""
        self.dry = False
        """True if the sender had nothing to send, at some time of this slice."""
        self.filled = False
        """True if the window was full, at some time of this slice."""
        self._least_ever = inf
        self._undelayed = inf
        """A round trip up to this one lets the window grow."""
        self._growth = 1.0
        self._busy = False
        """True if there was more to send all through the last slice."""
        self._former: tuple[float, int] | None = None
        """A round trip and the bytes ahead of its message, when a delay began or was
        worst."""
        self._spread = 0.0
        """By how much the round trips of a slice differ: the path's unrest."""
        self._probe_at = -inf
        self._probing = 0
        """Messages that the present probe still sends, one after the other."""
        self._probed = inf
        self._set_aside = self.size
        """The window after a probe."""
        self._last = -inf
        self._earlier_rate = 0.0
        self._delivered = 0
        self._least = inf
        self._most = 0.0
        self._ahead = 0
        self._await_slice(-inf)

    @property
    def limit(self) -> int:
        """Bytes, also while a probe sends next to nothing."""
        return int(self._set_aside if self._probing else self.size)

    @property
    def least_round_trip(self) -> float | None:
        """Seconds that the empty path takes, as far as is known."""
        return None if self._least_ever == inf else self._least_ever

    @property
    def _tolerance(self) -> float:
        unrest = min(self._spread, MOST_UNREST) / 2
        return TOLERANCE + self._least_ever * TOLERANCE_SHARE + unrest

    def begin(self, now: float) -> None:
        """Note that a message is sent, and nothing else is unacknowledged."""
        if now >= self._due:
            self._busy = False  # there was a pause
            self._await_slice(now)

    def note_dry(self) -> None:
        """Note that there is nothing to send now.

        A probe ends with that: what comes next would wait for it, and as the path is
        empty anyway, it shows as much.
        """
        self.dry = True
        if self._probing:
            self._probing = 0
            self.size = self._set_aside
            self._undelayed = self._least_ever + self._tolerance / 2
            self._await_slice(self._last)

    def acknowledged(
        self,
        size: int,
        round_trip: float | None,
        ahead: int,
        in_flight: int,
        now: float,
    ) -> None:
        """Note an acknowledgement at ``now``.

        Args:
            size: Bytes of the message.
            round_trip: Seconds; ``None`` if the message was sent more than once.
            ahead: Bytes that were in flight when it was sent.
            in_flight: Bytes that were in flight until now.
            now: The time.
        """
        if now > self._last:
            self._pass_time(now)
        if now > self._since:
            self._delivered += size
        if self._probing and in_flight == size and not (ahead and round_trip):
            self._take_probe(round_trip, now)
        if round_trip is None:
            return
        if round_trip < self._least or round_trip > self._most:
            self._sample(round_trip, ahead)
        if round_trip <= self._undelayed and in_flight * 2 >= self.size < MAX_WINDOW:
            # A window that is not used tells nothing about the path (RFC 7661).
            self.size = min(self.size + size * self._growth, MAX_WINDOW)

    def _pass_time(self, now: float) -> None:
        # What arrives together belongs to one slice.
        if self._last >= self._due:
            self._end_slice()
        if now >= self._probe_at and self._least_ever < inf:
            self._reach_probe(now)
        self._last = now
        if self._since == inf and now >= self._begin_at:
            self._begin_slice(now)

    def _sample(self, round_trip: float, ahead: int) -> None:
        if round_trip < self._least:
            self._least = round_trip
            self._ahead = ahead
        self._most = max(self._most, round_trip)
        if round_trip < self._least_ever:
            self._least_ever = round_trip
            if not self._probing:
                self._undelayed = round_trip + self._tolerance / 2

    def _await_slice(self, now: float) -> None:
        """Let a slice begin with the first acknowledgement from ``now`` on."""
        self._begin_at = now
        self._since = self._due = inf

    def _begin_slice(self, now: float) -> None:
        self._begin_at = inf
        self._since = now
        self._delivered = 0
        self._least = inf
        self._most = 0.0
        self._ahead = 0
        self.filled = False
        self.dry = False
        known = self._least_ever if self._least_ever < inf else 0.0
        self._due = now + known * (1 + TOLERANCE_SHARE) + TOLERANCE

    def _end_slice(self) -> None:
        now = self._last
        self._busy = self.filled or not self.dry
        self.rate = self._delivered / (now - self._since)
        if self._least < inf:
            # Of two slices: acknowledgements can come in bursts that are as far apart.
            rate = max(self.rate, self._earlier_rate)
            self._judge(self._least - self._least_ever, rate)
        self._earlier_rate = self.rate
        self._begin_slice(now)

    def _judge(self, waits: float, rate: float) -> None:
        """Choose the window by what waited on the path during a slice, in seconds."""
        self._spread += (self._most - self._least - self._spread) / 4
        tolerance = self._tolerance
        self._undelayed = self._least_ever + tolerance / 2
        if waits <= tolerance / 2:
            if self.filled:
                self._growth = min(1.0, 2 * self._growth)
            return
        self._growth = SLOW
        step = sqrt(self.size * STEP)
        if waits <= tolerance:
            self._former = None
            self.size += step * self.filled
        elif self._busy and not (waits > FOREIGN * tolerance and self._is_foreign()):
            wanted = rate * (self._least_ever + tolerance)
            self.size = max(min(self.size, wanted) + step, MIN_WINDOW)
        self.size = min(self.size, MAX_WINDOW)

    def _is_foreign(self) -> bool:
        """Tell if the delay, a long one, is not of our making."""
        if self._former is None or self._least > self._former[0]:
            self._former = (self._least, self._ahead)
            return False
        round_trip, ahead = self._former
        return self._ahead * 2 <= ahead and self._least >= UNMOVED * round_trip

    def _reach_probe(self, now: float) -> None:
        """Begin a probe, unless little is sent: then the path is seen as it is."""
        doublings = min(self._least_ever // LONG_PATH, MOST_DOUBLINGS)
        # Each is a multiple of the shorter ones, so that all probe together.
        interval = PROBE_INTERVAL * 2**doublings
        known = self._probe_at > -inf
        self._probe_at = (now // interval + 1) * interval
        if known and self._busy and not self._probing:
            self._probing = PROBE_MESSAGES
            self._probed = inf
            self._set_aside = self.size
            self.size = 1.0  # one message, whatever its size, and then the next
            self._undelayed = -inf
            self._await_slice(inf)

    def _take_probe(self, round_trip: float | None, now: float) -> None:
        """Note the answer to one of a probe's messages; None if it was repeated."""
        self._probed = min(self._probed, inf if round_trip is None else round_trip)
        self._probing -= 1
        if self._probing:
            return
        self.size = self._set_aside
        self._former = None
        self._growth = SLOW
        if self._probed < inf:
            self._least_ever = self._probed
        self._undelayed = self._least_ever + self._tolerance / 2
        self._await_slice(now + self._least_ever)
