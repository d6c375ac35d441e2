"""The agent's half of the reliability layer: the A columns of protocol 4, literally.

It is meant to be no better than the agent: only the front of the outgoing buffer is
sent again, a full buffer records nothing, a sample can come from a repetition. Pure:
bytes and a time go in, bytes to send come out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Final

from ssmtunneld.protocol.message import (
    ACK_FLAGS,
    Message,
    MessageType,
    PayloadType,
    encode,
)
from ssmtunneld.protocol.payloads import encode_acknowledgement

_INITIAL_RTT: Final = 0.1
_INITIAL_RTO: Final = 0.2
_LARGEST_RTO: Final = 1.0
_GRANULARITY: Final = 0.01

_OUTPUT: Final = MessageType.OUTPUT.value
_ACKNOWLEDGE: Final = MessageType.ACKNOWLEDGE.value


@dataclass(slots=True)
class RoundTrip:
    """The agent's estimate, and the timeout that follows from it; in seconds."""

    mean: float = _INITIAL_RTT
    deviation: float = 0.0
    timeout: float = _INITIAL_RTO

    def sample(self, measured: float) -> None:
        """Fold in one measurement."""
        # The deviation uses the mean from before this sample, as the agent does.
        self.deviation = 0.75 * self.deviation + 0.25 * abs(self.mean - measured)
        self.mean = 0.875 * self.mean + 0.125 * measured
        self.timeout = min(
            self.mean + max(_GRANULARITY, 4 * self.deviation), _LARGEST_RTO
        )


@dataclass(slots=True)
class _Sent:
    data: bytes
    last_sent: float


@dataclass(slots=True)
class ReliabilityStatistics:
    """Counts since the session began."""

    sent: int = 0
    resent: int = 0
    received: int = 0
    repeated: int = 0
    """Messages of the client's that had been processed before."""
    early: int = 0
    unrecorded: int = 0
    """Messages that went out although the buffer was full, never to be sent again."""


class Reliability:
    """Sequence numbers, acknowledgements and retransmission of one agent.

    Args:
        random: Where message ids come from.
        clock_offset: Wall clock minus ``now``, in seconds.
        capacity: Messages in each of the two buffers.
    """

    def __init__(self, random: Random, clock_offset: float, capacity: int) -> None:
        self.paused = False
        """The service said pause: new stream data is recorded but not sent."""
        self.expected = 0
        self.round_trip = RoundTrip()
        self.statistics = ReliabilityStatistics()
        self._ids = message_ids(random)
        self._clock_offset = clock_offset
        self._capacity = capacity
        self._next = 0
        self._outgoing: dict[int, _Sent] = {}
        self._incoming: dict[int, Message] = {}

    @property
    def unacknowledged(self) -> int:
        """Number of messages not yet acknowledged."""
        return len(self._outgoing)

    @property
    def early(self) -> int:
        """Number of messages that arrived before their predecessor."""
        return len(self._incoming)

    def send(
        self, payload_type: PayloadType, payload: bytes, now: float
    ) -> list[bytes]:
        """Number and record a message; return what goes out now: it, or nothing."""
        data = encode(
            Message(
                _OUTPUT,
                self._next,
                next(self._ids),
                self._stamp(now),
                payload,
                payload_type,
                1 if self._next == 0 else 0,
            )
        )
        # Recorded before it can be sent, so that no acknowledgement comes too early.
        if len(self._outgoing) < self._capacity:
            self._outgoing[self._next] = _Sent(data, now)
        else:
            self.statistics.unrecorded += 1
        self._next += 1
        self.statistics.sent += 1
        return [] if self.paused else [data]

    def adopt(self, message: Message, now: float) -> bytes:
        """Record a message that has its number already; return what goes out now."""
        data = encode(message)
        self._outgoing.setdefault(message.sequence, _Sent(data, now))
        self._next = max(self._next, message.sequence + 1)
        self.statistics.sent += 1
        return data

    def acknowledgement(self, message: Message, now: float) -> bytes:
        """Return the message that acknowledges ``message``."""
        return encode(
            Message(
                _ACKNOWLEDGE,
                0,
                next(self._ids),
                self._stamp(now),
                encode_acknowledgement(
                    message.message_type, message.message_id, message.sequence
                ),
                0,
                ACK_FLAGS,
            )
        )

    def on_acknowledgement(self, sequence: int, now: float) -> None:
        """Forget the message that is acknowledged, and measure."""
        sent = self._outgoing.pop(sequence, None)
        if sent is not None:
            # No Karn rule: a repetition is measured from the repetition.
            self.round_trip.sample(now - sent.last_sent)

    def resend(self, now: float) -> list[bytes]:
        """Return the front if it is overdue; to be called at each scan."""
        if self.paused or not self._outgoing:
            return []
        front = self._outgoing[next(iter(self._outgoing))]
        if now - front.last_sent <= self.round_trip.timeout:
            return []
        front.last_sent = now
        self.statistics.resent += 1
        return [front.data]

    def hold(self, message: Message) -> bool:
        """Keep a message that came early; say whether to acknowledge it."""
        self.statistics.early += 1
        if len(self._incoming) >= self._capacity:
            return False
        self._incoming[message.sequence] = message
        return True

    def next_held(self) -> Message | None:
        """Return the message that is now expected, if it is here already."""
        return self._incoming.get(self.expected)

    def advance(self) -> None:
        """Note that the expected message has been processed."""
        self._incoming.pop(self.expected, None)
        self.expected += 1
        self.statistics.received += 1

    def release(self) -> None:
        """Forget every message; the numbers and statistics stay."""
        self._outgoing.clear()
        self._incoming.clear()

    def _stamp(self, now: float) -> int:
        return int((now + self._clock_offset) * 1000)


def message_ids(random: Random) -> Iterator[bytes]:
    """Yield UUIDs of version 4: random in the first half, counted in the second.

    A fresh random UUID for each message would cost more than the rest of its header.
    """
    first = bytearray(random.randbytes(8))
    first[6] = first[6] & 0x0F | 0x40
    prefix = bytes(first)
    return (prefix + (0x80 << 56 | n).to_bytes(8) for n in count())
