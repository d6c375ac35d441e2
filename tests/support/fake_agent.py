"""An agent in memory, and the link to it, for tests of whole sessions in virtual time.

It echoes what its streams receive. It keeps what a real one keeps over a reconnect
(protocol 2.5), and acknowledges everything; it does not pace and it has no timers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from typing_extensions import override

from ssmtunneld.errors import LinkError, LinkLost, PeerUnresponsive
from ssmtunneld.protocol.message import (
    Flag,
    Message,
    MessageType,
    PayloadType,
    decode,
    decode_flag,
    encode_flag,
)
from ssmtunneld.protocol.payloads import (
    HandshakeResponse,
    encode_acknowledgement,
    parse_acknowledgement,
)
from ssmtunneld.smux.frame import Command, Frame, FrameDecoder, encode_frame
from tests.support.bench import agent_message, complete, output, request
from tests.support.memory_link import MemoryLink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MUX_PROPERTIES = {"type": "LocalPortForwarding", "portNumber": "5432"}
BASIC_PROPERTIES = {"portNumber": "22"}
DEAD_PEER_TIMEOUT = 40.0


@dataclass
class AgentNature:
    """Properties of an agent; the test can change them at any time."""

    version: str = "3.3.987.0"
    properties: Mapping[str, str] = field(default_factory=lambda: dict(MUX_PROPERTIES))
    refuses: bool = False
    """True if its destination refuses connections."""
    deaf: bool = False
    """True if it takes nothing and acknowledges nothing."""
    never_completes: bool = False
    """True if its handshake stalls."""
    notice: str = ""
    largest: int | None = None
    """Bytes of payload that the service passes on to it; None is any."""
    beyond: str = "closed"
    """Reaction to a larger payload: ``closed``, ``1009``, ``cut`` or ``silence``."""


class MemoryWire(MemoryLink):
    """A link to an agent: what is sent arrives in order, ``latency`` seconds later."""

    def __init__(self, agent: FakeAgent, latency: float) -> None:
        super().__init__()
        self.checks = 0
        self.vanished = False
        self.dropped: list[Callable[[], None]] = []
        self._agent = agent
        self._latency = latency
        self._loop = asyncio.get_running_loop()
        self._down: deque[bytes] = deque()
        self._up: deque[bytes] = deque()

    # Our end.

    @override
    def send_text(self, text: str) -> None:
        super().send_text(text)
        if not self.vanished:
            self._agent.attach(self)

    @override
    def send(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            self._up.append(message)
            self._loop.call_later(self._latency, self._arrive_up)

    def check(self, timeout: float) -> None:
        """Be lost in ``timeout`` seconds if nothing passes any more."""
        self.checks += 1
        if self.vanished:
            self._loop.call_later(timeout, self.lose, PeerUnresponsive(timeout))

    @override
    def abort(self) -> None:
        super().abort()
        self._agent.detach(self)
        for function in self.dropped:
            function()

    # The network, and the agent's end.

    def deliver(self, message: bytes) -> None:
        """Send ``message`` to the client."""
        self._down.append(message)
        self._loop.call_later(self._latency, self._arrive_down)

    def _arrive_down(self) -> None:
        message = self._down.popleft()
        if not self.aborted and not self.vanished:
            self.arrive(message)

    def _arrive_up(self) -> None:
        message = self._up.popleft()
        if not self.aborted and not self.vanished:
            self._agent.receive(message)

    @override
    def lose(self, error: LinkError) -> None:
        self._agent.detach(self)
        super().lose(error)

    def vanish(self) -> None:
        """Swallow everything from now on, until the dead-peer timer notices."""
        self.vanished = True
        error = PeerUnresponsive(DEAD_PEER_TIMEOUT)
        self._loop.call_later(DEAD_PEER_TIMEOUT, self.lose, error)


class FakeAgent:
    """The agent's end of one session.

    Args:
        nature: What it is like.
        end: Called when the session is over for it.
        heard: Called for each message of stream data, NOPs included.
    """

    def __init__(
        self, nature: AgentNature, end: Callable[[str], None], heard: Callable[[], None]
    ) -> None:
        self.nature = nature
        self.version = nature.version
        self.mux = "type" in nature.properties
        self.wire: MemoryWire | None = None
        self.open = False
        self.nops: list[float] = []
        self.opened = 0
        self.streams: set[int] = set()
        self.flags: list[int] = []
        self._end = end
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._unacked: dict[int, bytes] = {}
        self._next = 0
        self._expected = 0
        self._frames = FrameDecoder()

    def attach(self, wire: MemoryWire) -> None:
        """Use ``wire``: begin the handshake, or send again what may be lost."""
        self.wire = wire
        if self._next == 0:
            properties = dict(self.nature.properties)
            self._send(request(version=self.version, properties=properties))
        else:
            for message in self._unacked.values():
                wire.deliver(message)

    def detach(self, wire: MemoryWire) -> None:
        """Lose ``wire``."""
        if self.wire is wire:
            self.wire = None

    def _send(self, message: bytes) -> None:
        self._unacked[self._next] = message
        self._next += 1
        self._emit(message)

    def _emit(self, message: bytes) -> None:
        if self.wire is not None:
            self.wire.deliver(message)

    def say(self, payload: bytes, payload_type: int = PayloadType.OUTPUT) -> None:
        """Send stream data, or something else."""
        self._send(output(self._next, payload, payload_type))

    def receive(self, data: bytes) -> None:
        """Take one message of the client's."""
        message = decode(data)
        largest = self.nature.largest
        if largest is not None and len(message.payload) > largest:
            self._refuse()
            return
        if self.nature.deaf:
            return
        if message.message_type == MessageType.ACKNOWLEDGE:
            self._unacked.pop(parse_acknowledgement(message.payload), None)
            return
        # The wire keeps order, so what is too high was sent before something lost.
        if message.sequence <= self._expected:
            self._acknowledge(message)
        if message.sequence == self._expected:
            self._expected += 1
            self._take(message)

    def _refuse(self) -> None:
        """Do what the service does with a message that is too large."""
        if self.nature.beyond == "closed":
            self._end("")
        elif self.nature.beyond != "silence" and self.wire is not None:
            code = 1009 if self.nature.beyond == "1009" else None
            self.wire.lose(LinkLost("message too big", code))

    def _acknowledge(self, message: Message) -> None:
        payload = encode_acknowledgement(
            message.message_type, message.message_id, message.sequence
        )
        self._emit(agent_message(MessageType.ACKNOWLEDGE, 0, payload, 0, 3))

    def _take(self, message: Message) -> None:
        if message.payload_type == PayloadType.HANDSHAKE_RESPONSE:
            response = HandshakeResponse.parse(message.payload)
            accepted = all(action.status == 1 for action in response.actions)
            if accepted and not self.nature.never_completes:
                self._send(complete(self.nature.notice, sequence=self._next))
                self.open = True
        elif message.payload_type == PayloadType.FLAG:
            self.flags.append(decode_flag(message.payload))
            if self.flags[-1] == Flag.TERMINATE_SESSION:
                self._end("")
        elif message.payload_type == PayloadType.OUTPUT:
            self._heard()
            if self.mux:
                for frame in self._frames.feed(message.payload):
                    self._take_frame(frame)
            else:
                self.say(message.payload)

    def _take_frame(self, frame: Frame) -> None:
        number = frame.stream_id
        if frame.command is Command.NOP:
            self.nops.append(self._loop.time())
        elif frame.command is Command.SYN:
            self._dial(number)
        elif number not in self.streams:
            return
        elif frame.command is Command.PSH:
            self.say(encode_frame(Command.PSH, number, frame.payload))
        elif frame.command is Command.FIN:
            self.streams.discard(number)
            self.say(encode_frame(Command.FIN, number))

    def _dial(self, number: int) -> None:
        self.opened += 1
        if self.nature.refuses:
            self.say(encode_flag(Flag.CONNECT_TO_PORT_ERROR), PayloadType.FLAG)
            self.say(encode_frame(Command.FIN, number))
        else:
            self.streams.add(number)
