"""A hostile service on real sockets: an API that grants sessions, and what they get.

It is written with bare sockets, because no library would send what it sends, and has a
thread of its own, lest a flood hold up who measures its effect.
"""

import asyncio
import contextlib
import json
import threading
from collections import Counter
from itertools import count

from ssmtunneld.base.aio import close_server
from tests.support.hostile import (
    CANARY,
    FAR_DEEDS,
    HANG_UP,
    NEAR_DEEDS,
    READ_AGAIN,
    STOP_READING,
    Far,
)

LONG = 250.0
"""Seconds until a test gives up."""
PATIENCE = 0.5
"""Seconds for which the client may still say something when all has been said."""
STUCK = 2.0
"""Seconds for which the client may not read."""


class HostileService:
    """Serves on a free port of this machine.

    Args:
        converse: Called for each data channel with the number in its target's id, how
            many there were before, its reader and writer, and the key of its upgrade;
            the connection is cut when it returns.
    """

    def __init__(self, converse):
        self._converse = converse
        self._numbers = count()
        self._changed = threading.Condition()
        self._listening = threading.Event()
        self._present = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._begun = count()
        self.over = Counter()
        """Data channels that have ended, by the number in their target's id."""

    def __enter__(self):
        self._thread.start()
        assert self._listening.wait(LONG)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self):
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._stream_url = f"ws://127.0.0.1:{port}/v1/data-channel"
        self._listening.set()
        await self._stop.wait()
        await close_server(server)
        for task in self._present:
            task.cancel()
        await asyncio.gather(*self._present, return_exceptions=True)

    async def ended(self, number, *targets):
        """Wait until so many data channels have ended, of each target that is named."""

        def enough():
            if targets:
                return all(self.over[target] >= number for target in targets)
            return self.over.total() >= number

        assert await asyncio.to_thread(self._await, enough), self.over

    def _await(self, condition):
        with self._changed:
            return self._changed.wait_for(condition, LONG)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._present.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._present.discard(task)
            writer.transport.abort()

    async def _answer(self, reader, writer):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {
                name.lower(): value.strip()
                for name, _, value in (
                    line.partition(":") for line in head.split("\r\n")[1:]
                )
            }
            if head.startswith("GET "):
                target = int(head.partition("/me")[2].partition("-")[0])
                key = headers["sec-websocket-key"]
                await self._talk(target, reader, writer, key)
                return
            body = await reader.readexactly(int(headers["content-length"]))
            operation = headers["x-amz-target"].rpartition(".")[2]
            answer = json.dumps(self._call(operation, json.loads(body))).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\n"
                b"Content-Length: %d\r\n\r\n" % len(answer) + answer
            )
            await writer.drain()

    def _call(self, operation, body):
        if operation in ("StartSession", "ResumeSession"):
            session_id = body.get("SessionId")
            if session_id is None:
                target = int(body["Target"].removeprefix("i-"), 16)
                session_id = f"me{target}-{next(self._numbers):017x}"
            url = f"{self._stream_url}/{session_id}?role=publish_subscribe"
            return {"SessionId": session_id, "TokenValue": CANARY, "StreamUrl": url}
        return {"Sessions": []} if operation == "DescribeSessions" else {}

    async def _talk(self, target, reader, writer, key):
        try:
            await self._converse(target, next(self._begun), reader, writer, key)
        finally:
            with self._changed:
                self.over[target] += 1
                self._changed.notify_all()


async def play(conversation, reader, writer, key):
    """Say what the steps of a conversation want, then wait a little for the end."""
    far = Far(lambda: key)
    listens = True
    for kind, number in conversation:
        if kind == HANG_UP:
            return
        if kind in (STOP_READING, READ_AGAIN):
            listens = kind == READ_AGAIN
        elif kind not in (*FAR_DEEDS, *NEAR_DEEDS):
            await _say(writer, far.say(kind, number))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            if not listens:
                await asyncio.Event().wait()
            await hung_up(reader)


async def _say(writer, data):
    writer.write(data)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STUCK):
            await writer.drain()


async def repeat(writer, piece):
    """Send ``piece`` until the client has gone."""
    while True:
        writer.write(piece)
        await writer.drain()


async def hung_up(reader):
    """Read until the client has gone."""
    while await reader.read(65536):
        pass
