"""One data channel, which outlives its websocket.

Three things drive it: the user (``attach``, ``detach``, ``send``, ``terminate``,
``close``), the network (``receive``) and the clock (``on_deadline`` at
``next_deadline``). After each of them ``drain`` returns the effects, in order.
Nothing here waits, reads a clock or rolls dice: those come in as arguments.
"""

import re
from collections.abc import Callable
from itertools import islice
from typing import Final

from ssmtunneld.base.foreign import CleanText, clean
from ssmtunneld.base.record import Record
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import (
    ChannelClosed,
    DestinationForbidden,
    HandshakeFailed,
    RemoteProtocolError,
    SessionError,
)
from ssmtunneld.protocol.events import (
    Closed,
    Deliver,
    DialFailed,
    Effect,
    Opened,
    SendOpener,
    Transmit,
)
from ssmtunneld.protocol.handshake import CLIENT_VERSION, Terms, answer
from ssmtunneld.protocol.inbound import Inbound
from ssmtunneld.protocol.message import (
    ACK_FLAGS,
    MAX_PAYLOAD,
    Flag,
    Message,
    MessageType,
    PayloadType,
    decode,
    decode_flag,
    encode_fields,
    encode_flag,
)
from ssmtunneld.protocol.message_size import MessageSize
from ssmtunneld.protocol.outbound import HEADER_SIZE, Outbound
from ssmtunneld.protocol.payloads import (
    ClosedDocument,
    HandshakeComplete,
    HandshakeRequest,
    OpenDataChannel,
    encode_acknowledgement,
    parse_acknowledgement,
)
from ssmtunneld.protocol.states import State, Trigger, step
from ssmtunneld.protocol.window import WindowBudget

HANDSHAKE_TIMEOUT: Final = 20.0
"""Seconds from the first websocket to HandshakeComplete. The agent gives up 15 s after
its request, and a new agent process takes a moment to start (protocol appendix A)."""
PAUSE_TIMEOUT: Final = 2.0
"""Seconds for which pause_publication is heeded if nothing ends it (protocol 4.6)."""
MALFORMED_LIMIT: Final = 100
"""Undecodable messages after which the peer is taken to speak another protocol.
TCP and TLS deliver what was sent, so even one is strange; official peers drop it."""

BATCH: Final = 256
"""Messages that are handled at a time once the one that they waited for is here: about
a millisecond. There can be 80,000 of them, and other channels have their turns too."""
FRAGMENT: Final = 8
"""Characters of a token in a row that a peer must not make us show."""

_AT_ONCE: Final = 0.0
_FORBIDDEN: Final = re.compile("Forwarding to IP address .+ is forbidden")
"""An agent's words about a host on its deny list (protocol 6.2)."""
"""A time on any clock that has passed."""
_INPUT: Final = MessageType.INPUT.value
_OUTPUT: Final = MessageType.OUTPUT.value
_ACKNOWLEDGE: Final = MessageType.ACKNOWLEDGE.value
_ATTACHED: Final = (State.OPEN, State.HANDSHAKING)


class ChannelStatistics(Record):
    """A snapshot of one channel; counts are since its beginning."""

    state: State
    unacked: int
    """Messages that wait for an acknowledgement."""
    unacked_bytes: int
    acknowledged: int
    """Messages that were acknowledged."""
    window: int
    """Bytes that wait at a time, at most."""
    early: int
    """Messages that wait for one before them."""
    rtt: float | None
    """Smoothed round-trip time to the agent, in seconds."""
    retransmitted: int
    duplicates: int
    malformed: int
    paused: bool
    missing: int = 0
    """Messages that the early ones wait for."""
    message_size: int = MAX_PAYLOAD
    """Bytes of payload that a message may have."""
    delivered_rate: float | None = None
    """Bytes per second that were acknowledged lately, headers included; ``None`` before
    enough was sent to tell."""
    least_rtt: float | None = None
    """Seconds that the empty path takes, as far as is known."""


class DataChannel:
    """The client's end of a data channel.

    Args:
        client_id: A UUID, constant for the life of the session (protocol 2.2).
        new_id: Returns 16 random bytes, for the ids of messages and requests.
        wall_clock_ms: Returns the Unix time in milliseconds, for their stamps.
        budget: Shared with the other channels of the process.
    """

    def __init__(
        self,
        *,
        client_id: str,
        new_id: Callable[[], bytes],
        wall_clock_ms: Callable[[], int],
        budget: WindowBudget | None = None,
    ) -> None:
        self._client_id = client_id
        self._new_id = new_id
        self._wall_clock_ms = wall_clock_ms
        self._state = State.IDLE
        self._effects: list[Effect] = []
        self._inbound = Inbound()
        self._outbound = Outbound(budget)
        self._size = MessageSize()
        self._terms: Terms | None = None
        self._handshake_deadline: float | None = None
        self._paused_until: float | None = None
        self._malformed = 0
        self._token = Secret("")
        self._behind = False
        """True while messages are deliverable but not yet delivered."""
        self._closing: ChannelClosed | None = None
        """The end of the channel once those are delivered."""

    # What the user does.

    def attach(self, request_id: str, token: Secret, now: float) -> None:
        """Begin to use a new websocket, introduced by ``token``.

        Everything that is not acknowledged is sent again, at once as far as a window of
        a new path has room for it (designs D2, D23).

        Raises:
            LocalProtocolError: The channel is attached already, or closed.
        """
        if self._state is State.IDLE:
            self._handshake_deadline = now + HANDSHAKE_TIMEOUT
        self._state = step(self._state, Trigger.ATTACH)
        self._paused_until = None
        self._token = token
        self._size.reset()
        opening = OpenDataChannel(request_id, token, self._client_id, CLIENT_VERSION)
        self._effects.append(SendOpener(opening.encode()))
        self._retransmit(self._outbound.resend_all(now))

    def detach(self) -> None:
        """Note that the websocket is lost; effects not yet drained are dropped.

        They were meant for that websocket: what matters of them is sent again by
        ``attach``. Facts (deliveries among them) stay.

        Raises:
            LocalProtocolError: The channel is not attached.
        """
        self._state = step(self._state, Trigger.DETACH)
        self._effects = [
            effect
            for effect in self._effects
            if not isinstance(effect, SendOpener | Transmit)
        ]

    @property
    def room(self) -> int:
        """Messages that :meth:`send` takes now, if they are as long as they can be."""
        if self._state is not State.OPEN or self._paused_until is not None:
            return 0
        return self._outbound.room

    @property
    def message_limit(self) -> int:
        """Bytes of payload that the service and the agent are known to take."""
        return self._size.limit

    @message_limit.setter
    def message_limit(self, limit: int) -> None:
        self._size.limit = limit
        self._outbound.full_message = HEADER_SIZE + self._size.size

    def choose_size(self) -> int:
        """Return the bytes of payload that the next messages can have (design D22).

        ``room`` counts messages of this size from now on.
        """
        size = self._size
        if size.limit > MAX_PAYLOAD:
            outbound = self._outbound
            size.choose(outbound.window.rate or 0.0)
            outbound.full_message = HEADER_SIZE + size.size
        return size.size

    def send(self, payload: bytes, now: float) -> int:
        """Send ``payload``, a part of the stream; there must be ``room``.

        Args:
            payload: 1 byte up to what :meth:`choose_size` returned; a trial has more.
            now: The time, in seconds.

        Returns:
            The message's number, for :meth:`is_acknowledged`.
        """
        assert self.room > 0, "send() without room"
        return self._send(PayloadType.OUTPUT, payload, now)

    def is_acknowledged(self, sequence: int) -> bool:
        """Return True if the agent has acknowledged that message."""
        return self._outbound.is_acknowledged(sequence)

    @property
    def large_unacked(self) -> bool:
        """True if a message that is larger than usual waits to be acknowledged."""
        return self._outbound.large_unacked

    def note_dry(self) -> None:
        """Note that there is nothing to send: what is sent now says little of the path.

        To be called whenever there is room, or the link could take more, in vain.
        """
        self._outbound.window.note_dry()

    def send_flag(self, flag: Flag, now: float) -> None:
        """Send a flag behind everything sent so far, even if the window is full.

        Nothing is sent unless the channel is open: a flag is not worth a resume.
        """
        if self._state is State.OPEN:
            self._send(PayloadType.FLAG, encode_flag(flag), now)

    def close(self, error: SessionError) -> None:
        """End the channel because of ``error``; idempotent."""
        if self._state is not State.CLOSED:
            self._state = step(self._state, Trigger.CLOSE)
            self._handshake_deadline = None
            self._effects.append(Closed(error))
            self._inbound.clear()
            self._outbound.release()

    # What the network does.

    def receive(self, data: bytes, now: float) -> None:
        """Take one websocket message, binary or text (both are the same, protocol 2.4).

        What comes without a websocket is dropped: its acknowledgement could not be
        sent, so the agent sends it again.

        Raises:
            RemoteProtocolError: The peer breaks the protocol; the session is worthless.
        """
        if self._state not in _ATTACHED:
            return
        try:
            message = decode(data)
        except RemoteProtocolError:
            self._malformed += 1
            if self._malformed > MALFORMED_LIMIT:
                raise
            return
        kind = message.message_type
        if kind == _OUTPUT:
            self._paused_until = None
            self._receive_output(message, now)
        elif kind == _ACKNOWLEDGE:
            self._paused_until = None
            sequence = parse_acknowledgement(message.payload)
            self._retransmit(self._outbound.acknowledge(sequence, now))
        else:
            self._receive_service(kind, message.payload, now)

    def _receive_service(self, kind: str, payload: bytes, now: float) -> None:
        # Neither sequenced nor acknowledged; anything else is for others (3.1).
        if kind == MessageType.CHANNEL_CLOSED:
            closed = _closed(self.words(ClosedDocument.parse(payload).output))
            if self._behind:
                self._closing = self._closing or closed
            else:
                self.close(closed)
        elif kind == MessageType.PAUSE_PUBLICATION:
            self._paused_until = now + PAUSE_TIMEOUT
        elif kind == MessageType.START_PUBLICATION:
            self._paused_until = None

    def _receive_output(self, message: Message, now: float) -> None:
        if self._inbound.take_next(message):
            self._acknowledge(message)
            self._process(message.payload_type, message.payload, now)
            return
        if self._closing is not None or not self._inbound.accept(message):
            return
        self._acknowledge(message)
        if not self._behind:
            self._catch_up(now)

    def _catch_up(self, now: float) -> None:
        for ready in islice(self._inbound.ready(), BATCH):
            self._process(ready.payload_type, ready.payload, now)
            if self._state is State.CLOSED:
                return  # early messages are never delivered after that
        self._behind = self._inbound.is_ready
        if self._closing is not None and not self._behind:
            self.close(self._closing)

    def _acknowledge(self, message: Message) -> None:
        payload = encode_acknowledgement(
            message.message_type, message.message_id, message.sequence
        )
        self._transmit(_ACKNOWLEDGE, 0, payload, 0, ACK_FLAGS)

    def _process(self, payload_type: int, payload: bytes, now: float) -> None:
        if payload_type == PayloadType.OUTPUT:
            self._require_open()
            self._effects.append(Deliver(payload))
        elif payload_type == PayloadType.HANDSHAKE_REQUEST:
            self._answer(HandshakeRequest.parse(payload), now)
        elif payload_type == PayloadType.HANDSHAKE_COMPLETE:
            self._complete(HandshakeComplete.parse(payload))
        elif payload_type == PayloadType.FLAG:
            self._take_flag(decode_flag(payload))
        # Every other type belongs to shell sessions, which this is not.

    def _take_flag(self, flag: int) -> None:
        if flag == Flag.CONNECT_TO_PORT_ERROR:
            self._require_open()
            self._effects.append(DialFailed())

    def _require_open(self) -> None:
        if self._state is not State.OPEN:
            raise RemoteProtocolError("data before the handshake was complete")

    def _answer(self, request: HandshakeRequest, now: float) -> None:
        if self._terms is not None:
            return  # no agent asks twice, and a second answer could only confuse
        try:
            reply = answer(request)
        except HandshakeFailed as error:
            self.close(HandshakeFailed(self.words(error.reason)))
            return
        self._send(PayloadType.HANDSHAKE_RESPONSE, reply.response.encode(), now)
        if reply.terms is None:
            self.close(HandshakeFailed(self.words(reply.refusal)))
        self._terms = reply.terms

    def _complete(self, complete: HandshakeComplete) -> None:
        if self._terms is None:
            raise RemoteProtocolError("the handshake was completed without a request")
        if self._state is State.HANDSHAKING:
            self._state = step(self._state, Trigger.COMPLETE)
            self._handshake_deadline = None
            terms = self._terms
            if complete.customer_message:
                terms = terms.noted(self.words(complete.customer_message))
            self._effects.append(Opened(terms))

    # What the clock does.

    def next_deadline(self) -> float | None:
        """Return the time of the next :meth:`on_deadline`, on the caller's clock."""
        deadline = self._handshake_deadline
        if self._state in _ATTACHED:
            if self._behind:
                return _AT_ONCE
            for other in (self._paused_until, self._outbound.next_deadline()):
                if other is not None and (deadline is None or other < deadline):
                    deadline = other
        return deadline

    def on_deadline(self, now: float) -> None:
        """Apply the timers that are due; calling it too early does nothing."""
        if self._handshake_deadline is not None and now >= self._handshake_deadline:
            waited = f"{HANDSHAKE_TIMEOUT:.0f} s"
            why = f"the agent did not complete it in {waited}"
            self.close(HandshakeFailed(clean(why)))
        if self._state in _ATTACHED:
            if self._paused_until is not None and now >= self._paused_until:
                self._paused_until = None
            self._retransmit(self._outbound.on_deadline(now))
            if self._behind:
                self._catch_up_or_close(now)

    def _catch_up_or_close(self, now: float) -> None:
        try:
            self._catch_up(now)
        except RemoteProtocolError as error:
            self.close(error)

    # Output.

    def drain(self) -> list[Effect]:
        """Return the pending effects, in order, and clear them."""
        effects, self._effects = self._effects, []
        return effects

    @property
    def missing(self) -> int:
        """Missing messages that later ones, which have arrived, wait for."""
        return self._inbound.missing

    def words(self, text: str) -> CleanText:
        """Return a peer's ``text``, fit to be kept and shown: also without our token.

        The service knows that token, and must not be able to have it logged.
        """
        cleaned = clean(text)
        token = self._token.reveal()
        pieces = (cleaned[i : i + FRAGMENT] for i in range(len(cleaned)))
        if any(len(piece) == FRAGMENT and piece in token for piece in pieces):
            return clean("(text that is not shown, because it holds a secret)")
        return cleaned

    @property
    def settled(self) -> bool:
        """True if all that was sent is acknowledged, and no message is missing."""
        return not (self._outbound.unacked or self._inbound.early)

    def silent_for(self, now: float) -> float:
        """Return for how long nothing new was acknowledged, beyond a round trip.

        In seconds; 0.0 if nothing waits for an acknowledgement.
        """
        return self._outbound.silent_for(now)

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot."""
        window = self._outbound.window
        return ChannelStatistics(
            state=self._state,
            unacked=self._outbound.unacked,
            unacked_bytes=self._outbound.unacked_bytes,
            acknowledged=self._outbound.next_sequence - self._outbound.unacked,
            window=window.limit,
            early=self._inbound.early,
            rtt=self._outbound.round_trip.smoothed,
            retransmitted=self._outbound.retransmitted,
            duplicates=self._inbound.duplicates,
            malformed=self._malformed,
            paused=self._paused_until is not None,
            missing=self._inbound.missing,
            message_size=self._size.limit,
            delivered_rate=window.rate,
            least_rtt=window.least_round_trip,
        )

    def _send(self, payload_type: PayloadType, payload: bytes, now: float) -> int:
        sequence = self._outbound.next_sequence
        data = self._transmit(_INPUT, sequence, payload, payload_type, 0)
        self._outbound.send(data, now)
        return sequence

    def _transmit(
        self, kind: str, sequence: int, payload: bytes, payload_type: int, flags: int
    ) -> bytes:
        data = encode_fields(
            kind,
            sequence,
            self._new_id(),
            self._wall_clock_ms(),
            payload,
            payload_type,
            flags,
        )
        self._effects.append(Transmit(data))
        return data

    def _retransmit(self, messages: list[bytes]) -> None:
        self._effects.extend(map(Transmit, messages))


def _closed(words: CleanText) -> ChannelClosed:
    kind = DestinationForbidden if _FORBIDDEN.search(words) else ChannelClosed
    return kind(words)
