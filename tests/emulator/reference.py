"""A small client of Session Manager, written for these tests alone.

It shares only the codecs with the package. It keeps everything that it saw, so that
tests can ask about single messages, and repeats what is not acknowledged every 50 ms.
"""

import asyncio
import json
import socket
import struct
import uuid
from collections import defaultdict
from contextlib import asynccontextmanager, suppress

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from ssmtunneld.base.aio import close_server
from ssmtunneld.base.secret import Secret
from ssmtunneld.protocol.message import (
    ACK_FLAGS,
    Message,
    MessageType,
    PayloadType,
    decode,
    decode_flag,
    encode,
    encode_flag,
)
from ssmtunneld.protocol.payloads import (
    HandshakeRequest,
    HandshakeResponse,
    OpenDataChannel,
    ProcessedAction,
    encode_acknowledgement,
    parse_acknowledgement,
)
from ssmtunneld.smux.frame import Command, FrameDecoder, encode_frame
from tests.support.turns import look_again

INSTANCE = "i-0123456789abcdef0"
FORWARDING = "AWS-StartPortForwardingSession"
TO_REMOTE_HOST = "AWS-StartPortForwardingSessionToRemoteHost"
SSH = "AWS-StartSSHSession"
CREATED_MS = 1_700_000_000_123


class ApiRefused(Exception):
    def __init__(self, status, body):
        super().__init__(status, body)
        self.status = status
        self.code = body["__type"]
        self.message = body["Message"]


async def call(endpoint_url, operation, **body):
    """Call the API without any SDK and return the answer, or raise ApiRefused."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{endpoint_url}/",
            data=json.dumps(body),
            headers={"X-Amz-Target": f"AmazonSSM.{operation}"},
        ) as response,
    ):
        answer = json.loads(await response.read())
        if response.status != 200:
            raise ApiRefused(response.status, answer)
        return answer


async def start(endpoint_url, port, document=FORWARDING, target=INSTANCE, **parameters):
    given = {"portNumber": [str(port)], **{k: [v] for k, v in parameters.items()}}
    return await call(
        endpoint_url,
        "StartSession",
        Target=target,
        DocumentName=document,
        Parameters=given,
    )


class Client:
    """One session's client; `on_link` runs it for as long as a websocket lasts."""

    def __init__(self, grant, *, version="1.2.764.0", acknowledges=True):
        self.grant = grant
        self.version = version
        self.acknowledges = acknowledges
        self.answers_handshake = True
        self.is_mux = True
        self.messages = []
        self.flags = []
        self.output = bytearray()
        self.frames = []
        self.streams = defaultdict(bytearray)
        self.finished = set()
        self.closed = None
        self.request = None
        self.ready = False
        self.expected = 0
        self.close_code = None
        self.close_reason = None
        self.unacknowledged = {}
        self.repeats = True
        self.reading = asyncio.Event()
        self.reading.set()
        self._early = {}
        self._next = 0
        self._decoder = FrameDecoder()
        self._changed = asyncio.Event()
        self._link = None

    @asynccontextmanager
    async def on_link(self, headers=None, url=None):
        """Be connected while the body runs."""
        async with connect(
            url or self.grant["StreamUrl"],
            compression=None,
            max_size=None,
            ping_interval=None,
            close_timeout=1,
            additional_headers=headers,
        ) as link:
            opener = OpenDataChannel(
                str(uuid.uuid4()), Secret(self.grant["TokenValue"]), "c", self.version
            )
            await link.send(opener.encode())
            self._link = link
            async with asyncio.TaskGroup() as tasks:
                workers = [
                    tasks.create_task(self._read(link)),
                    tasks.create_task(self._repeat()),
                ]
                try:
                    yield self
                finally:
                    for worker in workers:
                        worker.cancel()

    async def until(self, condition):
        """Wait until ``condition()`` holds; looked at whenever something arrives."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_ready(self):
        await self.until(lambda: self.ready)

    async def until_lost(self):
        await self.until(lambda: self.close_code is not None)

    async def resume(self, endpoint_url):
        session_id = self.grant["SessionId"]
        self.grant = await call(endpoint_url, "ResumeSession", SessionId=session_id)
        self.close_code = None

    @property
    def next_sequence(self):
        return self._next

    async def send(self, payload, payload_type=PayloadType.OUTPUT):
        """Send stream data and return its sequence number."""
        sequence = self._next
        self._next += 1
        data = self.encoded(sequence, payload, payload_type)
        self.unacknowledged[sequence] = data
        await self.send_raw(data)
        return sequence

    async def send_raw(self, data):
        with suppress(ConnectionClosed):
            await self._link.send(data)

    async def ping(self):
        """Return what becomes done when the pong arrives."""
        return await self._link.ping()

    async def send_flag(self, flag):
        return await self.send(encode_flag(flag), PayloadType.FLAG)

    async def send_frame(self, command, stream_id, payload=b""):
        return await self.send(encode_frame(command, stream_id, payload))

    async def open(self, stream_id, payload=b""):
        data = encode_frame(Command.SYN, stream_id)
        if payload:
            data += encode_frame(Command.PSH, stream_id, payload)
        return await self.send(data)

    async def upload(self, stream_id, payload):
        for offset in range(0, len(payload), 1016):
            await self.until(lambda: len(self.unacknowledged) < 256)
            piece = payload[offset : offset + 1016]
            await self.send_frame(Command.PSH, stream_id, piece)

    async def echoed(self, stream_id, payload):
        """Upload what comes back on a new stream, and return what came."""
        await self.open(stream_id)
        await self.upload(stream_id, payload)
        await self.until(lambda: len(self.streams[stream_id]) == len(payload))
        return bytes(self.streams[stream_id])

    @staticmethod
    def encoded(sequence, payload, payload_type=PayloadType.OUTPUT):
        message_id = uuid.uuid4().bytes
        kind = MessageType.INPUT.value
        return encode(
            Message(kind, sequence, message_id, CREATED_MS, payload, payload_type)
        )

    async def acknowledge(self, message):
        payload = encode_acknowledgement(
            message.message_type, message.message_id, message.sequence
        )
        kind = MessageType.ACKNOWLEDGE.value
        message_id = uuid.uuid4().bytes
        await self.send_raw(
            encode(Message(kind, 0, message_id, CREATED_MS, payload, 0, ACK_FLAGS))
        )

    async def _read(self, link):
        try:
            async for data in link:
                await self.reading.wait()
                await self._take(data)
                self._changed.set()
        except ConnectionClosed:
            pass
        finally:
            self.close_code = link.close_code
            self.close_reason = link.close_reason
            self._changed.set()

    async def _take(self, data):
        message = decode(data)
        self.messages.append(message)
        if message.message_type == MessageType.ACKNOWLEDGE:
            self.unacknowledged.pop(parse_acknowledgement(message.payload), None)
        elif message.message_type == MessageType.CHANNEL_CLOSED:
            self.closed = (data, json.loads(message.payload))
        elif message.message_type == MessageType.OUTPUT:
            if self.acknowledges:
                await self.acknowledge(message)
            if message.sequence >= self.expected:
                self._early[message.sequence] = message
            while (held := self._early.pop(self.expected, None)) is not None:
                self.expected += 1
                await self._deliver(held)

    async def _deliver(self, message):
        if message.payload_type == PayloadType.HANDSHAKE_REQUEST:
            self.request = HandshakeRequest.parse(message.payload)
            if self.answers_handshake:
                await self.answer_handshake()
        elif message.payload_type == PayloadType.HANDSHAKE_COMPLETE:
            self.ready = True
        elif message.payload_type == PayloadType.FLAG:
            self.flags.append(decode_flag(message.payload))
            self.frames.append("flag")
        elif message.payload_type == PayloadType.OUTPUT:
            self.output += message.payload
            self._deliver_frames(message.payload)

    async def answer_handshake(self, status=1, error=""):
        actions = tuple(
            ProcessedAction(action.action_type, status, None, error)
            for action in self.request.actions
        )
        response = HandshakeResponse(self.version, actions)
        await self.send(response.encode(), PayloadType.HANDSHAKE_RESPONSE)

    def _deliver_frames(self, payload):
        if not self.is_mux:
            return
        for frame in self._decoder.feed(payload):
            self.frames.append(frame)
            if frame.command is Command.PSH:
                self.streams[frame.stream_id] += frame.payload
            elif frame.command is Command.FIN:
                self.finished.add(frame.stream_id)

    async def _repeat(self):
        while True:
            waiting = set(self.unacknowledged)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await asyncio.Event().wait()
            if not self.repeats:
                continue
            for sequence in sorted(waiting & set(self.unacknowledged)):
                await self.send_raw(self.unacknowledged[sequence])


@asynccontextmanager
async def connected(
    endpoint_url, port, document=FORWARDING, version="1.2.764.0", is_mux=None, **more
):
    """Yield a client whose session is ready."""
    grant = await start(endpoint_url, port, document, **more)
    client = Client(grant, version=version)
    client.is_mux = document != SSH if is_mux is None else is_mux
    async with client.on_link():
        await client.until_ready()
        yield client


@asynccontextmanager
async def destination(serve, host="127.0.0.1"):
    """Yield the port of a server on loopback that runs ``serve(reader, writer)``."""
    writers = []

    async def guarded(reader, writer):
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(guarded, host, 0)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            await close_server(server)
            for writer in writers:
                writer.transport.abort()


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def die_or_live(reader, writer):
    """Reset the connection if told ``die``, else say ``alive``."""
    if await reader.read(100) == b"die":
        reset(writer)
    else:
        writer.write(b"alive")
        await reader.read()


def reset(writer):
    """End a TCP connection with a reset."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


async def eventually(condition):
    """Wait for something that the client cannot see arrive."""
    async with asyncio.timeout(20):
        while not condition():
            await look_again()
