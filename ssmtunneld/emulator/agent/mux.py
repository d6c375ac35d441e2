"""The agent's Port plugin in mux mode (protocol 6.5 to 6.8)."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from ssmtunneld.base.log import EventLog
from ssmtunneld.emulator.agent.port import (
    READ_SIZE,
    Destination,
    PluginFailed,
    PluginOutput,
    StreamView,
    ends_session,
    trickle,
)
from ssmtunneld.emulator.agent.smux import ServerStream, SmuxServer
from ssmtunneld.emulator.faults import FaultPlan
from ssmtunneld.emulator.lane import give_way
from ssmtunneld.emulator.settings import EmulatorSettings, Pace
from ssmtunneld.emulator.versions import AgentTraits
from ssmtunneld.protocol.message import (
    MAX_PAYLOAD,
    Flag,
    PayloadType,
    encode_flag,
)

_BATCH = 8 * MAX_PAYLOAD
"""Bytes taken from the pipe at once when the pace is none."""


class MuxPlugin:
    """Many streams over one session.

    Args:
        outlet: Where messages go.
        destination: What each stream is connected to.
        traits: What this agent's version does.
        keepalive: Whether smux's own keepalive is on.
        settings: Pace and keepalive times.
        plan: The faults in force.
        log: Where dials that fail are noted.
    """

    def __init__(
        self,
        outlet: PluginOutput,
        destination: Destination,
        traits: AgentTraits,
        *,
        keepalive: bool,
        settings: EmulatorSettings,
        plan: FaultPlan,
        log: EventLog,
    ) -> None:
        self._outlet = outlet
        self._destination = destination
        self._traits = traits
        self._keepalive = keepalive
        self._settings = settings
        self._plan = plan
        self._log = log
        self._smux = SmuxServer()
        self._over = asyncio.Event()
        self._failure = ""

    @property
    def blocked(self) -> bool:
        """True if smux has stopped reading, which blocks the websocket loop."""
        return self._smux.blocked

    async def room(self) -> None:
        """Wait until smux reads again; cancelling is safe."""
        await self._smux.room()

    def write(self, payload: bytes) -> bool:
        """Take smux bytes; always True.

        After a header that is not smux's nobody reads them, and nobody says so.
        """
        self._smux.feed(payload)
        return True

    def on_flag(self, flag: int) -> None:
        """End on TerminateSession; the others mean nothing in this mode."""
        if ends_session(flag, self._traits):
            self._over.set()

    @property
    def piped_bytes(self) -> int:
        """Bytes that wait between smux and the message loop."""
        return self._smux.piped_bytes

    def streams(self) -> Sequence[StreamView]:
        """Return the open streams."""
        return self._smux.streams()

    async def prepare(self) -> None:
        """Do nothing: smux is ready at once."""

    async def run(self) -> None:
        """Serve streams until TerminateSession; cancelling closes every destination.

        Raises:
            PluginFailed: smux ended by itself.
        """
        async with asyncio.TaskGroup() as tasks:
            workers = [
                tasks.create_task(self._send(), name="mux sender"),
                tasks.create_task(self._accept(), name="mux acceptor"),
            ]
            if self._keepalive:
                workers.append(tasks.create_task(self._keep_alive(), name="keepalive"))
            await self._over.wait()
            for worker in workers:
                worker.cancel()
        if self._failure:
            raise PluginFailed(self._failure)

    def _end(self, failure: str) -> None:
        self._failure = failure
        self._over.set()

    async def _send(self) -> None:
        if self._settings.pace is Pace.NONE:
            while True:
                await self._outlet.publishing()
                await self._outlet.send_output(await self._smux.take(_BATCH))
                await give_way()
        while True:
            await self._outlet.publishing()
            data = await self._smux.take(MAX_PAYLOAD)
            await self._outlet.send(PayloadType.OUTPUT, data)
            await self._outlet.rest()

    async def _accept(self) -> None:
        # Dialling is serial, as in the agent: one slow dial delays every later stream.
        async with asyncio.TaskGroup() as tasks:
            while True:
                stream = await self._smux.accept()
                try:
                    reader, writer = await self._destination.dial()
                except OSError as error:
                    self._log.info(
                        "emulator.dial_failed",
                        stream=stream.view.stream_id,
                        error=str(error),
                    )
                    await self._outlet.send(
                        PayloadType.FLAG, encode_flag(Flag.CONNECT_TO_PORT_ERROR)
                    )
                    stream.close()
                    continue
                tasks.create_task(
                    self._join(stream, reader, writer),
                    name=f"stream {stream.view.stream_id}",
                )

    async def _join(
        self,
        stream: ServerStream,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy_up(stream, reader, writer), name="up")
                await self._copy_down(stream, reader, writer)
            with suppress(OSError):
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _copy_up(
        self,
        stream: ServerStream,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with suppress(OSError):
            while data := await stream.read():
                writer.write(data)
                await trickle(self._plan, len(data))
                await writer.drain()
        # The client's end of file closes the destination in full (protocol 6.6): what
        # it would still have answered is lost.
        writer.close()
        reader.feed_eof()

    async def _copy_down(
        self,
        stream: ServerStream,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(READ_SIZE):
                if writer.is_closing():
                    break
                await stream.write(data)
        stream.close()

    async def _keep_alive(self) -> None:
        interval = self._settings.keepalive_interval
        timeout = self._settings.keepalive_timeout
        loop = asyncio.get_running_loop()
        check = loop.time() + timeout
        while True:
            await asyncio.sleep(interval)
            self._smux.send_nop()
            if loop.time() < check:
                continue
            check += timeout
            if not self._smux.heard and self._smux.has_budget:
                self._end("mux session timed out")
                return
            self._smux.heard = False
