"""An agent that says what one said before: recorded messages, when their time has come.

A message is due once the client has done as much as the recorded client had done when
it came: answered the handshake, opened as many streams, sent as many bytes and flags.
What the client sends need not be the same, nor be cut in the same way. Messages that
were repeated or out of order are so again; acknowledgements are made afresh.
"""

import asyncio
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import Any

from typing_extensions import override

from ssmtunneld.emulator.agent.agent import Agent
from ssmtunneld.emulator.faults import Direction
from ssmtunneld.emulator.recording import RecordedSession
from ssmtunneld.emulator.settings import Pace
from ssmtunneld.emulator.versions import AgentTraits
from ssmtunneld.errors import RemoteProtocolError
from ssmtunneld.protocol.message import (
    Message,
    MessageType,
    PayloadType,
    encode_short,
)
from ssmtunneld.protocol.payloads import ClosedDocument, HandshakeResponse
from ssmtunneld.smux.frame import Command, FrameDecoder


@dataclass(slots=True)
class Progress:
    """The progress of a client."""

    responses: int = 0
    streams: int = 0
    bytes: int = 0
    """Of users, in smux's PSH frames or, in basic mode, in messages."""
    flags: int = 0

    def reaches(self, other: "Progress") -> bool:
        """Say whether this is at least as far as ``other``."""
        return all(a >= b for a, b in zip(astuple(self), astuple(other), strict=True))


class Observer:
    """Follows one client's stream data, given in order.

    Args:
        traits: The agent's; with the client's version they decide on the mode.
        session_type: The document's ``type``.
    """

    def __init__(self, traits: AgentTraits, session_type: str) -> None:
        self.progress = Progress()
        self.client_version = ""
        self._traits = traits
        self._session_type = session_type
        self._decoder = FrameDecoder()

    def take(self, message: Message) -> None:
        """Note what ``message`` does."""
        if message.payload_type == PayloadType.HANDSHAKE_RESPONSE:
            self.client_version = HandshakeResponse.parse(
                message.payload
            ).client_version
            self.progress.responses += 1
        elif message.payload_type == PayloadType.FLAG:
            self.progress.flags += 1
        elif message.payload_type == PayloadType.OUTPUT:
            self._take_output(message.payload)

    def _take_output(self, payload: bytes) -> None:
        if not self._traits.uses_mux(self._session_type, self.client_version):
            self.progress.bytes += len(payload)
            return
        for frame in self._decoder.feed(payload):
            self.progress.streams += frame.command is Command.SYN
            if frame.command is Command.PSH:
                self.progress.bytes += len(frame.payload)


@dataclass(frozen=True, slots=True)
class Step:
    """A message of the agent's or the service's, and when it is due."""

    message: Message
    due: Progress


def script(session: RecordedSession) -> list[Step]:
    """Return what there is to play."""
    traits = AgentTraits.of(session.agent_version)
    observer = Observer(traits, session.properties.get("type", ""))
    early: dict[int, Message] = {}
    expected = 0
    steps = []
    for direction, message in session.messages:
        if message.message_type == MessageType.ACKNOWLEDGE:
            continue
        if direction is Direction.DOWN:
            due = Progress(*astuple(observer.progress))
            steps.append(Step(message, due))
            continue
        early.setdefault(message.sequence, message)
        while (held := early.pop(expected, None)) is not None:
            expected += 1
            # A client that was recorded for its faults may say what nobody understands.
            with suppress(RemoteProtocolError):
                observer.take(held)
    return steps


class ReplayAgent(Agent):
    """Plays a recorded session.

    Args:
        session: What was recorded.
        arguments: An `Agent`'s.
    """

    def __init__(self, session: RecordedSession, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._script = script(session)
        self._traits = AgentTraits.of(session.agent_version)
        self._observer = Observer(self._traits, session.properties.get("type", ""))
        self._moved = asyncio.Event()
        self._terminated = asyncio.Event()

    @override
    async def _work(self) -> str:
        self._complete = True  # from the start: the script knows when
        async with asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(self._play(), name="script")
            ending = tasks.create_task(self._terminated.wait(), name="termination")
            await asyncio.wait((playing, ending), return_when="FIRST_COMPLETED")
            if not playing.done():
                # The client ends before the recorded one did.
                playing.cancel()
            ending.cancel()
        return "" if playing.cancelled() else playing.result()

    async def _play(self) -> str:
        for step in self._script:
            await self._until(step.due)
            message = step.message
            if message.message_type == MessageType.CHANNEL_CLOSED:
                return ClosedDocument.parse(message.payload).output
            if message.message_type != MessageType.OUTPUT:
                self._down.insert(encode_short(message))
                continue
            await self._put([self.reliability.adopt(message, self._loop.time())])
            self._recorded.set()
            if message.payload_type == PayloadType.HANDSHAKE_COMPLETE:
                self.ready.set()
            if self._settings.pace is Pace.REAL:
                await self.rest()
        await self._terminated.wait()
        return ""

    async def _until(self, due: Progress) -> None:
        while not self._observer.progress.reaches(due):
            self._moved.clear()
            await self._moved.wait()

    @override
    async def _process(self, message: Message) -> bool:
        try:
            self._observer.take(message)
        except RemoteProtocolError as error:
            self._log.warning("emulator.replay_failed", reason=str(error))
        self.client_version = self._observer.client_version
        self._moved.set()
        if self._ends_session(message):
            self._terminated.set()
        return True
