"""A far side that may say anything: a scripted gateway, and the agent behind it.

A conversation is a list of steps; each is a kind and a number, and what it says is a
function of both and of what was said before. So a failing one can be shrunk and played
again. ``Far`` makes the bytes; ``MemoryTransport`` carries them in virtual time, and
``tests/hostile/gateway.py`` over real sockets.
"""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING

from typing_extensions import override
from websockets.frames import Close, Frame, Opcode
from websockets.utils import accept_key

from ssmtunneld.protocol.message import (
    ACK_FLAGS,
    Flag,
    Message,
    MessageType,
    PayloadType,
    encode,
    encode_flag,
    encode_short,
)
from ssmtunneld.protocol.payloads import (
    ClientAction,
    HandshakeRequest,
    encode_acknowledgement,
)
from ssmtunneld.smux.frame import Command, encode_frame
from tests.fuzz import inputs
from tests.support.bench import MUX_PROPERTIES, STAMP, complete, output, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CANARY = "ctok5Ua8Wj2Ne7Qz4Tm1Rv6Yp3Cx9Bk0Dh"
"""The session's token, which the service knows and may try to have shown."""

_ID = bytes(range(16))

# Words that nobody should have to read.
_WORDS = (
    "",
    "Session timed out",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m\x00\r\nlevel=error forged line",
    "\ud800",
    "\udfff\ud800x",
    "\u202eright to left\u2066",
    "x" * 5000,
    "é😀" * 2000,
    "\\ud800" * 500,
    CANARY,
    f"the token is {CANARY}",
    CANARY[5:25],
    "a" * 290 + CANARY,
)
_BIG = 60_000


def words(random: Random) -> str:
    """Return a text that may hurt whoever shows it."""
    return random.choice(_WORDS)


def _value(random: Random, depth: int = 3) -> object:
    choice = random.randrange(10)
    if choice < 2 and depth:
        return [_value(random, depth - 1) for _ in range(random.randrange(4))]
    if choice < 4 and depth:
        return {words(random)[:40]: _value(random, depth - 1) for _ in range(2)}
    return random.choice(
        [None, True, -1, 0, 2**63, 10**300, 1e308, float("nan"), words(random), "Port"]
    )


def _deep(random: Random) -> object:
    value: object = words(random)[:2000]
    for _ in range(random.choice([0, 0, 0, 50, 400])):
        value = [value]
    return value


def _nested(random: Random) -> bytes:
    depth = random.choice([5, 60, 70, 2000, 30_000])
    opening, closing = random.choice([(b"[", b"]"), (b'{"a":', b"}")])
    inner = opening * depth + random.choice([b"", b"1", closing * depth])
    key = random.choice([b"Output", b"RequestedClientActions", b"AgentVersion", b""])
    return b'{"' + key + b'":' + inner + b"}" if key else inner


def document(random: Random, *keys: str) -> bytes:
    """Return a document with some of ``keys``: odd, damaged, nested, huge."""
    choice = random.randrange(8)
    if choice == 0:
        return _nested(random)[: 2 * _BIG]
    if choice == 1:
        item = random.choice([b"{}", b"[]", b'""', b"1", b'{"":0}', b'"\\'])
        return b'{"' + keys[0].encode() + b'":[' + item + (b"," + item) * 3000 + b"]}"
    if choice == 2:
        return inputs.document(random)[:_BIG] or b"{"
    chosen = random.sample(keys, random.randint(1, len(keys)))
    text = json.dumps(
        {key: _value(random) for key in chosen}, ensure_ascii=random.random() < 0.7
    )
    return text.encode("utf-8", "surrogatepass")


def _actions(random: Random) -> bytes:
    kinds = ["SessionType", "KMSEncryption", words(random), "é", "\x00"]
    count = random.choice([0, 1, 1, 2, 16, 17, 400])
    actions = tuple(
        ClientAction(
            random.choice(kinds),
            {"SessionType": _deep(random), "Properties": _value(random)},
        )
        for _ in range(count)
    )
    versions = ["3.3.987.0", "2.3.1.0", "3", "9" * 5000, words(random), "3.3.987.0\n"]
    return HandshakeRequest(random.choice(versions), actions).encode()


def _smux(random: Random) -> bytes:
    choice = random.randrange(10)
    if choice == 0:
        return random.randbytes(random.randint(1, 2000))
    if choice == 1:
        one = encode_frame(random.choice(list(Command)[:4]), 3)
        return one * random.choice([10, 1000, 8000])
    if choice == 2:
        # A frame that goes on elsewhere, or a command that there is not.
        return bytes([random.choice([1, 1, 1, 0, 2]), random.randrange(8)]) + (
            random.randbytes(6)
        )
    frames = []
    for _ in range(random.randint(1, 6)):
        number = random.choice([0, 1, 2, 3, 3, 3, 5, 7, 9, 2**31, 2**32 - 1])
        command = random.choice(list(Command))
        size = random.choice([0, 1, 5, 1000, 20_000])
        data = bytes(size) if command in (Command.PSH, Command.UPD) else b""
        frames.append(encode_frame(command, number, data))
    data = b"".join(frames)
    if random.random() < 0.15:
        data = data[: random.randrange(len(data))] or b"\x01"
    return data


class Far:
    """The far side of one session: says what the steps of a conversation want.

    Args:
        key: Returns the client's ``Sec-WebSocket-Key``.
    """

    def __init__(self, key: Callable[[], str]) -> None:
        self._key = key
        self._next = 0
        self._said: list[bytes] = []

    def begin(self) -> None:
        """Forget what was said: another session."""
        self._next = 0
        self._said.clear()

    def say(self, kind: str, number: int) -> bytes:
        """Return the bytes of one step, as they go over the wire."""
        random = Random(number)
        raw = _RAW.get(kind)
        if raw is not None:
            return raw(self, random)
        messages = list(_MESSAGES[kind](self, random))
        if kind != "repeat":
            self._said += [m for m in messages if len(m) < _BIG][-50:]
        return b"".join(_framed(random, message) for message in messages)

    # The upgrade.

    def upgrade(self, random: Random) -> bytes:
        """Return the answer to the upgrade as it should be."""
        reason = random.choice([" Switching Protocols", "", " "])
        return (
            f"HTTP/1.1 101{reason}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(self._key())}\r\n\r\n"
        ).encode()

    def odd_upgrade(self, random: Random) -> bytes:
        """Return another answer than it should be."""
        status = random.choice([100, 101, 200, 204, 301, 304, 401, 403, 404, 500, 999])
        head = f"HTTP/1.1 {status} {words(random)[:600]}".encode("utf-8", "replace")
        fields = random.choice(
            [
                b"Location: http://169.254.169.254/",
                b"Content-Length: 99999999",
                b"Content-Length: " + b"9" * 5000,
                b"Transfer-Encoding: chunked",
                b"Upgrade: websocket\r\nConnection: Upgrade",
                b"X: " + CANARY.encode(),
                b"x" * 20_000,
                b"A: b\r\n" * 3000,
            ]
        )
        data = head + b"\r\n" + fields + b"\r\n\r\n" + random.randbytes(200)
        return inputs._flip(random, data, ()) if random.random() < 0.3 else data

    # Messages.

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def hello(self, random: Random) -> Iterator[bytes]:
        """Yield what an agent says first, in one of its modes."""
        properties = random.choice(
            [MUX_PROPERTIES, MUX_PROPERTIES, {"portNumber": "1"}]
        )
        version = random.choice(["3.3.987.0", "3.3.987.0", "3.1.1400.0", "2.3.1.0"])
        yield request(version=version, properties=properties, sequence=self._number())
        yield self.acknowledgement(0)
        notice = words(random) if random.random() < 0.3 else ""
        yield complete(notice[:3000], sequence=self._number())

    def data(self, random: Random) -> Iterator[bytes]:
        """Yield stream data, in order."""
        payload = _smux(random)
        for start in range(0, len(payload), 1024):
            yield output(self._number(), payload[start : start + 1024])
            if random.random() < 0.02:
                self._number()  # one is lost

    def large_data(self, random: Random) -> Iterator[bytes]:
        """Yield more data in one message than anybody sends."""
        yield output(self._number(), (_smux(random) * 60)[:_BIG])

    def disordered(self, random: Random) -> Iterator[bytes]:
        """Yield messages whose numbers are early, late, negative or far away."""
        for _ in range(random.randint(1, 8)):
            near = self._next + random.randint(-3, 30)
            far = random.choice([2**62, -1, -(2**63), 2**63 - 1, self._next + 79_999])
            number = far if random.random() < 0.3 else max(near, -(2**63))
            yield output(number, _smux(random)[:1024], random.choice([1, 1, 1, 7, 99]))

    def gap(self, random: Random) -> Iterator[bytes]:
        """Yield many messages behind one, and then that one."""
        first, payload = self._number(), encode_frame(Command.NOP, 0)
        for _ in range(random.choice([10, 300, 700])):
            yield output(self._number(), payload)
        if random.random() < 0.4:
            yield from random.choice([self.documents, self.data])(random)
        if random.random() < 0.8:
            yield output(first, payload)
        if random.random() < 0.3:
            yield next(self.closed(random))

    def acknowledgement(self, sequence: int) -> bytes:
        """Return one acknowledgement."""
        payload = encode_acknowledgement(MessageType.INPUT, _ID, sequence)
        return _message(MessageType.ACKNOWLEDGE, payload)

    def acknowledgements(self, random: Random) -> Iterator[bytes]:
        """Yield acknowledgements of the past, the future, and of nothing."""
        for _ in range(random.randint(1, 12)):
            yield self.acknowledgement(
                random.choice([0, 1, 2, 3, 4, 5, 2**63, -1, 10**18])
            )
        keys = ("AcknowledgedMessageSequenceNumber", "AcknowledgedMessageId")
        if random.random() < 0.3:
            yield _message(MessageType.ACKNOWLEDGE, document(random, *keys))

    def documents(self, random: Random) -> Iterator[bytes]:
        """Yield documents of the handshake that are none."""
        kind = random.choice([5, 5, 5, 7, 8, 9, 6])
        keys = ("AgentVersion", "RequestedClientActions", "CustomerMessage")
        payload = _actions(random) if random.random() < 0.5 else document(random, *keys)
        yield output(self._number(), payload, kind)

    def closed(self, random: Random) -> Iterator[bytes]:
        """Yield the end of the session."""
        if random.random() < 0.5:
            payload = json.dumps({"Output": words(random)}).encode()
        else:
            payload = document(random, "Output", "SessionId")
        write = random.choice([encode, encode_short])
        yield write(Message(MessageType.CHANNEL_CLOSED, 0, _ID, STAMP, payload))

    def advice(self, random: Random) -> Iterator[bytes]:
        """Yield pause and start, with payloads that nobody reads."""
        for _ in range(random.randint(1, 5)):
            kind = random.choice(
                [MessageType.PAUSE_PUBLICATION, MessageType.START_PUBLICATION]
            )
            yield _message(kind, b"[" * random.choice([1, 5000]))

    def flags(self, random: Random) -> Iterator[bytes]:
        """Yield flags, also such as there are none."""
        for _ in range(random.choice([1, 3, 100])):
            value = random.choice([*Flag, 0, 99])
            payload = random.choice(
                [encode_flag(value), bytes(3), b"\xff" * 4, encode_flag(3)]
            )
            yield output(self._number(), payload, PayloadType.FLAG)

    def strange(self, random: Random) -> Iterator[bytes]:
        """Yield types that nobody knows, and damaged messages."""
        for _ in range(random.choice([1, 5, 150])):
            if random.random() < 0.5:
                yield inputs.message(random)[:_BIG]
            else:
                kind = random.choice(
                    ["agent_job", CANARY[:32], "x\x1b[2J", "é", "\x00"]
                )
                yield encode(Message(kind, 5, _ID, STAMP, b"{}", random.randrange(20)))

    def garbage(self, random: Random) -> Iterator[bytes]:
        """Yield messages that are none."""
        for _ in range(random.choice([1, 10, 120])):
            yield random.randbytes(random.choice([0, 1, 4, 100, 116, 120, 300]))

    def repeat(self, random: Random) -> Iterator[bytes]:
        """Yield again what was said, in another order."""
        some = random.choices(self._said, k=min(60, 3 * len(self._said)))
        if random.random() < 0.3:
            some = [inputs.damaged(random, [message]) for message in some]
        yield from some

    # Bytes that are no message.

    def controls(self, random: Random) -> bytes:
        """Return control frames, some of them in a flood."""
        frames = []
        for _ in range(random.choice([1, 4, 700])):
            opcode = random.choice([Opcode.PING, Opcode.PONG])
            frames.append(_frame(opcode, random.randbytes(random.choice([0, 9, 125]))))
        return b"".join(frames)

    def fragments(self, random: Random) -> bytes:
        """Return messages in fragments, some of them without an end."""
        message = random.choice(self._said or [b"fragment"])
        size = random.choice([0, 1, 7, 100, 5000])
        pieces = [message[i : i + size] for i in range(0, len(message), size or 1)]
        pieces = (pieces or [b""])[:200]
        frames = [
            _frame(Opcode.CONT if i else Opcode.BINARY, piece, fin=False)
            for i, piece in enumerate(pieces)
        ]
        if random.random() < 0.5:
            frames.append(_frame(Opcode.CONT, b"", fin=True))
        return b"".join(frames)

    def close_frame(self, random: Random) -> bytes:
        """Return a close frame with words, or one that is none."""
        code = random.choice([1000, 1001, 1008, 1011, 3000, 4999])
        reason = words(random).encode("utf-8", "replace")[:123]
        reason = reason.decode("utf-8", "ignore")
        data = Close(code, reason).serialize()
        if random.random() < 0.2:
            data = random.randbytes(random.choice([0, 1, 2, 60]))
        return _frame(Opcode.CLOSE, data)

    def noise(self, random: Random) -> bytes:
        """Return bytes that are no frame."""
        return random.choice(
            [
                random.randbytes(random.randint(1, 500)),
                b"\x82\x7f" + (2**63 - 1).to_bytes(8),
                b"\x82\x7f" + (1 << 20).to_bytes(8) + bytes(3000),
                b"\x82\xfe\xff\xff" + bytes(200),
                b"\xf2\x05hello",
                b"\x89\x7e\x01\x00" + bytes(256),
                b"\x80\x00" * 500,
                b"\x83\x00",
            ]
        )


_MESSAGES = {
    "hello": Far.hello,
    "data": Far.data,
    "large data": Far.large_data,
    "disordered": Far.disordered,
    "gap": Far.gap,
    "acknowledgements": Far.acknowledgements,
    "documents": Far.documents,
    "closed": Far.closed,
    "advice": Far.advice,
    "flags": Far.flags,
    "strange": Far.strange,
    "garbage": Far.garbage,
    "repeat": Far.repeat,
}
_RAW = {
    "upgrade": Far.upgrade,
    "odd upgrade": Far.odd_upgrade,
    "controls": Far.controls,
    "fragments": Far.fragments,
    "close frame": Far.close_frame,
    "noise": Far.noise,
}
SAYINGS = (
    # What keeps a conversation alive comes more often than what ends it.
    *("data", "acknowledgements", "flags", "repeat", "advice", "fragments") * 2,
    *(kind for kind in (*_MESSAGES, *_RAW) if kind not in ("upgrade", "odd upgrade")),
)
"""Kinds of steps behind the upgrade."""

HANG_UP, STOP_READING, READ_AGAIN = "hang up", "stop reading", "read again"
PAUSE = "pause"
OPEN, SEND, CLOSE, ABORT, LEAVE_UNREAD = (
    "open",
    "send",
    "close",
    "abort",
    "leave unread",
)
FAR_DEEDS = (HANG_UP, STOP_READING, READ_AGAIN, PAUSE)
"""Kinds of steps in which the far side does something else than to speak."""
NEAR_DEEDS = (OPEN, OPEN, SEND, SEND, CLOSE, ABORT, LEAVE_UNREAD)
"""Kinds of steps in which a local client does something."""


def _message(kind: str, payload: bytes) -> bytes:
    return encode(Message(kind, 0, _ID, STAMP, payload, 0, ACK_FLAGS))


def _frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=False)


def _framed(random: Random, message: bytes) -> bytes:
    if random.random() < 0.95:
        opcode = Opcode.BINARY if random.random() < 0.9 else Opcode.TEXT
        return _frame(opcode, message)
    half = len(message) // 2
    return random.choice(
        [
            _frame(Opcode.PING, b"keepalive") + _frame(Opcode.BINARY, message),
            _frame(Opcode.BINARY, message[:half], fin=False)
            + _frame(Opcode.CONT, message[half:]),
            b"\x82\x7f" + len(message).to_bytes(8) + message,
        ]
    )


class MemoryTransport(asyncio.Transport):
    """A TCP connection in memory: the test is its far end.

    What the client writes is kept only as a number of bytes, but for the beginning.
    """

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._inbound = bytearray()
        self._reads = True
        self._turn = False
        self._closing = False
        self._takes = True
        self._unread = 0
        self._high, self._low = 64 << 10, 16 << 10
        self._paused = False
        self.head = b""
        """The client's upgrade."""
        self.most = 0
        """Bytes that waited for the far end at most."""

    # What asyncio wants.

    @override
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    @override
    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    @override
    def is_closing(self) -> bool:
        return self._closing

    @override
    def is_reading(self) -> bool:
        return self._reads

    @override
    def pause_reading(self) -> None:
        self._reads = False

    @override
    def resume_reading(self) -> None:
        self._reads = True
        self._schedule()

    @override
    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        self._high = high or self._high
        self._low = self._high // 4 if low is None else low

    @override
    def get_write_buffer_size(self) -> int:
        return self._unread

    @override
    def write(self, data: object) -> None:
        assert isinstance(data, bytes | bytearray)
        if self._closing:
            return
        if b"\r\n\r\n" not in self.head:
            self.head += data
        if self._takes:
            return
        self._unread += len(data)
        self.most = max(self.most, self._unread)
        if self._unread > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    @override
    def can_write_eof(self) -> bool:
        return True

    @override
    def write_eof(self) -> None:
        """Do nothing: the far end does not care."""

    @override
    def close(self) -> None:
        self.abort()

    @override
    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self._inbound.clear()
            self._loop.call_soon(self._protocol.connection_lost, None)

    # What the far end does.

    def take(self, *, takes: bool) -> None:
        """Read what the client writes, or leave it."""
        self._takes = takes
        if takes:
            self._unread = 0
            if self._paused and not self._closing:
                self._paused = False
                self._protocol.resume_writing()

    def hang_up(self, error: Exception | None) -> None:
        """End the connection."""
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, error)

    def say(self, data: bytes) -> None:
        """Let bytes arrive, a read in each turn of the loop."""
        if not self._closing:
            self._inbound += data
            self._schedule()

    def _schedule(self) -> None:
        if self._inbound and self._reads and not self._turn:
            self._turn = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._turn = False
        if not self._inbound or not self._reads or self._closing:
            return
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            buffer = memoryview(protocol.get_buffer(-1))
            piece = self._inbound[: len(buffer)]
            buffer[: len(piece)] = piece
            del self._inbound[: len(piece)]
            protocol.buffer_updated(len(piece))
        else:
            assert isinstance(protocol, asyncio.Protocol)
            piece = self._inbound[: 256 << 10]
            del self._inbound[: len(piece)]
            protocol.data_received(bytes(piece))
        self._schedule()
