"""The AWS side in memory: the control plane, sessions with their timers, and agents."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from typing_extensions import override

from ssmtunneld.aws.api.port import ActiveSession, Control, Grant, SessionRequest
from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import LinkError, LinkLost, LinkRefused, SessionGone, TunnelError
from tests.support.bench import channel_closed
from tests.support.clockwork import VirtualLoop
from tests.support.fake_agent import AgentNature, FakeAgent, MemoryWire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

START, RESUME, TERMINATE, DESCRIBE = (
    "StartSession",
    "ResumeSession",
    "TerminateSession",
    "DescribeSessions",
)
CONNECT = "connect"
SIGN = "sign"
STATUS = "GetConnectionStatus"


async def elapse(seconds: float) -> None:
    """Let ``seconds`` of virtual time pass; in real time it would be a sleep."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "only virtual time may pass in a test"
    later = loop.create_future()
    timer = loop.call_later(seconds, later.set_result, None)
    try:
        await later
    finally:
        timer.cancel()


@dataclass
class Service:
    """Properties of the service, in seconds; the test can change them at any time."""

    api_time: float = 0.2
    wire_latency: float = 0.02
    idle_timeout: float = 1200.0
    max_duration: float | None = None
    websocket_age: float = 3600.0
    agent: AgentNature = field(default_factory=AgentNature)


@dataclass(frozen=True)
class Call:
    """One call, and when it was made."""

    operation: str
    at: float
    session_id: str = ""


class FakeSession:
    """A session as the service sees it."""

    def __init__(
        self, session_id: str, request: SessionRequest, service: Service
    ) -> None:
        self.session_id = session_id
        self.request = request
        self.service = service
        self.alive = True
        self.token = ""
        self.agent = FakeAgent(service.agent, self.end, self.touch)
        self.wires: list[MemoryWire] = []
        self._loop = asyncio.get_running_loop()
        self.started_at = self._input_at = self._loop.time()
        self._idle_timer = self._watch_idle()
        self._age_timer: asyncio.TimerHandle | None = None
        if service.max_duration is not None:
            self._age_timer = self._loop.call_later(
                service.max_duration, self.end, "maximum duration"
            )

    @property
    def wire(self) -> MemoryWire | None:
        """The client's link, if it has one."""
        return self.agent.wire

    def touch(self) -> None:
        """Note input of the client's (protocol 1.8)."""
        self._input_at = self._loop.time()

    def _watch_idle(self) -> asyncio.TimerHandle:
        return self._loop.call_at(
            self._input_at + self.service.idle_timeout, self._on_idle
        )

    def _on_idle(self) -> None:
        if self._loop.time() >= self._input_at + self.service.idle_timeout:
            self.end("idle timeout")
        else:
            self._idle_timer = self._watch_idle()

    def open_wire(self) -> MemoryWire:
        """Give the client a link; another one is dropped."""
        if self.wire is not None:
            self.wire.lose(LinkLost("taken over"))
        wire = MemoryWire(self.agent, self.service.wire_latency)
        bye = self._loop.call_later(
            self.service.websocket_age, wire.lose, LinkLost("Bye", 1000)
        )
        wire.dropped.append(bye.cancel)
        self.wires.append(wire)
        return wire

    def lose_wire(self, error: LinkError | None = None) -> None:
        """Cut the client's link, if it has one."""
        if self.wire is not None:
            self.wire.lose(error or LinkLost("reset by a test"))

    def end(self, words: str = "") -> None:
        """End the session; the client is told if it has a link."""
        if self.alive:
            if self.wire is not None:
                self.wire.deliver(channel_closed(words))
            self.forget()

    def forget(self) -> None:
        """End the session and tell nobody."""
        self.alive = False
        self._idle_timer.cancel()
        if self._age_timer is not None:
            self._age_timer.cancel()


class FakeControl(Control):
    """``Control`` over a service in memory, and what dials into it.

    Faults: ``fail`` makes an operation fail from now on, ``fail_next`` once for each
    error, ``heal`` ends it. ``hold`` lets an operation wait until it is released.
    """

    def __init__(self, service: Service | None = None) -> None:
        self.service = service or Service()
        self.sessions: dict[str, FakeSession] = {}
        self.calls: list[Call] = []
        self.headers: Mapping[str, str] = {"Authorization": "signed"}
        self.others: list[ActiveSession] = []
        self.connected = True
        """True if the service hears from the agents of its targets."""
        self._numbers = count(1)
        self._failing: dict[str, TunnelError] = {}
        self._next_failures: dict[str, deque[TunnelError | None]] = defaultdict(deque)
        self._held: dict[str, asyncio.Event] = {}

    # What the test does.

    def fail(self, operation: str, error: TunnelError) -> None:
        """Let ``operation`` fail from now on."""
        self._failing[operation] = error

    def fail_next(self, operation: str, *errors: TunnelError | None) -> None:
        """Let the next calls of ``operation`` fail, ``None`` being a success."""
        self._next_failures[operation].extend(errors)

    def heal(self, *operations: str) -> None:
        """Let ``operations``, or all of them, succeed again."""
        for operation in operations or (*self._failing, *self._next_failures):
            self._failing.pop(operation, None)
            self._next_failures.pop(operation, None)

    def hold(self, operation: str) -> Callable[[], None]:
        """Let calls of ``operation`` wait until the returned function is called."""
        event = self._held[operation] = asyncio.Event()
        return event.set

    def times(self, operation: str) -> list[float]:
        """Return when ``operation`` was called."""
        return [call.at for call in self.calls if call.operation == operation]

    def count(self, operation: str) -> int:
        """Return how often ``operation`` was called."""
        return len(self.times(operation))

    @property
    def alive(self) -> list[FakeSession]:
        """The sessions that the service holds, oldest first."""
        return [session for session in self.sessions.values() if session.alive]

    @property
    def newest(self) -> FakeSession:
        """The session that was granted last."""
        return list(self.sessions.values())[-1]

    @property
    def open_wires(self) -> list[MemoryWire]:
        """The links that nobody dropped."""
        return [w for s in self.sessions.values() for w in s.wires if not w.aborted]

    # The control plane.

    async def _call(self, operation: str, session_id: str = "") -> None:
        now = asyncio.get_running_loop().time()
        self.calls.append(Call(operation, now, session_id))
        await elapse(self.service.api_time)
        if operation in self._held:
            await self._held[operation].wait()
        scripted = self._next_failures[operation]
        error = scripted.popleft() if scripted else self._failing.get(operation)
        if error is not None:
            raise error

    def _grant(self, session: FakeSession) -> Grant:
        session.token = f"token-{next(self._numbers)}"
        url = f"wss://ssmmessages.invalid/v1/data-channel/{session.session_id}"
        return Grant(session.session_id, Secret(session.token), url)

    @override
    async def start(
        self, request: SessionRequest, *, answered: Callable[[], None] | None = None
    ) -> Grant:
        try:
            await self._call(START)
        finally:
            if answered is not None:
                answered()
        session_id = f"s-{len(self.sessions) + 1}"
        session = FakeSession(session_id, request, self.service)
        self.sessions[session_id] = session
        try:
            # The answer is on its way, the session is there.
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            session.end()
            raise
        return self._grant(session)

    @override
    async def resume(self, session_id: str) -> Grant:
        await self._call(RESUME, session_id)
        session = self.sessions[session_id]
        if not session.alive:
            raise SessionGone(session_id, "it does not exist")
        session.touch()
        return self._grant(session)

    @override
    async def terminate(self, session_id: str) -> None:
        try:
            await self._call(TERMINATE, session_id)
        except asyncio.CancelledError:
            # Cancelling only stops the waiting.
            if TERMINATE not in self._failing:
                self.sessions[session_id].end()
            raise
        if session_id in self.sessions:
            self.sessions[session_id].end()
        self.others = [s for s in self.others if s.session_id != session_id]

    @override
    async def describe(
        self, *, owner: str | None = None, target: str | None = None
    ) -> list[ActiveSession]:
        await self._call(DESCRIBE)
        ours = [
            ActiveSession(
                session.session_id,
                session.request.target,
                "owner",
                session.request.reason,
                "Connected",
                session.request.document,
                session.started_at,
                self.service.max_duration,
            )
            for session in self.alive
        ]
        return [s for s in (*ours, *self.others) if target in {None, s.target}]

    @override
    async def is_connected(self, target: str) -> bool:
        await self._call(STATUS)
        return self.connected

    @override
    async def sign_upgrade(self, url: str) -> Mapping[str, str]:
        await self._call(SIGN)
        return self.headers

    @override
    def check_stream_url(self, url: str) -> None:
        error = self._failing.get("check")
        if error is not None:
            raise error

    @override
    async def close(self) -> None:
        assert not self.alive, "sessions were left behind"

    # The data channel's door.

    async def connect(self, grant: Grant) -> MemoryWire:
        """Open a link for ``grant``; what a session takes for its ``connect``."""
        await self._call(CONNECT, grant.session_id)
        session = self.sessions[grant.session_id]
        if not session.alive or session.token != grant.token.reveal():
            raise LinkRefused(403, "ssmmessages.invalid")
        return session.open_wire()
