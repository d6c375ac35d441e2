"""The agent's half of a data channel, as simple as the tables of protocol 4 to 6.

It is written from the agent's columns, not from our code, and does nothing but what
they say: it looks at its oldest message only, measures repetitions too, throws away
what comes before its handshake is complete, and answers nothing before its plugin is
ready.
"""

from random import Random

from ssmtunneld.base.secret import Secret
from ssmtunneld.protocol.events import Deliver, SendOpener, Transmit
from ssmtunneld.protocol.message import MessageType, PayloadType, decode, encode
from ssmtunneld.protocol.payloads import (
    HandshakeResponse,
    encode_acknowledgement,
    parse_acknowledgement,
)
from tests.support.bench import agent_message, complete, open_bench, output, request

SCAN = 0.1
"""Seconds between two looks at the oldest message (protocol 4.5)."""


class Agent:
    """One agent: bytes and times in, bytes out (``drain``).

    Args:
        random: Decides how long its plugin takes to be ready.
    """

    def __init__(self, random: Random) -> None:
        self.got: list[bytes] = []
        """The payloads handed to its plugin, in order."""
        self.early: dict[int, bytes] = {}
        self.expected = 0
        self.open = False
        self.paused = False
        self.linked = False
        self.acknowledged: list[int] = []
        self._ready_after = random.uniform(0, 0.3)
        self._ready_at: float | None = None
        self._unacked: dict[int, list] = {}  # number: [bytes, time of last sending]
        self._next = 0
        self._rtt, self._deviation, self._rto = 0.1, 0.0, 0.2
        self._outgoing: list[bytes] = []
        self._scan_at = 0.0

    @property
    def unacked(self) -> int:
        """Messages that wait for an acknowledgement."""
        return len(self._unacked)

    def attach(self, now: float) -> None:
        """Begin to use a websocket; the first one starts the handshake."""
        self.linked, self.paused = True, False
        self._scan_at = now + SCAN
        if self._next == 0:
            self._send(request(), now)

    def detach(self) -> None:
        """Lose the websocket; it goes on without noticing."""
        self.linked = False

    def send(self, payload: bytes, now: float) -> None:
        """Send data of its plugin."""
        self._send(output(self._next, payload), now)

    @property
    def room(self) -> int:
        """Messages that it sends now: it has no window (protocol 4.4)."""
        return 10**6 if self.open else 0

    def _send(self, data: bytes, now: float) -> None:
        self._unacked[self._next] = [data, now]
        self._next += 1
        if not self.paused:
            self._emit(data)

    def _emit(self, data: bytes) -> None:
        # A failed send is logged and forgotten (protocol 4.4).
        if self.linked:
            self._outgoing.append(data)

    def drain(self) -> list[bytes]:
        """Return, and forget, what goes out."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def receive(self, data: bytes, now: float) -> None:
        """Take one message."""
        message = decode(data)
        kind = message.message_type
        if kind == MessageType.PAUSE_PUBLICATION:
            self.paused = True
            return
        self.paused = False
        if kind == MessageType.ACKNOWLEDGE:
            self._on_acknowledgement(parse_acknowledgement(message.payload), now)
        elif kind == MessageType.INPUT:
            self._on_input(message, data, now)

    def _on_acknowledgement(self, sequence: int, now: float) -> None:
        self.acknowledged.append(sequence)
        entry = self._unacked.pop(sequence, None)
        if entry is not None:
            sample = now - entry[1]
            self._deviation = 0.75 * self._deviation + 0.25 * abs(self._rtt - sample)
            self._rtt = 0.875 * self._rtt + 0.125 * sample
            self._rto = min(self._rtt + max(0.01, 4 * self._deviation), 1.0)

    def _on_input(self, message, data: bytes, now: float) -> None:
        if message.sequence < self.expected:
            self._acknowledge(message)
        elif message.sequence > self.expected:
            self.early[message.sequence] = data
            self._acknowledge(message)
        elif self._process(message, now):
            self._acknowledge(message)
            self.expected += 1
            while (held := self.early.pop(self.expected, None)) is not None:
                assert self._process(decode(held), now)
                self.expected += 1

    def _process(self, message, now: float) -> bool:
        if not self.open:
            # Anything else than an answer is acknowledged and thrown away (5.4).
            if message.payload_type == PayloadType.HANDSHAKE_RESPONSE:
                self._take_answer(HandshakeResponse.parse(message.payload), now)
            return True
        if now < self._ready_at:
            return False
        if message.payload_type == PayloadType.OUTPUT:
            self.got.append(message.payload)
        return True

    def _take_answer(self, response: HandshakeResponse, now: float) -> None:
        assert all(action.status == 1 for action in response.actions)
        self._send(complete(sequence=self._next), now)
        self.open = True
        self._ready_at = now + self._ready_after

    def _acknowledge(self, message) -> None:
        payload = encode_acknowledgement(
            message.message_type, message.message_id, message.sequence
        )
        self._emit(agent_message(MessageType.ACKNOWLEDGE, 0, payload, 0, 3))

    def next_deadline(self) -> float | None:
        """Return the time to look at the oldest message again, or None."""
        return self._scan_at if self.linked and self._unacked else None

    def on_deadline(self, now: float) -> None:
        """Look at the oldest message."""
        self._scan_at = now + SCAN
        if self._unacked and not self.paused:
            entry = self._unacked[min(self._unacked)]
            if now - entry[1] > self._rto:
                entry[1] = now
                self._emit(entry[0])


_OTHER = {
    MessageType.INPUT.value: MessageType.OUTPUT.value,
    MessageType.OUTPUT.value: MessageType.INPUT.value,
}


def _mirrored(data: bytes, shift: int) -> bytes:
    """Return ``data`` as the other side would have said it.

    Beyond the handshake the agent is one number ahead of the client, because it said
    two things and the client one.
    """
    message = decode(data)
    other = _OTHER.get(message.message_type)
    if other is not None:
        return encode(
            message._replace(message_type=other, sequence=message.sequence + shift)
        )
    if message.message_type != MessageType.ACKNOWLEDGE:
        return data
    acknowledged = parse_acknowledgement(message.payload) - shift
    payload = encode_acknowledgement("", message.message_id, acknowledged)
    return encode(message._replace(payload=payload))


class Mirrored:
    """A channel of ours in the agent's place, behind its handshake.

    Everything it says and hears passes through a mirror, which swaps the names of the
    two directions, so that our sender meets our receiver.
    """

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.core = open_bench().core
        self.core.detach()

    @property
    def room(self) -> int:
        """Messages that it sends now."""
        return self.core.room

    @property
    def unacked(self) -> int:
        """Messages that wait for an acknowledgement."""
        return self.core.statistics().unacked

    def attach(self, now: float) -> None:
        """Begin to use a websocket."""
        self.core.attach("request", Secret("token"), now)

    def detach(self) -> None:
        """Lose the websocket."""
        self.core.detach()

    def send(self, payload: bytes, now: float) -> None:
        """Send data."""
        self.core.send(payload, now)

    def receive(self, data: bytes, now: float) -> None:
        """Take one message that a client sent."""
        self.core.receive(_mirrored(data, 1), now)

    def next_deadline(self) -> float | None:
        """Return the time at which ``on_deadline`` must run, or None."""
        return self.core.next_deadline()

    def on_deadline(self, now: float) -> None:
        """Do what is due."""
        self.core.on_deadline(now)

    def drain(self) -> list[bytes]:
        """Return, and forget, what goes out."""
        outgoing = []
        for effect in self.core.drain():
            match effect:
                case Transmit(data):
                    outgoing.append(_mirrored(data, 1))
                case Deliver(payload):
                    self.got.append(payload)
                case _:
                    assert isinstance(effect, SendOpener)
        return outgoing
