"""The service behind the tunnel: says what it received, sends what it was asked for.

A conversation is a header, then bytes both ways at once, then the hash of what the
destination received, then the destination's end of file.
"""

import asyncio
import struct
from collections import Counter
from contextlib import asynccontextmanager

from ssmtunneld.base.aio import close_server
from tests.chaos.pattern import Checker, Corrupted, Pattern

HEADER = struct.Struct(">4sQII?")
MAGIC = b"SSMT"
PIECE = 1 << 15


def up_key(number):
    """Return the key of what the client of conversation ``number`` sends."""
    return f"{number} up"


def down_key(number):
    """Return the key of what it receives."""
    return f"{number} down"


def header(number, up, down, *, echo):
    """Return how conversation ``number`` begins."""
    return HEADER.pack(MAGIC, number, up, down, echo)


class Destination:
    """Serves conversations; notes what no client can see."""

    def __init__(self):
        self.port = 0
        self.served = Counter()
        """Connections by the number of their conversation: two would be a repeat."""
        self.received = 0
        """Bytes, all of them checked."""
        self.defects = []
        self.open = 0

    @asynccontextmanager
    async def listening(self):
        """Serve on a free loopback port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            await close_server(server)
            await server.wait_closed()

    async def _serve(self, reader, writer):
        self.open += 1
        try:
            await self._converse(reader, writer)
        except Corrupted as error:
            self.defects.append(f"at the destination: {error}")
        except (OSError, asyncio.IncompleteReadError):
            pass  # the agent has gone; its client knows whether it may have
        finally:
            self.open -= 1
            writer.close()

    async def _converse(self, reader, writer):
        start = await reader.readexactly(HEADER.size)
        magic, number, up, down, echo = HEADER.unpack(start)
        if magic != MAGIC:
            raise Corrupted(f"a conversation begins with {start!r}")
        self.served[number] += 1
        checker = Checker(up_key(number))
        gone = None
        try:
            async with asyncio.TaskGroup() as tasks:
                if not echo:
                    sending = self._send(writer, Pattern(down_key(number)), down)
                    tasks.create_task(sending, name=f"destination sends {number}")
                await self._receive(reader, checker, up, writer if echo else None)
        except* (OSError, asyncio.IncompleteReadError) as group:
            # Not raised here: before Python 3.11.4 it would be wrapped into a group.
            gone = group.exceptions[0]
        if gone is not None:
            raise gone
        writer.write(checker.digest())
        await writer.drain()

    async def _receive(self, reader, checker, size, echo_to):
        while checker.count < size:
            data = await reader.read(min(PIECE, size - checker.count))
            if not data:
                raise asyncio.IncompleteReadError(b"", size)
            checker.feed(data)
            self.received += len(data)
            if echo_to is not None:
                echo_to.write(data)
                await echo_to.drain()

    async def _send(self, writer, pattern, size):
        while size:
            data = pattern.take(min(PIECE, size))
            writer.write(data)
            await writer.drain()
            size -= len(data)
