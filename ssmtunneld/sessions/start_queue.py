"""The order and the rate of StartSession calls, per account and region.

StartSession calls are a scarce resource of an account (design D10, D20). Those that
somebody waits for come first and are held up by nothing but AWS's own throttling; the
others are kept below a rate where they arrive.
"""

import asyncio
from collections.abc import Callable, Iterator
from enum import IntEnum
from types import TracebackType
from typing import Final

MOST_CALLS: Final = 10
"""Limit of calls under way at a time (design D20). More would queue behind a slow
one, and calls that live sessions need behind them."""
FIRST_PAUSE: Final = 1.0
"""Seconds without any call after AWS throttled one; doubled if the next one is, too."""
LONGEST_PAUSE: Final = 20.0
"""Seconds that such a pause lasts at most: all is well within 30 s after the last
throttled call, with the time that it takes to start a session."""
RECOVERY: Final = 1.0
"""Seconds after a throttled call until the limit grows by one again."""

LOOK_AGAIN: Final = 0.5
"""Seconds for which the order of those that wait is remembered for status."""


class Urgency(IntEnum):
    """The urgency of a session's start, the highest first (design D20)."""

    CLIENT = 0
    """A local connection waits for it."""
    PERSON = 1
    """A user asked for it: ``open``, ``proxy``."""
    CROWD = 2
    """A local connection waits a moment for it, and otherwise shares a session."""
    REQUIRED = 3
    """A required tunnel has no session."""
    FIRST = 4
    """Another tunnel has no session."""
    SPARE = 5
    """None waits: it is kept for the next connection."""

    @property
    def waits(self) -> bool:
        """True if a connection waits for the session."""
        return self <= Urgency.CROWD


class StartSlot:
    """The right to make one call, to be given back when it has been answered.

    Use it as a context manager around the call, or call :meth:`free` once nothing of
    the call can reach the service any more.
    """

    __slots__ = ("_answered",)

    def __init__(self, answered: Callable[[], None]) -> None:
        self._answered: Callable[[], None] | None = answered

    def free(self) -> None:
        """Note that the call was answered, failed, or is never made; idempotent."""
        answered, self._answered = self._answered, None
        if answered is not None:
            answered()

    def __enter__(self) -> None:
        """Begin the call."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the place back."""
        self.free()


class _Ticket:
    """One call that waits for its turn."""

    __slots__ = ("granted", "urgency")

    def __init__(
        self, urgency: Callable[[], Urgency], granted: asyncio.Future[StartSlot]
    ) -> None:
        self.urgency = urgency
        self.granted = granted


class StartQueue:
    """Orders calls by urgency, and keeps spare ones below a rate.

    Calls for a waiting connection go at once, ``MOST_CALLS`` at a time; when AWS
    throttles one, all calls pause, and then half as many may be under way, and one more
    a second (design D20). Other calls are granted such that they keep to the rate even
    together with the urgent ones, which are counted, too.

    What follows holds as long as no connection waits for a call.

    In any ``T`` seconds at most ``burst + rate * T`` calls arrive there, however long
    each of them is under way. All that is known of a call is that it arrives between
    its grant and its answer. So a call under way counts as if it could still arrive at
    any later moment, and one that was answered as if it had arrived just then.

    That is the generic cell rate algorithm with its books kept at the answers. Let
    ``I = 1 / rate`` and ``D = (burst - 1) * I``; let ``A`` be the theoretical arrival
    time and ``k`` the number of calls under way:

    * at ``s`` a call is granted only if ``max(A, s) + k * I <= s + D``; then ``k + 1``;
    * at its answer at ``e``, ``A`` becomes ``max(A, e) + I``, and ``k - 1``.

    Why this suffices: let ``B`` be what ``A`` would be if it were kept at the arrivals,
    by an observer at the service, and ``p <= k`` the number of granted calls that have
    not arrived. Then ``max(B, t) + p * I <= max(A, t) + k * I`` at all times ``t``: a
    grant adds ``I`` to both sides, an arrival and an answer change neither side, a call
    that never arrives lowers the left one, and while time passes a side that grows is
    ``t + p * I`` against at least ``t + k * I``. The right side never exceeds
    ``t + D + I``, because a grant looks at it first. So at an arrival at ``a``, where
    ``p >= 1``, ``B <= a + D``: the arrivals conform to the algorithm, whose bound is
    ``burst + rate * T``.

    The price: at most ``burst`` calls are under way, and the rate is reached in the
    long run only if ``burst`` is at least ``rate`` times the time that a call takes.

    A request that is still on its way when its caller gives up on the answer counts as
    arrived by then. One that is refused for its keys and at once repeated with new ones
    counts once: the service does not know whose rate the first one is.

    Args:
        rate: Calls per second in the long run.
        burst: Calls that can come at once after a quiet time.
    """

    __slots__ = (
        "_allowed",
        "_allowed_at",
        "_arrival",
        "_burst",
        "_calls",
        "_interval",
        "_looked_at",
        "_loop",
        "_order",
        "_paused_until",
        "_throttled",
        "_tickets",
        "_timer",
        "urgent",
    )

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._burst = burst
        self._arrival = float("-inf")
        self._calls = 0
        self._tickets: list[_Ticket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.urgent = 0
        """Calls that were granted for waiting connections."""
        self._order: dict[Callable[[], Urgency], int] = {}
        self._looked_at = float("-inf")
        self._throttled = 0
        self._paused_until = float("-inf")
        self._allowed = float(MOST_CALLS)
        self._allowed_at = float("-inf")

    @property
    def rate(self) -> float:
        """Calls per second in the long run for which no connection waits."""
        return 1 / self._interval

    def adjust(self, rate: float, burst: int) -> None:
        """Apply another rate and burst from the next call on."""
        # What calls have used up counts in calls, not in seconds of the rate before, or
        # after a slow rate a fast one would not begin for as long as the slow one said.
        interval, now = 1 / rate, asyncio.get_running_loop().time()
        if self._arrival > now:
            used = (self._arrival - now) / self._interval
            self._arrival = now + used * interval
        self._interval = interval
        self._burst = burst
        self._grant()

    async def place(
        self, urgency: Callable[[], Urgency] = lambda: Urgency.SPARE
    ) -> StartSlot:
        """Wait for the next free place: by urgency, then first come, first served.

        The caller must free it. Cancelling is safe: nothing is granted then.

        Args:
            urgency: Asked again whenever a place could be free; see :meth:`reconsider`.

        Raises whatever ``urgency`` raises, whoever has asked it: the others' places do
        not depend on it.
        """
        self._loop = asyncio.get_running_loop()
        ticket = _Ticket(urgency, asyncio.get_running_loop().create_future())
        self._tickets.append(ticket)
        try:
            self._grant()
            return await ticket.granted
        except asyncio.CancelledError:
            granted = ticket.granted
            if granted.done() and not granted.cancelled() and not granted.exception():
                # Granted in the very turn in which its caller left.
                granted.result().free()
            raise
        finally:
            if ticket in self._tickets:
                self._tickets.remove(ticket)

    def reconsider(self) -> None:
        """Ask for the urgency of all calls again: a connection has begun to wait."""
        self._grant()

    def ahead_of(self, urgency: Callable[[], Urgency]) -> int | None:
        """Return how many calls are made before one; None if it does not wait.

        As it was at most ``LOOK_AGAIN`` seconds ago: everybody asks at once.
        """
        now = self._now()
        if now >= self._looked_at + LOOK_AGAIN:
            self._looked_at = now
            waiting = self._in_order()
            self._order = {t.urgency: n for n, (_, t) in enumerate(waiting)}
        place = self._order.get(urgency)
        return None if place is None else place + self._calls

    def reason_for(self, urgency: Callable[[], Urgency]) -> str:
        """Return why a call is not made yet, as a clause; empty if it is next."""
        now = self._now()
        ahead = self.ahead_of(urgency)
        if ahead is None:
            return ""
        if now < self._paused_until:
            pause = self._paused_until - now
            return f"AWS throttles the account's calls: the next one in {pause:.0f} s"
        if not ahead:
            return ""
        starts = "1 start" if ahead == 1 else f"{ahead} starts"
        return f"behind {starts} (start_rate = {self.rate:g})"

    def note_throttled(self) -> float:
        """Note that AWS throttled a call: the whole account slows down.

        Returns:
            Seconds until the next call.
        """
        now = self._now()
        if now < self._paused_until:
            # Calls that were under way together are throttled together: one reason
            # to slow down, however many they are.
            return self._paused_until - now
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._throttled, 10))
        self._throttled += 1
        self._allowed = max(1.0, self._allowed_now(now) / 2)
        self._allowed_at = self._paused_until = max(self._paused_until, now + pause)
        return self._paused_until - now

    def note_served(self) -> None:
        """Note that AWS answered a call: the next pause is a short one again."""
        self._throttled = 0

    def _now(self) -> float:
        assert self._loop is not None, "nothing was asked for yet"
        return self._loop.time()

    def _allowed_now(self, now: float) -> float:
        recovered = max(0.0, now - self._allowed_at) / RECOVERY
        return min(MOST_CALLS, self._allowed + recovered)

    def _in_order(self) -> list[tuple[Urgency, _Ticket]]:
        # Sorting is stable: equals stay in the order in which they came.
        return sorted(self._waiting(), key=lambda waiting: waiting[0])

    def _waiting(self) -> Iterator[tuple[Urgency, _Ticket]]:
        """Yield the calls that wait, with their urgencies: each is another tunnel's."""
        for ticket in [t for t in self._tickets if not t.granted.done()]:
            try:
                urgency = ticket.urgency()
            except Exception as error:  # noqa: BLE001 - the boundary of a compartment
                # Its own tunnel's defect, told to the one who waits for its place.
                ticket.granted.set_exception(error)
            else:
                yield urgency, ticket

    def _grant(self) -> None:
        """Grant the calls that can go now, and look again when more can."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        for urgency, ticket in self._in_order():
            now = loop.time()
            free_at = self._free_at(urgency)
            if free_at is None:
                return
            if free_at > now:
                self._timer = loop.call_at(free_at, self._on_timer)
                return
            self._calls += 1
            self.urgent += urgency.waits
            ticket.granted.set_result(StartSlot(self._note_answer))

    def _on_timer(self) -> None:
        self._timer = None
        self._grant()

    def _free_at(self, urgency: Urgency) -> float | None:
        """Return the time at which a call can be granted, unless something changes.

        ``None``: only after an answer.
        """
        most = MOST_CALLS if urgency.waits else min(self._burst, MOST_CALLS)
        if self._calls >= most:
            return None
        recovered_at = self._allowed_at + (self._calls + 1 - self._allowed) * RECOVERY
        earliest = max(self._paused_until, recovered_at)
        if urgency.waits:
            return earliest
        arrival = self._arrival + (self._calls - self._burst + 1) * self._interval
        return max(arrival, earliest)

    def _note_answer(self) -> None:
        now = self._now()
        self._calls -= 1
        self._arrival = max(self._arrival, now) + self._interval
        self._grant()
