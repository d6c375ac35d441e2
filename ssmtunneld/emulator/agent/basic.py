"""The agent's Port plugin in basic mode: one connection at a time (protocol 6.4)."""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from ssmtunneld.emulator.agent.port import (
    READ_SIZE,
    Destination,
    PluginFailed,
    PluginOutput,
    StreamView,
    ends_session,
    trickle,
)
from ssmtunneld.emulator.faults import FaultPlan
from ssmtunneld.emulator.settings import Pace
from ssmtunneld.emulator.versions import AgentTraits
from ssmtunneld.protocol.message import MAX_PAYLOAD, Flag

_BACKLOG: Final = 64
"""Messages, 64 KiB, that are taken before the destination has taken them: the socket
buffer that the agent's blocking write fills."""

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class BasicPlugin:
    """The whole session is one connection.

    Args:
        outlet: Where messages go.
        destination: What is dialled at the start, and again for `redials`.
        traits: What this agent's version does.
        redials: Whether the end of the destination is survived: true of the type
            LocalPortForwarding, false of the SSH document.
        pace: How fast the agent sends.
        plan: The faults in force.
    """

    def __init__(
        self,
        outlet: PluginOutput,
        destination: Destination,
        traits: AgentTraits,
        *,
        redials: bool,
        pace: Pace,
        plan: FaultPlan,
    ) -> None:
        self._outlet = outlet
        self._destination = destination
        self._traits = traits
        self._redials = redials
        self._pace = pace
        self._plan = plan
        self._view = StreamView(0)
        self._queue: deque[bytes | Flag] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._over = asyncio.Event()
        self._terminated = False
        self._connection: _Connection | None = None
        self._failure = ""

    @property
    def blocked(self) -> bool:
        """True if the destination is so far behind that writes block."""
        return len(self._queue) >= _BACKLOG

    async def room(self) -> None:
        """Wait until it has caught up; cancelling is safe."""
        while self.blocked:
            self._room.clear()
            await self._room.wait()

    def write(self, payload: bytes) -> bool:
        """Take bytes for the destination; they redial it when it has ended."""
        self._put(payload)
        return True

    def on_flag(self, flag: int) -> None:
        """Hang up on DisconnectToPort, end on TerminateSession.

        What came before the flag is written first.
        """
        if ends_session(flag, self._traits):
            self._put(Flag.TERMINATE_SESSION)
        elif flag == Flag.DISCONNECT_TO_PORT and self._traits.knows_disconnect:
            self._put(Flag.DISCONNECT_TO_PORT)

    def streams(self) -> Sequence[StreamView]:
        """Return the connection, while there is one."""
        return [self._view] if self._connection is not None else []

    async def prepare(self) -> None:
        """Dial for the first time.

        Raises:
            PluginFailed: The destination cannot be dialled.
        """
        try:
            self._connection = await self._dial()
        except OSError as error:
            raise PluginFailed(self._last_words(error)) from None

    def _last_words(self, error: OSError) -> str:
        if self._redials:
            return str(error)
        # Without a type the agent goes on with a connection that it does not have.
        return "" if self._traits.panics_when_refused else str(error.__cause__)

    async def run(self) -> None:
        """Serve connections until the session ends; cancelling closes the last.

        Raises:
            PluginFailed: The destination cannot be dialled, or broke for the SSH type.
        """
        async with asyncio.TaskGroup() as tasks:
            worker = tasks.create_task(self._serve(), name="basic port")
            await self._over.wait()
            worker.cancel()
        if self._failure:
            raise PluginFailed(self._failure)

    def _put(self, item: bytes | Flag) -> None:
        if isinstance(item, Flag) and self._queue and self._queue[-1] is item:
            return  # flags do not wait for room, so they must not pile up
        self._queue.append(item)
        self._arrived.set()

    async def _serve(self) -> None:
        try:
            await self._serve_once()
            # What the local client still sends starts the next connection.
            while self._redials and await self._has_data():
                self._connection = await self._dial()
                await self._serve_once()
        except OSError as error:
            self._failure = str(error)
        self._over.set()

    async def _dial(self) -> _Connection:
        try:
            return await self._destination.dial()
        except ConnectionRefusedError:
            # In Go's words.
            where = f"127.0.0.1:{self._destination.port}"
            error = OSError(f"dial tcp {where}: connect: connection refused")
            raise OSError(f"Unable to connect to specified port: {error}") from error
        except OSError as error:
            raise OSError(f"Unable to connect to specified port: {error}") from error

    async def _serve_once(self) -> None:
        assert self._connection is not None, "run() before prepare()"
        reader, writer = self._connection
        try:
            await self._join(reader, writer)
        except OSError:
            if not self._redials:
                raise
        finally:
            self._connection = None
            writer.transport.abort()

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with asyncio.TaskGroup() as tasks:
            up = tasks.create_task(_ending(self._copy_up(writer)), name="up")
            down = tasks.create_task(_ending(self._copy_down(reader)), name="down")
            done, rest = await asyncio.wait(
                (up, down), return_when=asyncio.FIRST_COMPLETED
            )
            for worker in rest:
                worker.cancel()
        for worker in done:
            if (error := worker.result()) is not None:
                raise error

    async def _copy_up(self, writer: asyncio.StreamWriter) -> None:
        while True:
            item = await self._front()
            self._queue.popleft()
            self._room.set()
            if isinstance(item, Flag):
                self._terminated = item is Flag.TERMINATE_SESSION
                return
            writer.write(item)
            self._view.bytes_up += len(item)
            await trickle(self._plan, len(item))
            await writer.drain()

    async def _has_data(self) -> bool:
        """Wait for bytes to write; False when the session is terminated instead."""
        while not self._terminated:
            item = await self._front()
            if not isinstance(item, Flag):
                return True
            self._queue.popleft()
            self._terminated = item is Flag.TERMINATE_SESSION
        return False

    async def _front(self) -> bytes | Flag:
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue[0]

    async def _copy_down(self, reader: asyncio.StreamReader) -> None:
        paced = self._pace is Pace.REAL
        size = MAX_PAYLOAD if paced else READ_SIZE
        while True:
            await self._outlet.publishing()
            data = await reader.read(size)
            if not data:
                return
            self._view.bytes_down += len(data)
            await self._outlet.send_output(data)
            if paced:
                await self._outlet.rest()


async def _ending(work: Coroutine[Any, Any, None]) -> OSError | None:
    """Return the error that ended ``work``, if one did."""
    try:
        await work
    except OSError as error:
        return error
    return None
