"""The agent's smux: version 1, server side, as vendored there (protocol 7).

One receive budget for the whole session and none for a stream; frames leave through one
heap in which a stream that has sent little comes first.
"""

import asyncio
from collections import deque
from heapq import heappop, heappush
from typing import Final

from ssmtunneld.emulator.agent.port import READ_SIZE, StreamView
from ssmtunneld.emulator.lane import give_way
from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.smux.frame import Command, Frame, FrameDecoder, encode_frame

RECEIVE_BUDGET: Final = 4_194_304
ACCEPT_BACKLOG: Final = 1024
PIPE_CAPACITY: Final = 212_992
"""Bytes between smux and the message loop: a Unix socket's default send buffer. At the
agent's pace this is 0.23 s of queueing, which a client really sees."""


class ServerStream:
    """One stream, from its SYN to its FIN; made by `SmuxServer`."""

    def __init__(self, server: "SmuxServer", stream_id: int) -> None:
        self.view = StreamView(stream_id)
        self.frames_sent = 0
        self.closed = False
        self._server = server
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._wake = asyncio.Event()

    async def read(self) -> bytes:
        """Return some bytes; ``b""`` after the client's FIN or our own close."""
        while not self._chunks:
            if self._ended or self.closed:
                return b""
            self._wake.clear()
            await self._wake.wait()
        data = self._chunks.popleft() if len(self._chunks) == 1 else self._join()
        self._server.return_tokens(len(data))
        self.view.bytes_up += len(data)
        return data

    async def write(self, data: bytes) -> None:
        """Send ``data`` as one frame; returns once it is in the pipe."""
        self.view.bytes_down += len(data)
        await self._server.write(self, data)

    def close(self) -> None:
        """Send FIN, discard what was not read, forget the stream; idempotent."""
        if self.closed:
            return
        self.closed = True
        self._server.return_tokens(sum(map(len, self._chunks)))
        self._chunks.clear()
        self._wake.set()
        self._server.forget(self)

    def feed(self, data: bytes) -> None:
        """Take bytes from the client."""
        self._chunks.append(data)
        self._wake.set()

    def feed_eof(self) -> None:
        """Take the client's FIN."""
        self._ended = True
        self._wake.set()

    def _join(self) -> bytes:
        chunks, size = [], 0
        while self._chunks and size < READ_SIZE:
            chunks.append(self._chunks.popleft())
            size += len(chunks[-1])
        return b"".join(chunks)


class SmuxServer:
    """All streams of one session."""

    def __init__(self) -> None:
        self.heard = False
        """Any frame arrived since this was last set to False."""
        self.broken = False
        """The client broke the protocol: no frame is read any more."""
        self._decoder = FrameDecoder()
        self._budget = RECEIVE_BUDGET
        self._streams: dict[int, ServerStream] = {}
        self._backlog: deque[ServerStream] = deque()
        self._accepted = asyncio.Event()
        self._room = asyncio.Event()
        self._heap: list[tuple[int, int, bytes, asyncio.Future[None] | None]] = []
        self._order = 0
        self._pipe = bytearray()
        self._piped = asyncio.Event()

    @property
    def blocked(self) -> bool:
        """True if the reader has stopped: no budget, or too many SYNs not accepted."""
        return self._budget <= 0 or len(self._backlog) >= ACCEPT_BACKLOG

    @property
    def has_budget(self) -> bool:
        """True if the receive budget is positive, as the keepalive checks."""
        return self._budget > 0

    @property
    def piped_bytes(self) -> int:
        """Bytes in the pipe: at most its capacity and one frame."""
        return len(self._pipe)

    async def room(self) -> None:
        """Wait until the reader goes on; cancelling is safe."""
        while self.blocked:
            self._room.clear()
            await self._room.wait()

    def streams(self) -> list[StreamView]:
        """Return what is open now."""
        return [stream.view for stream in self._streams.values()]

    def feed(self, data: bytes) -> None:
        """Take bytes of the client's."""
        if self.broken:
            return
        try:
            frames = self._decoder.feed(data)
        except RemoteProtocolError:
            self.broken = True
            for stream in tuple(self._streams.values()):
                stream.close()
            return
        self.heard = True
        for frame in frames:
            self._take_frame(frame)

    async def accept(self) -> ServerStream:
        """Return the next stream, in the order of the SYNs; cancelling is safe."""
        while not self._backlog:
            self._accepted.clear()
            await self._accepted.wait()
        stream = self._backlog.popleft()
        self._room.set()
        return stream

    async def write(self, stream: ServerStream, data: bytes) -> None:
        """Queue one PSH frame and wait until it is in the pipe."""
        if stream.closed:
            return
        frame = encode_frame(Command.PSH, stream.view.stream_id, data)
        priority = stream.frames_sent
        stream.frames_sent += 1
        if not self._heap and len(self._pipe) < PIPE_CAPACITY:
            self._pipe += frame
            self._piped.set()
            return
        written = asyncio.get_running_loop().create_future()
        self._push(priority, frame, written)
        await written

    def send_nop(self) -> None:
        """Queue a keepalive frame."""
        self._push(0, encode_frame(Command.NOP, 0), None)

    def forget(self, stream: ServerStream) -> None:
        """Send FIN for ``stream``; what still comes for it is ignored."""
        del self._streams[stream.view.stream_id]
        self._push(0, encode_frame(Command.FIN, stream.view.stream_id), None)

    def return_tokens(self, size: int) -> None:
        """Give ``size`` bytes back to the receive budget."""
        self._budget += size
        self._room.set()

    async def take(self, most: int) -> bytes:
        """Return between one and ``most`` bytes from the pipe; cancelling is safe."""
        while not self._pipe:
            self._piped.clear()
            await self._piped.wait()
            # The agent's reader wakes up no faster than this: a FIN that follows the
            # last data at once leaves with it.
            await give_way()
        data = bytes(self._pipe[:most])
        del self._pipe[:most]
        self._fill()
        return data

    def _take_frame(self, frame: Frame) -> None:
        target = self._streams.get(frame.stream_id)
        if target is None:
            # Anything but a SYN is for a stream that was forgotten: ignored.
            if frame.command is Command.SYN:
                self._open(frame.stream_id)
        elif frame.command is Command.PSH:
            self._budget -= len(frame.payload)
            target.feed(frame.payload)
        elif frame.command is Command.FIN:
            target.feed_eof()

    def _open(self, stream_id: int) -> None:
        stream = ServerStream(self, stream_id)
        self._streams[stream_id] = stream
        self._backlog.append(stream)
        self._accepted.set()

    def _push(
        self, priority: int, frame: bytes, written: asyncio.Future[None] | None
    ) -> None:
        heappush(self._heap, (priority, self._order, frame, written))
        self._order += 1
        self._fill()

    def _fill(self) -> None:
        while self._heap and len(self._pipe) < PIPE_CAPACITY:
            _, _, frame, written = heappop(self._heap)
            self._pipe += frame
            if written is not None and not written.done():
                written.set_result(None)
        if self._pipe:
            self._piped.set()
