"""Very many clients of one port, in a process of their own.

``python -m tests.integration.crowd PORT COUNT`` connects COUNT times at once. Each
client says something, and keeps its connection after the answer until the whole crowd
is told to go. Standard input: ``?`` asks for the counts, as one line of JSON; ``go``
lets go, and the end of the input ends it.
"""

import asyncio
import json
import resource
import socket
import sys

WORDS = b"is it my turn?"


class Crowd:
    """The clients, and how far they have come."""

    def __init__(self, port, count):
        self._address = ("127.0.0.1", port)
        self.counts = {"clients": count, "connected": 0, "answered": 0, "failed": 0}
        self._may_go = asyncio.Event()

    async def run(self):
        """Send everybody, and do as we are told until there is no more input."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        async with asyncio.TaskGroup() as tasks:
            clients = [
                tasks.create_task(self._queue()) for _ in range(self.counts["clients"])
            ]
            await self._obey(reader)
            for client in clients:
                client.cancel()
        pipe.close()

    async def _queue(self):
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, self._address)
                self.counts["connected"] += 1
                await loop.sock_sendall(sock, WORDS)
                heard = b""
                while len(heard) < len(WORDS) and (
                    more := await loop.sock_recv(sock, 100)
                ):
                    heard += more
                self.counts["answered" if heard == WORDS else "failed"] += 1
            except OSError:
                self.counts["failed"] += 1
            await self._may_go.wait()

    async def _obey(self, reader):
        while line := (await reader.readline()).strip():
            if line == b"go":
                self._may_go.set()
            sys.stdout.write(json.dumps(self.counts) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(Crowd(int(sys.argv[1]), int(sys.argv[2])).run())
