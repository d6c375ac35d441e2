"""One session of the emulated service, from StartSession to its end."""

import asyncio
import base64
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Final, Protocol

from ssmtunneld.base.log import EventLog
from ssmtunneld.base.secret import Secret
from ssmtunneld.emulator.agent.agent import Agent
from ssmtunneld.emulator.agent.pacing import Pacer
from ssmtunneld.emulator.agent.reliability import message_ids
from ssmtunneld.emulator.agent.replay import ReplayAgent
from ssmtunneld.emulator.faults import Action, Direction, FaultPlan
from ssmtunneld.emulator.lane import Lane
from ssmtunneld.emulator.recording import RecordedSession, SessionRecorder
from ssmtunneld.emulator.settings import EmulatorSettings
from ssmtunneld.protocol.message import (
    Message,
    MessageType,
    encode_short,
)
from ssmtunneld.protocol.payloads import ClosedDocument

if TYPE_CHECKING:
    from datetime import datetime

_INPUT: Final = MessageType.INPUT.value.encode()
_TYPE: Final = slice(4, 4 + len(_INPUT))
_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class Status(StrEnum):
    """The words of DescribeSessions."""

    CONNECTING = "Connecting"
    CONNECTED = "Connected"
    DISCONNECTED = "Disconnected"
    TERMINATED = "Terminated"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class StartRequest:
    """Validated parameters of StartSession."""

    target: str
    document: str
    properties: Mapping[str, str]
    reason: str = ""
    owner: str = ""
    """The caller's ARN; empty for the emulator's own ``owner``."""
    caller: str = ""
    """Prefix of the id; empty for the emulator's own ``caller``."""


class Link(Protocol):
    """A client's websocket."""

    def bye(self, reason: str) -> None:
        """Close it with code 1000 and ``reason``."""
        ...

    def cut(self) -> None:
        """Reset the TCP connection under it."""
        ...


def reset(transport: asyncio.Transport) -> None:
    """Reset a TCP connection; what was not sent yet is lost."""
    # Zero linger makes the kernel send a reset instead of an orderly end. uvloop's
    # socket of a transport that is closed raises ValueError.
    with suppress(OSError, ValueError):
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    transport.abort()


class Session:
    """A session: its token, its agent, its client's websocket and its clocks.

    Args:
        request: What was asked for.
        settings: Timers, versions, pace.
        plan: The faults in force.
        random: Where ids, tokens and the lanes' chance come from.
        log: Where its life is noted.
        pacer: Wakes the agent when it rests.
        script: A recorded session that is played in the agent's place.
    """

    def __init__(
        self,
        request: StartRequest,
        settings: EmulatorSettings,
        plan: FaultPlan,
        *,
        random: Random,
        log: EventLog,
        pacer: Pacer,
        script: RecordedSession | None = None,
    ) -> None:
        # Nobody's unless a seed was asked for: official clients make a socket of this
        # name in /tmp, and one that was killed leaves it there for the next emulator.
        source = random if plan.seed else SystemRandom()
        tail = "".join(source.choices(_BASE36, k=26))
        self.id = f"{request.caller or settings.caller}-{tail}"
        self.request = request
        self.started: datetime = settings.wall_clock()
        self.ended: datetime | None = None
        self.status = Status.CONNECTING
        self.output = ""
        """Output that the client got at the end."""
        self.websockets = 0
        """Number of websockets that the client has opened so far."""
        self._random = random
        self._settings = settings
        self._plan = plan
        self._log = log.bind(session=self.id)
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._newcomers: set[asyncio.Transport] = set()
        self._last_input = self._loop.time()
        self._ending: asyncio.Future[None] = self._loop.create_future()
        seeds = (Random(random.randbytes(16)) for _ in range(2))  # noqa: S311 - chance is wanted, secrecy is not
        self.up = Lane(Direction.UP, plan, next(seeds), settings.lane_capacity)
        self.down = Lane(Direction.DOWN, plan, next(seeds), settings.lane_capacity)
        self.down.detach_receiver()
        self.recorder: SessionRecorder | None = None
        """Writes what passes between the client and the service."""
        make = Agent if script is None else partial(ReplayAgent, script)
        self.agent = make(
            request.properties,
            settings,
            plan,
            up=self.up,
            down=self.down,
            random=random,
            log=self._log,
            pacer=pacer,
        )
        self._ids = message_ids(random)
        self.rotate()
        self.first_cell_number = self.cell_number
        """Kept by official clients before 1.2.835.0 (protocol 1.6)."""

    def rotate(self) -> None:
        """Make a new token and cell number; the old ones are stale from now on."""
        self.token = Secret(base64.b64encode(self._random.randbytes(96)).decode())
        # The first three bytes are +/+/ and the length leaves ==, so that a client
        # which re-encodes its URL is found out (protocol 1.6).
        cell = b"\xfb\xff\xbf" + self._random.randbytes(13)
        self.cell_number = base64.b64encode(cell).decode()
        self._last_input = self._loop.time()

    @property
    def over(self) -> bool:
        """True if the session has ended or is ending."""
        return self._ending.done()

    @property
    def attached(self) -> bool:
        """True if a client's websocket is open."""
        return self._link is not None

    async def run(self) -> None:
        """Live until the agent ends, a timer runs out, or `end` is called."""
        async with asyncio.TaskGroup() as tasks:
            workers = [
                tasks.create_task(self._run_agent(), name="agent"),
                tasks.create_task(self._watch_idleness(), name="idle timer"),
                tasks.create_task(self._watch_age(), name="age timer"),
                tasks.create_task(self._do_on_ready(), name="actions on ready"),
            ]
            await self._ending
            for worker in workers:
                worker.cancel()
        # The session stays in the history; its buffers must not.
        self.agent.reliability.release()

    def end(self, output: str = "") -> None:
        """End the session and tell the client ``output``; idempotent."""
        if not self._ending.done():
            self._ending.set_result(None)
            self.output = output
            self._close()

    @contextmanager
    def greeting(self, transport: asyncio.Transport) -> Iterator[None]:
        """Know of a websocket that has not sent its first message: it can be cut too.

        A client takes itself for connected as soon as its upgrade is answered.
        """
        self._newcomers.add(transport)
        try:
            yield
        finally:
            self._newcomers.discard(transport)

    def attach(self, link: Link) -> None:
        """Take a client's websocket; one that is open already is closed."""
        if self._link is not None:
            self._link.bye("replaced by another connection")
        self._link = link
        self.websockets += 1
        self.status = Status.CONNECTED
        self.down.attach_receiver()
        self._log.info("emulator.client_attached", websockets=self.websockets)

    def detach(self, link: Link) -> None:
        """Note that a client's websocket is gone."""
        if self._link is not link:
            return
        self._link = None
        self.down.detach_receiver()
        if not self.over:
            self.status = Status.DISCONNECTED
        self._log.info("emulator.client_detached")

    def note_input(self, data: bytes) -> None:
        """Look at a message of the client's: stream data resets the idle timer."""
        if data[_TYPE] == _INPUT:
            self._last_input = self._loop.time()

    def do(self, action: Action, direction: Direction | None = None) -> None:
        """Carry out ``action`` now; without effect once the session is over."""
        if self.over:
            return
        match action:
            case Action.PAUSE | Action.START:
                self._publish(action, direction)
            case Action.AGENT_RECONNECT:
                self.agent.lose_websocket()
            case Action.AGENT_RESTART:
                self.end("The agent was restarted.")
            case Action.CLOSE:
                self.end()
            case Action.CUT:
                self._cut()
            case Action.BYE if self._link is not None:
                self._link.bye("Bye")
            case _:
                pass  # there is no websocket to close

    def _cut(self) -> None:
        for transport in self._newcomers:
            reset(transport)
        if self._link is not None:
            self._link.cut()

    def _publish(self, action: Action, direction: Direction | None) -> None:
        if direction is not Direction.UP:
            kind = (
                MessageType.PAUSE_PUBLICATION
                if action is Action.PAUSE
                else MessageType.START_PUBLICATION
            )
            now = self._settings.wall_clock()
            self.down.insert(self._service_message(kind, b"", now))
        if direction is not Direction.DOWN:
            if action is Action.PAUSE:
                self.agent.pause()
            else:
                self.agent.resume()

    def _service_message(
        self, kind: MessageType, payload: bytes, now: "datetime"
    ) -> bytes:
        created_ms = int(now.timestamp() * 1000)
        return encode_short(Message(kind, 0, next(self._ids), created_ms, payload))

    async def _run_agent(self) -> None:
        self.end(await self.agent.run())

    async def _watch_idleness(self) -> None:
        while True:
            deadline = self._last_input + self._settings.idle_timeout
            left = deadline - self._loop.time()
            if left <= 0:
                break
            await asyncio.sleep(left)
        self.end("The session timed out: there was no input from the client.")

    async def _watch_age(self) -> None:
        if self._settings.max_duration is not None:
            await asyncio.sleep(self._settings.max_duration)
            self.end("The session reached its maximum duration.")

    async def _do_on_ready(self) -> None:
        await self.agent.ready.wait()
        for action, direction in self._plan.knobs.on_ready:
            self.do(action, direction)

    def _close(self) -> None:
        failed = self.output and not self.agent.ready.is_set()
        self.status = Status.FAILED if failed else Status.TERMINATED
        self.ended = self._settings.wall_clock()
        self.up.shut()
        self.up.clear()
        self.down.shut()
        document = ClosedDocument(
            session_id=self.id,
            output=self.output,
            created_ms=int(self.ended.timestamp() * 1000),
        )
        if self._link is None:
            self.down.clear()
        else:
            closed = MessageType.CHANNEL_CLOSED
            self.down.insert(
                self._service_message(closed, document.encode(), self.ended)
            )
            for late in self.agent.late_replies:
                self.down.insert(late)
        if self.recorder is not None:
            self.recorder.note("end", output=self.output)
        self._log.info("emulator.session_ended", output=self.output.strip())
