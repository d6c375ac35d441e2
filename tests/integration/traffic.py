"""Connections that move data without a pause, and notice what is not theirs."""

import asyncio
import hashlib
from contextlib import asynccontextmanager

PIECE = 4096
PATIENCE = 60.0
"""Seconds until a test gives up waiting for what never comes."""


class Talker:
    """Talks to an echo through a tunnel until told to stop."""

    def __init__(self, port, number, *, until_reset=False):
        self.rounds = 0
        self.reset = asyncio.Event()
        self._until_reset = until_reset
        self.moved = asyncio.Event()
        self._port = port
        self._seed = str(number).encode()
        self._over = asyncio.Event()

    def stop(self):
        """Finish the round and close."""
        self._over.set()

    async def run(self):
        """Talk; every error and every wrong byte is raised.

        An end that is no reset is an error even where a reset is none.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while not self._over.is_set():
                piece = self._piece()
                writer.write(piece)
                async with asyncio.timeout(PATIENCE):
                    answer = await reader.readexactly(PIECE)
                assert answer == piece, f"bytes of another round in {self.rounds}"
                self.rounds += 1
                self.moved.set()
        except ConnectionResetError:
            if not self._until_reset:
                raise
            self.reset.set()
        finally:
            writer.transport.abort()

    def _piece(self):
        digest = hashlib.sha256(self._seed + self.rounds.to_bytes(8)).digest()
        return digest * (PIECE // len(digest))

    async def go_on(self, rounds=2):
        """Return when it has moved data so many times from now on."""
        wanted = self.rounds + rounds
        async with asyncio.timeout(PATIENCE):
            while self.rounds < wanted:
                self.moved.clear()
                await self.moved.wait()


@asynccontextmanager
async def talking(ports, each, **settings):
    """Keep ``each`` connections to every one of ``ports`` busy, to the block's end."""
    talkers = [
        Talker(port, number, **settings)
        for number, port in enumerate(list(ports) * each)
    ]
    async with asyncio.TaskGroup() as tasks:
        for number, talker in enumerate(talkers):
            tasks.create_task(talker.run(), name=f"talker {number}")
        try:
            await all_go_on(talkers)
            yield talkers
        finally:
            for talker in talkers:
                talker.stop()


async def all_go_on(talkers):
    """Return when every one of ``talkers`` has moved data from now on."""
    async with asyncio.TaskGroup() as tasks:
        for number, talker in enumerate(talkers):
            tasks.create_task(talker.go_on(), name=f"waiter {number}")
