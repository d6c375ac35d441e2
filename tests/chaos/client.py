"""Local clients: real TCP connections that check every byte, and how they ended."""

import asyncio
import hashlib
import socket
import struct
from dataclasses import dataclass
from enum import Enum

from tests.chaos.destination import down_key, header, up_key
from tests.chaos.pattern import DIGEST_SIZE, Checker, Corrupted, Pattern

_RESET = struct.pack("ii", 1, 0)


class Outcome(Enum):
    """The end of a connection, as its client saw it."""

    COMPLETE = "complete"
    """Everything arrived both ways, and nothing else."""
    LEFT = "left"
    """The client itself reset the connection, as was its plan."""
    RESET = "reset"
    TRUNCATED = "truncated"
    """An end of file, as if that was all: the worst of all answers."""
    CORRUPT = "corrupt"
    HUNG = "hung"
    """It was still waiting long after everything was well again."""
    UNREACHABLE = "unreachable"
    """Nobody listened."""


@dataclass(frozen=True)
class Errand:
    """A plan for one client."""

    number: int
    up: int = 0
    down: int = 0
    echo: bool = False
    """The destination returns what it gets, and each piece waits for the one before."""
    piece: int = 1 << 14
    rest: float = 0.0
    """Seconds between pieces: of what it sends, or, with ``slow_reader``, reads."""
    slow_reader: bool = False
    half_closes: bool = False
    """It says with an end of file that it has sent everything."""
    ends_first: bool = False
    """It leaves once it has everything, without waiting for the end of file."""
    leaves_after: int | None = None
    """It resets the connection once it has received so many bytes."""


@dataclass(eq=False)
class Result:
    """The result of an errand; times are the loop's."""

    errand: Errand
    began: float
    ended: float = 0.0
    outcome: Outcome = Outcome.HUNG
    local_port: int = 0
    sent: int = 0
    received: int = 0
    detail: str = ""
    session: str | None = None
    """The id of the session that carried it, if any did."""


async def rest(seconds):
    """Let ``seconds`` pass: a client's own slowness, not a wait for something."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    timer = loop.call_later(seconds, over.set)
    try:
        await over.wait()
    finally:
        timer.cancel()


class Client:
    """Runs one errand. Cancelling it leaves the result as ``HUNG``."""

    def __init__(self, errand):
        self.result = Result(errand, asyncio.get_running_loop().time())
        self._errand = errand
        self._progress = asyncio.Event()
        self._hash = hashlib.sha256()

    async def run(self, port):
        """Connect to the tunnel's ``port`` and go through with it."""
        result = self.result
        try:
            result.outcome = await self._connect(port)
        except Corrupted as error:
            result.outcome, result.detail = Outcome.CORRUPT, str(error)
        except (ConnectionResetError, BrokenPipeError) as error:
            result.outcome, result.detail = Outcome.RESET, repr(error)
        finally:
            result.ended = asyncio.get_running_loop().time()
        return result

    async def _connect(self, port):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return Outcome.UNREACHABLE
        self.result.local_port = writer.get_extra_info("sockname")[1]
        try:
            return await self._converse(reader, writer)
        finally:
            writer.transport.abort()

    async def _converse(self, reader, writer):
        async with asyncio.TaskGroup() as tasks:
            name = f"client {self._errand.number} sends"
            sender = tasks.create_task(self._send(writer), name=name)
            try:
                outcome = await self._receive(reader)
            except (Corrupted, OSError) as error:
                failure = error
            else:
                failure = None
            sender.cancel()
        if failure is not None:
            raise failure
        if outcome is Outcome.LEFT:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return outcome

    async def _send(self, writer):
        errand, result = self._errand, self.result
        pattern = Pattern(up_key(errand.number))
        writer.write(header(errand.number, errand.up, errand.down, echo=errand.echo))
        try:
            # To write to a closed transport is a RuntimeError with uvloop, no OSError.
            while result.sent < errand.up and not writer.is_closing():
                piece = pattern.take(min(errand.piece, errand.up - result.sent))
                self._hash.update(piece)
                writer.write(piece)
                await writer.drain()
                result.sent += len(piece)
                while errand.echo and result.received < result.sent:
                    self._progress.clear()
                    await self._progress.wait()
                if errand.rest and not errand.slow_reader:
                    await rest(errand.rest)
            if errand.half_closes and not writer.is_closing():
                writer.write_eof()
        except OSError:
            pass  # the receiver meets it too, and says what it means

    async def _receive(self, reader):
        """Return how it ended; raises OSError if that was a reset."""
        errand, result = self._errand, self.result
        key = up_key if errand.echo else down_key
        checker = Checker(key(errand.number))
        size = errand.up if errand.echo else errand.down
        trailer = b""
        while data := await reader.read(
            errand.piece if errand.slow_reader else 1 << 16
        ):
            body = data[: size - checker.count]
            checker.feed(body)
            trailer += data[len(body) :]
            result.received = checker.count
            self._progress.set()
            if errand.leaves_after is not None and checker.count >= errand.leaves_after:
                return Outcome.LEFT
            if errand.ends_first and len(trailer) >= DIGEST_SIZE:
                break
            if errand.slow_reader:
                await rest(errand.rest)
        if len(trailer) < DIGEST_SIZE:
            missing = size - checker.count + DIGEST_SIZE - len(trailer)
            result.detail = f"{missing} bytes are missing"
            return Outcome.TRUNCATED
        if trailer != self._hash.digest():
            raise Corrupted(f"{errand.number}: the destination received something else")
        return Outcome.COMPLETE
