"""Senders, and a path with a queue between them and an agent, in virtual time.

The path takes what TCP would: while its queue is full, senders wait in front of it, in
turns. It loses whole messages, as the service can.
"""

from collections import deque
from heapq import heappop, heappush
from itertools import count
from random import Random

from ssmtunneld.protocol.outbound import Outbound

HEADER = 120


class Path:
    """A bottleneck that senders share.

    Args:
        round_trip: Seconds, with an empty queue.
        rate: Bytes per second, up.
        queue: Seconds that a full queue takes to empty.
        loss: The part of messages and acknowledgements that vanishes.
        clump: Seconds between two bunches of acknowledgements; 0 for a steady flow.
        jitter: Seconds by which each acknowledgement can be late.
        seed: Where chance begins.
    """

    def __init__(
        self, round_trip, rate, queue=0.05, loss=0.0, clump=0.0, jitter=0.0, seed=0
    ):
        self.round_trip = round_trip
        self.rate = rate
        self.queue = queue
        self.loss = loss
        self.clump = clump
        self.jitter = jitter
        self.now = 0.0
        self.senders = []
        self._random = Random(seed)
        self._free_at = 0.0
        self._latest = 0.0
        self._events = []
        self._order = count()
        self._waiting = deque()
        self._opening = False

    def __repr__(self):
        names = ("round_trip", "rate", "queue", "loss", "clump", "jitter")
        return f"Path({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})"

    def at(self, when, action):
        """Call ``action`` at ``when``."""
        heappush(self._events, (max(when, self.now), next(self._order), action))

    def run(self, until):
        """Let time pass until ``until``."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heappop(self._events)
            action()
        self.now = until

    @property
    def standing(self):
        """Seconds that wait in the queue now."""
        return max(0.0, self._free_at - self.now)

    @property
    def full(self):
        """True if senders must wait."""
        return self.standing > self.queue

    def wait(self, sender):
        """Let ``sender`` go on in its turn, when there is room."""
        if sender not in self._waiting:
            self._waiting.append(sender)
        if not self._opening:
            self._opening = True
            self.at(self._free_at - self.queue + 1e-6, self._open)

    def _open(self):
        self._opening = False
        if self.full:
            self.wait(self._waiting[0])
            return
        sender = self._waiting.popleft()
        sender.pump(1)
        if sender.eager:
            self._waiting.append(sender)
        if self._waiting:
            self.wait(self._waiting[0])

    def carry(self, size, acknowledge):
        """Take a message; call ``acknowledge`` when its answer is here."""
        self._free_at = max(self._free_at, self.now) + size / self.rate
        if self._random.random() < self.loss:
            return
        arrival = self._free_at + self.round_trip
        # In order, as TCP delivers.
        arrival = max(arrival + self._random.random() * self.jitter, self._latest)
        self._latest = arrival
        if self.clump:
            arrival = (arrival // self.clump + 1) * self.clump
        if self._random.random() >= self.loss:
            self.at(arrival, acknowledge)


class Sender:
    """A channel that sends as much as it can, or less.

    Args:
        path: Where to.
        message: Bytes of each payload.
        pace: Seconds between two messages; 0 for as many as go.
        start: When it begins.
        budget: Shared with other senders.
    """

    def __init__(self, path, message=1024, pace=0.0, start=0.0, budget=None):
        self.path = path
        self.outbound = Outbound(budget)
        self.delivered = 0
        self.waits = []
        """Each message's time of acknowledgement, and the wait for it, in seconds."""
        self._filling = bytes(HEADER + message - 8)
        self._pace = pace
        self._sent_at = {}
        self._timer_at = None
        self._repeats = deque()
        path.senders.append(self)
        path.at(start, self._begin)

    def greet(self):
        """Send one message at once, as a handshake does on a path that is empty."""
        self._send()
        self._arm()

    def _begin(self):
        if self._pace:
            self._tick()
        else:
            self.pump()

    def _tick(self):
        self._send()
        self._arm()
        self.path.at(self.path.now + self._pace, self._tick)

    def pump(self, most=1 << 60):
        """Send what there is room for."""
        while most:
            if not self.eager:
                break
            if self.path.full:
                self.path.wait(self)
                break
            if self._repeats:
                self._transmit(self._repeats.popleft())
            else:
                self._send()
            most -= 1
        self.outbound.window.dry |= self._pace > 0
        self._arm()

    @property
    def eager(self):
        """True if it has something that may be sent."""
        return bool(self._repeats or (not self._pace and self.outbound.room))

    def _send(self):
        number = self.outbound.next_sequence
        data = number.to_bytes(8) + self._filling
        self._sent_at[number] = self.path.now
        self.outbound.send(data, self.path.now)
        self._transmit(data)

    def _transmit(self, data):
        number = int.from_bytes(data[:8])
        self.path.carry(len(data), lambda: self._acknowledged(number, len(data)))

    def _acknowledged(self, number, size):
        now = self.path.now
        self._repeats.extend(self.outbound.acknowledge(number, now))
        begun = self._sent_at.pop(number, None)
        if begun is not None:
            self.delivered += size
            self.waits.append((now, now - begun))
        self.pump()

    def _arm(self):
        deadline = self.outbound.next_deadline()
        if deadline is not None and (
            self._timer_at is None or deadline < self._timer_at
        ):
            self._timer_at = deadline
            self.path.at(deadline, self._on_time)

    def _on_time(self):
        self._timer_at = None
        self._repeats.extend(self.outbound.on_deadline(self.path.now))
        self.pump()
