"""Unacknowledged messages: window, loss detection, timers (design D2).

Neither official peer has flow control here (protocol 4.4); the window is ours, so that
the agent's buffers, and the service's, never have to hold more than a stated amount,
and so that what comes later need not wait behind it (``window.py``).

Losses are found as QUIC finds them (RFC 9002 section 6.1): every copy that is sent gets
a number in sending order, and a copy is lost once one that was sent three or more
later is acknowledged. The dictionary of unacknowledged messages is kept in that order,
so that both this test and the timer look at its front only.

A new websocket can take another path, with another bandwidth. What was unacknowledged
on the one before is *parked*, and sent again as the new window has room for it, before
anything new.
"""

from collections import deque
from itertools import chain
from typing import Final

from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.protocol.timing import RoundTrip
from ssmtunneld.protocol.window import INITIAL_WINDOW, Window, WindowBudget

HEADER_SIZE: Final = 120
"""Bytes of a message before its payload (protocol 3)."""
MAX_MESSAGE: Final = HEADER_SIZE + MAX_PAYLOAD
"""Bytes of a full message of the usual size."""
MAX_MESSAGES: Final = 8192
"""Full ones of the usual size have 9 MB together, and large ones reach ``MAX_WINDOW``
first. Of small ones, to keep count of each takes more memory than its bytes."""
REORDERING: Final = 3
"""Copies by which the service can reorder before a copy counts as lost."""


class _Sent:
    __slots__ = ("ahead", "copies", "data", "first_order", "last_sent", "order")

    def __init__(self, data: bytes, order: int, ahead: int, now: float) -> None:
        self.data = data
        self.ahead = ahead
        self.first_order = order
        self.order = order
        self.last_sent = now
        self.copies = 1


class Outbound:
    """The sending half of a channel's reliability.

    ``next_sequence`` is the number of the message that is sent next. Methods that find
    messages to repeat return their bytes, unchanged, oldest first (protocol 4.2).

    Args:
        budget: Shared with the other channels of the process.
    """

    __slots__ = (
        "_budget",
        "_bytes",
        "_first_flight",
        "_front",
        "_newest_acked",
        "_order",
        "_parked",
        "_parked_order",
        "_progress_at",
        "_unacked",
        "full_message",
        "next_sequence",
        "retransmitted",
        "round_trip",
        "window",
    )

    def __init__(self, budget: WindowBudget | None = None) -> None:
        self._budget = budget or WindowBudget()
        self.next_sequence = 0
        self.retransmitted = 0
        self.full_message = MAX_MESSAGE
        """Bytes of the largest message that is sent now, with its header."""
        self.round_trip = RoundTrip()
        self.window = Window()
        """The bytes that may be unacknowledged at a time, and why."""
        self._unacked: dict[int, _Sent] = {}
        self._parked: dict[int, _Sent] = {}
        self._parked_order: deque[int] = deque()
        """Their numbers, and those of some that were acknowledged meanwhile."""
        self._first_flight = 0
        """The first copy behind those that began the present websocket."""
        self._bytes = 0
        self._order = 0
        self._front = 0
        """No copy before this one is outstanding."""
        self._newest_acked = -1
        self._progress_at = 0.0
        """The last time at which an acknowledgement came, or none was awaited."""

    @property
    def unacked(self) -> int:
        """Messages that were sent and are not acknowledged."""
        return len(self._unacked) + len(self._parked)

    @property
    def unacked_bytes(self) -> int:
        """Bytes of those messages, headers included."""
        return self._bytes + self._parked_bytes()

    @property
    def large_unacked(self) -> bool:
        """True if a message larger than usual is among them. Looks at each of them."""
        every = chain(self._unacked.values(), self._parked.values())
        return any(len(sent.data) > MAX_MESSAGE for sent in every)

    @property
    def room(self) -> int:
        """Messages of ``full_message`` bytes that may be sent now.

        The last one can go beyond the window, which can be smaller than a message. 0
        while messages wait to be sent again.
        """
        if self._parked:
            return 0
        limit = self.window.size
        free = self._budget.free
        if free < limit:
            # Sessions that are not acknowledged for long must not starve the others.
            limit = max(free, min(limit, INITIAL_WINDOW))
        free = int(limit) - self._bytes
        messages = MAX_MESSAGES - len(self._unacked)
        if free <= 0 or messages <= 0:
            return 0
        fitting = -(-free // self.full_message)
        return fitting if fitting < messages else messages  # noqa: FURB136 - asked for each message, and min() takes 3 % of what an upload costs

    def is_acknowledged(self, sequence: int) -> bool:
        """Return True if the message was sent, and nothing of it is awaited."""
        return (
            sequence < self.next_sequence
            and sequence not in self._unacked
            and sequence not in self._parked
        )

    def send(self, data: bytes, now: float) -> None:
        """Record that ``data``, numbered ``next_sequence``, is sent for the first time.

        The window is advice: ``room`` is for the caller to respect, so that a handshake
        or a flag can always be sent.
        """
        ahead = self._bytes
        size = len(data)
        if not self._unacked:
            self._progress_at = now
            self.window.begin(now)
        self._unacked[self.next_sequence] = _Sent(data, self._order, ahead, now)
        self.next_sequence += 1
        self._order += 1
        self._bytes = ahead + size
        self._budget.free -= size
        if self._bytes >= self.window.size:
            self.window.filled = True

    def acknowledge(self, sequence: int, now: float) -> list[bytes]:
        """Note one acknowledgement; return what it shows to be lost, or has room for.

        Acknowledgements of anything else than an unacknowledged message are ignored:
        the peers repeat them.
        """
        sent = self._unacked.pop(sequence, None)
        if sent is None:
            self._acknowledge_parked(sequence, now)
            return []
        self._progress_at = now
        in_flight = self._bytes
        size = len(sent.data)
        self._bytes = in_flight - size
        self._budget.free += size
        if sent.order == self._front:
            self._front += 1
        round_trip = None
        if sent.copies == 1:
            round_trip = now - sent.last_sent
            self.round_trip.sample(round_trip)
        self.window.acknowledged(size, round_trip, sent.ahead, in_flight, now)
        if sent.first_order > self._newest_acked:  # noqa: PLR1730 - as in room
            self._newest_acked = sent.first_order
        lost = self._lost(now)
        return lost + self._unpark(now) if self._parked else lost

    def _acknowledge_parked(self, sequence: int, now: float) -> None:
        # A copy of before has arrived: how long it took says nothing of this path.
        sent = self._parked.pop(sequence, None)
        if sent is not None:
            self._progress_at = now
            self._budget.free += len(sent.data)

    def _unpark(self, now: float) -> list[bytes]:
        """Return what the window has room for of what must be sent again."""
        ready: list[bytes] = []
        order = self._parked_order
        while order and self._bytes < self.window.size:
            sequence = order.popleft()
            sent = self._parked.pop(sequence, None)
            if sent is None:
                continue  # acknowledged meanwhile
            self._unacked[sequence] = sent
            sent.ahead = self._bytes
            self._bytes += len(sent.data)
            if self._front >= self._first_flight:
                # What the agent still had to say of earlier copies has been said, as
                # far as one can tell: this one counts as the first, also for the round
                # trip.
                sent.copies = 0
                sent.first_order = self._order
            ready.append(self._repeat(sequence, now))
        if self._bytes >= self.window.size:
            self.window.filled = True
        return ready

    def _lost(self, now: float) -> list[bytes]:
        newest = self._newest_acked - REORDERING
        if newest < self._front:
            # Without this look at the dictionary, whose front is full of what was
            # removed, an upload costs 4 % less.
            return []
        lost: list[int] = []
        for sequence, sent in self._unacked.items():
            if sent.order > newest:
                self._front = sent.order
                break
            lost.append(sequence)
        return [self._repeat(sequence, now) for sequence in lost]

    def _repeat(self, sequence: int, now: float) -> bytes:
        sent = self._unacked.pop(sequence)
        self._unacked[sequence] = sent  # to the end: the dictionary is in sending order
        sent.order = self._order
        sent.last_sent = now
        sent.copies += 1
        self._order += 1
        self.retransmitted += 1
        return sent.data

    def resend_all(self, now: float) -> list[bytes]:
        """Return what to send first on a new websocket, in sequence.

        The rest of what is unacknowledged comes with acknowledgements.
        """
        self.round_trip.reset_backoff()
        self.window.restart()
        self._progress_at = now
        self._parked |= self._unacked
        self._parked_order = deque(sorted(self._parked))
        self._unacked = {}
        self._bytes = 0
        self._front = self._order
        self._first_flight = self._order + 1
        flight = self._unpark(now)
        self._first_flight = self._order
        return flight

    def release(self) -> None:
        """Give back what is counted in the budget: nothing more is sent."""
        self._budget.free += self.unacked_bytes
        self._budget = WindowBudget()

    def _parked_bytes(self) -> int:
        return sum(len(sent.data) for sent in self._parked.values())

    def silent_for(self, now: float) -> float:
        """Return for how long nothing new was acknowledged, beyond a round trip.

        In seconds; 0.0 if nothing waits for an acknowledgement.
        """
        if not self._unacked:
            return 0.0
        return max(0.0, now - self._progress_at - (self.round_trip.smoothed or 0.0))

    def next_deadline(self) -> float | None:
        """Return the next timer's time; ``None`` if nothing is unacknowledged."""
        for sent in self._unacked.values():
            return max(sent.last_sent, self._progress_at) + self.round_trip.timeout
        return None

    def on_deadline(self, now: float) -> list[bytes]:
        """Return the messages that waited for longer than the timeout."""
        timeout = self.round_trip.timeout
        late: list[int] = []
        for sequence, sent in self._unacked.items():
            # The expression of next_deadline().
            if now < max(sent.last_sent, self._progress_at) + timeout:
                break
            late.append(sequence)
        if late:
            self.round_trip.back_off()
        return [self._repeat(sequence, now) for sequence in sorted(late)]
