"""Programs to compare the daemon with: the least that the same work can cost.

``relay`` joins two TCP sockets. ``minimal`` moves one smux stream for each connection
through a websocket of its own, with the websockets library used in the plain way;
``opened`` has one websocket, opened before, and a stream of it for each connection.
Run as ``python -m benchmarks.floors KIND PORT TARGET ENDPOINT``.
"""

import asyncio
import hashlib
import itertools
import json
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from ssmtunneld.base.secret import Secret
from ssmtunneld.daemon.process import loop_factory
from ssmtunneld.protocol.handshake import answer
from ssmtunneld.protocol.message import (
    Message,
    MessageType,
    PayloadType,
    decode,
    encode,
)
from ssmtunneld.protocol.payloads import (
    HandshakeRequest,
    OpenDataChannel,
    encode_acknowledgement,
    parse_acknowledgement,
)
from ssmtunneld.smux.frame import Command, Frame, FrameDecoder, encode_frame

STREAM = 3
WINDOW = 1000
"""Messages in flight: as many as the daemon allows itself, about."""


async def relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int
) -> None:
    """Join a connection to the destination."""
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_pump(reader, far_writer))
        tasks.create_task(_pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class Minimal:
    """One data channel, one stream, no provision for anything that goes wrong."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._sequence = 0
        self._expected = 0
        self._in_flight = 0
        self._room = asyncio.Event()
        self._decoder = FrameDecoder()

    @classmethod
    async def open(cls, endpoint: str, target: int) -> "Minimal":
        """Start a session at the emulator and shake hands."""
        grant = await asyncio.to_thread(start_session, endpoint, target)
        websocket = await connect(
            grant["StreamUrl"], compression=None, ping_interval=None, max_queue=None
        )
        channel = cls(websocket)
        opening = OpenDataChannel(
            "benchmark-request", Secret(grant["TokenValue"]), "client", "1.2.835.0"
        )
        await websocket.send(opening.encode())
        done = False
        while not done:
            message = decode(await _receive(websocket))
            if message.message_type != MessageType.OUTPUT:
                continue
            await channel.acknowledge(message)
            if message.payload_type == PayloadType.HANDSHAKE_REQUEST:
                response = answer(HandshakeRequest.parse(message.payload)).response
                await channel.send(response.encode(), PayloadType.HANDSHAKE_RESPONSE)
            done = message.payload_type == PayloadType.HANDSHAKE_COMPLETE
        return channel

    async def acknowledge(self, message: Message) -> bool:
        """Acknowledge one message; say whether it is new, and not a repeat."""
        payload = encode_acknowledgement(
            message.message_type, message.message_id, message.sequence
        )
        await self._websocket.send(self._encode(MessageType.ACKNOWLEDGE, 0, payload, 0))
        new = message.sequence == self._expected
        self._expected += new
        return new

    async def send(self, payload: bytes, kind: PayloadType) -> None:
        """Send one message when there is room in the window."""
        while self._in_flight >= WINDOW:
            self._room.clear()
            await self._room.wait()
        data = self._encode(MessageType.INPUT, self._sequence, payload, kind)
        self._sequence += 1
        self._in_flight += 1
        await self._websocket.send(data)

    @staticmethod
    def _encode(kind: str, sequence: int, payload: bytes, payload_type: int) -> bytes:
        now = time.time_ns() // 1_000_000
        return encode(
            Message(kind, sequence, os.urandom(16), now, payload, payload_type)
        )

    async def upload(self, reader: asyncio.StreamReader) -> None:
        """Send what the client sends, in frames that fill a message."""
        await self.send(encode_frame(Command.SYN, STREAM), PayloadType.OUTPUT)
        while data := await reader.read(1016):
            frame = encode_frame(Command.PSH, STREAM, data)
            await self.send(frame, PayloadType.OUTPUT)

    async def download(self, writer: asyncio.StreamWriter) -> None:
        """Write out what arrives, acknowledging every message."""
        async for raw in self._websocket:
            for frame in await self._take(raw):
                if frame.command is Command.FIN:
                    return
                writer.write(frame.payload)
            await writer.drain()

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield the frames that arrive, acknowledging every message."""
        async for raw in self._websocket:
            for frame in await self._take(raw):
                yield frame

    async def _take(self, raw: bytes | str) -> list[Frame]:
        assert isinstance(raw, bytes)
        message = decode(raw)
        if message.message_type == MessageType.ACKNOWLEDGE:
            parse_acknowledgement(message.payload)
            self._in_flight -= 1
            self._room.set()
            return []
        if message.message_type != MessageType.OUTPUT:
            return []
        if not await self.acknowledge(message):
            return []
        return self._decoder.feed(message.payload)

    async def exchange(self, stream_id: int, data: bytes) -> bytes:
        """Open a stream, send ``data``, return what comes back first."""
        frames = encode_frame(Command.SYN, stream_id)
        frames += encode_frame(Command.PSH, stream_id, data)
        await self.send(frames, PayloadType.OUTPUT)
        while True:
            for frame in await self._take(await self._websocket.recv()):
                if frame.command is Command.PSH and frame.stream_id == stream_id:
                    fin = encode_frame(Command.FIN, stream_id)
                    await self.send(fin, PayloadType.OUTPUT)
                    return frame.payload

    async def close(self) -> None:
        """Close the websocket."""
        await self._websocket.close()


async def _receive(websocket: ClientConnection) -> bytes:
    data = await websocket.recv()
    assert isinstance(data, bytes)
    return data


def start_session(endpoint: str, target: int) -> dict[str, Any]:
    """Call StartSession of the emulator, which asks for no signature."""
    request = urllib.request.Request(
        endpoint,
        json.dumps(
            {
                "Target": "i-0123456789abcdef0",
                "DocumentName": "AWS-StartPortForwardingSession",
                "Parameters": {"portNumber": [str(target)], "localPortNumber": ["0"]},
            }
        ).encode(),
        {
            "X-Amz-Target": "AmazonSSM.StartSession",
            "Content-Type": "application/x-amz-json-1.1",
        },
    )
    with urllib.request.urlopen(request) as response:
        grant: dict[str, Any] = json.load(response)
    return grant


async def minimal(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    endpoint: str,
    target: int,
) -> None:
    """Carry one connection over a channel of its own."""
    channel = await Minimal.open(endpoint, target)
    try:
        async with asyncio.TaskGroup() as tasks:
            uploading = tasks.create_task(channel.upload(reader))
            downloading = tasks.create_task(channel.download(writer))
            await asyncio.wait({uploading, downloading}, return_when="FIRST_COMPLETED")
            uploading.cancel()
            downloading.cancel()
    finally:
        writer.close()
        await channel.close()


class Opened:
    """A channel that is open already, and a stream of it for each connection."""

    def __init__(self, channel: Minimal) -> None:
        self._channel = channel
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._streams = itertools.count(STREAM, 2)

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send what a connection sends; its first bytes go with the opening."""
        stream_id = next(self._streams)
        self._writers[stream_id] = writer
        frames = encode_frame(Command.SYN, stream_id)
        while data := await reader.read(1008):
            frames += encode_frame(Command.PSH, stream_id, data)
            await self._channel.send(frames, PayloadType.OUTPUT)
            frames = b""
        await self._channel.send(
            frames + encode_frame(Command.FIN, stream_id), PayloadType.OUTPUT
        )

    async def deliver(self) -> None:
        """Write what arrives to the connections, until cancelled."""
        async for frame in self._channel.frames():
            writer = self._writers.get(frame.stream_id)
            if writer and frame.command is Command.PSH:
                writer.write(frame.payload)
            elif writer and frame.command is Command.FIN:
                del self._writers[frame.stream_id]
                writer.close()


async def main() -> None:
    """Serve until killed."""
    kind, port, target, endpoint = sys.argv[1:5]
    async with asyncio.TaskGroup() as tasks:
        opened = None
        if kind == "opened":
            opened = Opened(await Minimal.open(endpoint, int(target)))
            tasks.create_task(opened.deliver())
        await _listen(kind, int(port), int(target), endpoint, opened)


async def _listen(
    kind: str, port: int, target: int, endpoint: str, opened: Opened | None
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if opened:
            await opened.carry(reader, writer)
        elif kind == "relay":
            await relay(reader, writer, target)
        else:
            await minimal(reader, writer, endpoint, target)

    server = await asyncio.start_server(
        serve, "127.0.0.1", port, backlog=1024, limit=1 << 16
    )
    # hashlib's first use loads OpenSSL; that is no part of a message's cost.
    hashlib.sha256(b"").digest()
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            runner.run(main())
        except KeyboardInterrupt:
            sys.exit(0)
