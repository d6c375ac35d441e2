"""A bench for one channel: say when, say what, see what it wants (style 7.2).

What the channel transmits is shown decoded, as ``Sent`` and ``Acked``, so that a
failing test is a diff of two short lists.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import SessionError
from ssmtunneld.protocol.channel import DataChannel
from ssmtunneld.protocol.events import Effect, SendOpener, Transmit
from ssmtunneld.protocol.message import (
    ACK_FLAGS,
    Flag,
    Message,
    MessageType,
    PayloadType,
    decode,
    encode,
    encode_flag,
    encode_short,
)
from ssmtunneld.protocol.payloads import (
    KMS_ENCRYPTION,
    SESSION_TYPE,
    ClientAction,
    ClosedDocument,
    HandshakeComplete,
    HandshakeRequest,
    encode_acknowledgement,
    parse_acknowledgement,
)

STAMP = 1_700_000_000_123
AGENT_VERSION = "3.3.987.0"
MUX_PROPERTIES = {"type": "LocalPortForwarding", "portNumber": "22"}
_AGENT_ID = bytes.fromhex("00112233445566778899aabbccddeeff")


@dataclass(frozen=True)
class Sent:
    """A data message that the channel transmitted."""

    sequence: int
    payload: bytes
    payload_type: int = PayloadType.OUTPUT


@dataclass(frozen=True)
class Acked:
    """An acknowledgement that the channel transmitted."""

    sequence: int


def new_channel() -> DataChannel:
    """Return a channel whose ids and stamps are the same in every run."""
    ids = count(1)
    return DataChannel(
        client_id="client",
        new_id=lambda: next(ids).to_bytes(16),
        wall_clock_ms=lambda: STAMP,
    )


# What an agent, or the service, says.


def agent_message(
    kind: MessageType, sequence: int, payload: bytes, payload_type: int, flags: int = 0
) -> bytes:
    """Return one message, with an id that is always the same."""
    return encode(
        Message(kind, sequence, _AGENT_ID, STAMP, payload, payload_type, flags)
    )


def output(
    sequence: int, payload: bytes, payload_type: int = PayloadType.OUTPUT
) -> bytes:
    """Return a data message of the agent's."""
    return agent_message(MessageType.OUTPUT, sequence, payload, payload_type)


def request(
    *,
    version: str = AGENT_VERSION,
    session_type: str | None = "Port",
    properties: object = MUX_PROPERTIES,
    kms: bool = False,
    sequence: int = 0,
) -> bytes:
    """Return the agent's handshake request."""
    actions = []
    if session_type is not None:
        parameters = {"SessionType": session_type, "Properties": properties}
        actions.append(ClientAction(SESSION_TYPE, parameters))
    if kms:
        actions.append(ClientAction(KMS_ENCRYPTION, {"KMSKeyId": "key"}))
    payload = HandshakeRequest(version, tuple(actions)).encode()
    return output(sequence, payload, PayloadType.HANDSHAKE_REQUEST)


def complete(notice: str = "", sequence: int = 1) -> bytes:
    """Return the agent's last word of the handshake."""
    payload = HandshakeComplete(1, notice).encode()
    return output(sequence, payload, PayloadType.HANDSHAKE_COMPLETE)


def flag(sequence: int, value: Flag) -> bytes:
    """Return a flag of the agent's."""
    return output(sequence, encode_flag(value), PayloadType.FLAG)


def ack(sequence: int) -> bytes:
    """Return the agent's acknowledgement of our message ``sequence``."""
    payload = encode_acknowledgement(MessageType.INPUT, _AGENT_ID, sequence)
    return agent_message(MessageType.ACKNOWLEDGE, 0, payload, 0, ACK_FLAGS)


def pause() -> bytes:
    """Return the service's advice to stop."""
    return agent_message(MessageType.PAUSE_PUBLICATION, 0, b"{}", 0)


def start() -> bytes:
    """Return the service's advice to go on."""
    return agent_message(MessageType.START_PUBLICATION, 0, b"{}", 0)


def channel_closed(words: str = "") -> bytes:
    """Return the service's end of the session, in its own short form."""
    payload = ClosedDocument(session_id="s-1", output=words).encode()
    return encode_short(
        Message(MessageType.CHANNEL_CLOSED, 0, _AGENT_ID, STAMP, payload)
    )


def described(effect: Effect) -> object:
    """Return ``effect``, decoded if it transmits something."""
    if not isinstance(effect, Transmit):
        return effect
    message = decode(effect.data)
    if message.message_type == MessageType.ACKNOWLEDGE:
        return Acked(parse_acknowledgement(message.payload))
    return Sent(message.sequence, message.payload, message.payload_type)


class Bench:
    """One channel and a clock that only the test moves."""

    def __init__(self, core: DataChannel | None = None) -> None:
        self.core = core or new_channel()
        self.now = 0.0

    def at(self, now: float) -> "Bench":
        """Say when the next thing happens, in seconds."""
        self.now = now
        return self

    def attach(self, token: str = "token") -> list[object]:
        """Give the channel a websocket."""
        self.core.attach("request", Secret(token), self.now)
        return self.effects()

    def detach(self) -> list[object]:
        """Take its websocket away."""
        self.core.detach()
        return self.effects()

    def send(self, *payloads: bytes) -> list[object]:
        """Send payloads."""
        for payload in payloads:
            self.core.send(payload, self.now)
        return self.effects()

    def flag(self, value: Flag) -> list[object]:
        """Send a flag."""
        self.core.send_flag(value, self.now)
        return self.effects()

    def close(self, error: SessionError) -> list[object]:
        """End the channel."""
        self.core.close(error)
        return self.effects()

    def receive(self, *messages: bytes) -> list[object]:
        """Let messages arrive."""
        for message in messages:
            self.core.receive(message, self.now)
        return self.effects()

    def tick(self) -> list[object]:
        """Let the channel see the clock."""
        self.core.on_deadline(self.now)
        return self.effects()

    def effects(self) -> list[object]:
        """Return what it wants."""
        return [described(effect) for effect in self.core.drain()]


def sent(first: int, payloads: Iterable[bytes]) -> list[object]:
    """Return ``Sent`` for each payload, numbered from ``first``."""
    return [Sent(number, payload) for number, payload in enumerate(payloads, first)]


def handshaking_bench() -> Bench:
    """Return a bench whose channel waits for the agent's request, at 0.0 s."""
    bench = Bench()
    (introduction,) = bench.attach()
    assert isinstance(introduction, SendOpener)
    return bench


def open_bench() -> Bench:
    """Return a bench whose channel is open and quiet, with a timeout of 0.2 s.

    Message 0 went out and is acknowledged after 0.05 s; the next one is number 1, and
    the agent's next is number 2.
    """
    bench = handshaking_bench()
    bench.receive(request())
    bench.at(0.05).receive(ack(0), complete())
    return bench
