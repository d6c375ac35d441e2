"""Standard input and output as one local connection: what ssh gives a ProxyCommand."""

import asyncio
import os
import select
import stat
import threading
from contextlib import suppress
from typing import Final

from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.threads import start
from ssmtunneld.errors import StreamReset
from ssmtunneld.listener.relay import ClientClose

PIECE: Final = 64 << 10
"""Bytes that are read at a time; a pipe holds as many."""
HEARD: Final = 16
"""First bytes that are kept: they tell what the client speaks."""
FIRST_LOOK: Final = 0.05
LAST_LOOK: Final = 2.0
"""Seconds between looks whether the reader of our output has left: first, and later."""


class Stdio:
    """A :class:`~ssmtunneld.duplex.Duplex` over two descriptors.

    Pipes and sockets are used as they are, without blocking. Whatever the loop cannot
    wait for (files, /dev/null) or must not change (a terminal, which the shell shares)
    is read and written by a thread.

    Args:
        source: Where to read; not closed before the end.
        sink: Where to write; likewise.

    Attributes:
        client_left: Completes when the reader of our output has left, once our input
            has ended; or when :meth:`leave` says so.
        heard: The first bytes that were read.
        told: Whether anything was written.
    """

    def __init__(self, source: int = 0, sink: int = 1) -> None:
        self._loop = asyncio.get_running_loop()
        self.client_left: asyncio.Future[ClientClose] = self._loop.create_future()
        self.heard = b""
        self.told = False
        self._pipes: list[int] = []
        self._writer: threading.Thread | None = None
        self._source = source if _can_wait_for(source) else self._read_aside(source)
        self._sink = sink if _can_wait_for(sink) else self._write_aside(sink)
        self._blocking = {fd: os.get_blocking(fd) for fd in (self._source, self._sink)}
        for fd in self._blocking:
            os.set_blocking(fd, False)
        self._unsent = b""
        self._lost: str | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._waits: set[asyncio.Future[None]] = set()

    def leave(self) -> None:
        """Say that whoever is on the other side has left; idempotent."""
        if not self.client_left.done():
            self.client_left.set_result(ClientClose.CLOSED)

    async def receive(self) -> bytes:
        """Return what has arrived, at least one byte; ``b""`` at the end of the input.

        Cancelling is safe.

        Raises:
            StreamReset: The input broke.
        """
        while True:
            self._check()
            try:
                data = os.read(self._source, PIECE)
            except BlockingIOError:
                await self._readable()
            except OSError as error:
                raise StreamReset(f"standard input: {error.strerror}") from None
            else:
                if not data:
                    self._look(FIRST_LOOK)
                self.heard = self.heard or data[:HEARD]
                return data

    async def send(self, data: bytes) -> None:
        """Write ``data``; return when all of it was taken.

        Cancelling is safe: what is left goes out with the next call, or at the end.

        Raises:
            StreamReset: Nobody reads our output any more.
        """
        self._unsent += data
        self.told = self.told or bool(data)
        await self._flush()

    async def send_eof(self) -> None:
        """Do nothing: the output ends with the process."""

    def abort(self) -> None:
        """End both directions; what was not taken yet is dropped. Idempotent."""
        self._unsent = b""
        self._lost = self._lost or "it was closed here"
        for wait in self._waits:
            if not wait.done():
                wait.set_result(None)
        self._release()

    async def aclose(self) -> None:
        """Let what was sent go out, then end; idempotent.

        Cancelling is safe; what is left is dropped.
        """
        with suppress(StreamReset):
            await self._flush()
        self.abort()
        if self._writer is not None:
            await asyncio.to_thread(self._writer.join)

    async def _flush(self) -> None:
        while self._unsent:
            self._check()
            try:
                taken = os.write(self._sink, self._unsent)
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                self._unsent = b""
                self._lost = f"standard output: {error.strerror}"
                self.leave()
            else:
                self._unsent = self._unsent[taken:]
        self._check()

    def _check(self) -> None:
        if self._lost is not None:
            raise StreamReset(self._lost)

    async def _readable(self) -> None:
        wait = self._begin_wait()
        self._loop.add_reader(self._source, _complete, wait)
        try:
            await wait
        finally:
            self._waits.discard(wait)
            self._loop.remove_reader(self._source)

    async def _writable(self) -> None:
        wait = self._begin_wait()
        self._loop.add_writer(self._sink, _complete, wait)
        try:
            await wait
        finally:
            self._waits.discard(wait)
            self._loop.remove_writer(self._sink)

    def _begin_wait(self) -> asyncio.Future[None]:
        wait: asyncio.Future[None] = self._loop.create_future()
        self._waits.add(wait)
        return wait

    def _look(self, delay: float) -> None:
        """Find out now and then whether anybody is left to read our output.

        A writer is told only when it writes, and the far side can have nothing to say.
        """
        if self._lost is not None or self.client_left.done():
            return
        poll = select.poll()
        poll.register(self._sink, 0)
        if poll.poll(0):
            self.leave()
            return
        self._watch = self._loop.call_later(
            delay, self._look, min(2 * delay, LAST_LOOK)
        )

    def _release(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for fd, blocking in self._blocking.items():
            # Somebody else may have closed it.
            with suppress(OSError):
                os.set_blocking(fd, blocking)
        self._blocking = {}
        while self._pipes:
            os.close(self._pipes.pop())

    def _read_aside(self, source: int) -> int:
        ours, theirs = os.pipe()
        self._pipes.append(ours)
        _start_copying(source, theirs, closes=theirs)
        return ours

    def _write_aside(self, sink: int) -> int:
        theirs, ours = os.pipe()
        self._pipes.append(ours)
        self._writer = _start_copying(theirs, sink, closes=theirs)
        return ours


def _can_wait_for(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _complete(wait: asyncio.Future[None]) -> None:
    if not wait.done():
        wait.set_result(None)


def _start_copying(source: int, sink: int, *, closes: int) -> threading.Thread:
    # A daemon: one that reads a terminal ends only with the process.
    thread = threading.Thread(target=_copy, args=(source, sink, closes), daemon=True)
    with on_error(os.close, closes):
        start(thread)
    return thread


def _copy(source: int, sink: int, closes: int) -> None:
    try:
        # The end of either side, or the other thread's closing of a pipe, ends it.
        with suppress(OSError):
            while data := os.read(source, PIECE):
                while data:
                    data = data[os.write(sink, data) :]
    finally:
        os.close(closes)
