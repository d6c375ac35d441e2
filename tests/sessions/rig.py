"""One session, or one pool, over a service in memory, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import Any

import structlog
from structlog.testing import LogCapture

from ssmtunneld.aws.api.port import SessionRequest
from ssmtunneld.base.log import EventLog
from ssmtunneld.errors import TunnelError
from ssmtunneld.sessions.lifespan import Lifespan
from ssmtunneld.sessions.message_sizes import MessageSizes
from ssmtunneld.sessions.policy import Phase, Policy, SessionView
from ssmtunneld.sessions.pool import Pool
from ssmtunneld.sessions.session import Session, SessionDependencies, SessionSettings
from ssmtunneld.sessions.start_queue import StartQueue
from ssmtunneld.transport.streams import StreamDuplex
from tests.support.fake_agent import BASIC_PROPERTIES, AgentNature
from tests.support.fake_control import FakeControl, FakeSession, Service, elapse

REQUEST = SessionRequest.port_forward("i-1", 5432)
STAMP_MS = 1_700_000_000_000


def basic() -> Service:
    """Return a service whose agents have no smux."""
    return Service(agent=AgentNature(properties=dict(BASIC_PROPERTIES)))


def now() -> float:
    """Return the virtual time in seconds."""
    return asyncio.get_running_loop().time()


async def until(fact: Callable[[], object], *, patience: float = 60.0) -> None:
    """Return once ``fact()`` is true, looked at every 10 ms of virtual time."""
    async with asyncio.timeout(patience):
        while not fact():
            await elapse(0.01)


class Journal:
    """A log in memory, and the lines in it."""

    def __init__(self) -> None:
        self._capture = LogCapture()
        logger = structlog.wrap_logger(
            None,
            processors=[self._capture],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        self.log = EventLog(logger)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the facts of all lines of ``event``."""
        return [dict(e) for e in self._capture.entries if e["event"] == event]


def surroundings(
    control: FakeControl,
    limiter: StartQueue,
    seed: int = 1,
    sizes: MessageSizes | None = None,
) -> SessionDependencies:
    """Return what a session uses of the world, all of it in memory."""
    ids = count(1)
    return SessionDependencies(
        control=control,
        connect=control.connect,
        random=Random(seed),
        new_id=lambda: next(ids).to_bytes(16),
        wall_clock_ms=lambda: STAMP_MS,
        limiter=limiter,
        sizes=sizes,
    )


class SessionRig:
    """One session and what became of it."""

    def __init__(self, service: Service, settings: SessionSettings) -> None:
        self.control = FakeControl(service)
        self.journal = Journal()
        self.changes = 0
        self.error: TunnelError | None = None
        self.finished = False
        self.session = Session(
            1,
            REQUEST,
            surroundings(self.control, StartQueue(2.0, 4)),
            settings,
            log=self.journal.log,
            changed=self._note_change,
        )

    def _note_change(self) -> None:
        self.changes += 1

    async def live(self) -> None:
        """Run the session; remember how it ended."""
        try:
            await self.session.run()
        except TunnelError as error:
            self.error = error
        finally:
            self.finished = True

    async def ready(self, patience: float = 60.0) -> None:
        """Return once the session is ready."""
        await until(lambda: self.session.phase is Phase.READY, patience=patience)

    async def over(self, patience: float = 60.0) -> None:
        """Return once the session is over."""
        await until(lambda: self.finished, patience=patience)

    @property
    def remote(self) -> FakeSession:
        """Return the service's side of the session."""
        return self.control.newest


@asynccontextmanager
async def living_session(
    service: Service | None = None, settings: SessionSettings | None = None
) -> AsyncIterator[SessionRig]:
    """Run a session; at the end cancel it and look for what it left behind."""
    rig = SessionRig(service or Service(), settings or SessionSettings())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(rig.live(), name="session")
        yield rig
        running.cancel()
    assert_nothing_left(rig.control)


class PoolRig:
    """One pool and its service."""

    def __init__(
        self,
        service: Service,
        policy: Policy,
        settings: SessionSettings,
        *,
        limiter: StartQueue | None = None,
        lifespan: Lifespan | None = None,
        seed: int = 1,
        sizes: MessageSizes | None = None,
    ) -> None:
        self.control = FakeControl(service)
        self.journal = Journal()
        self.made: list[Session] = []
        limiter = limiter or StartQueue(2.0, 4)
        dependencies = surroundings(self.control, limiter, seed, sizes)

        def make(number: int, changed: Callable[[], None]) -> Session:
            session = Session(
                number,
                REQUEST,
                dependencies,
                settings,
                log=self.journal.log,
                changed=changed,
            )
            self.made.append(session)
            return session

        self.pool = Pool(
            "db",
            make,
            policy,
            random=Random(seed),
            log=self.journal.log,
            lifespan=lifespan,
            respects_idle=settings.keep_alive is None,
        )

    @property
    def ready(self) -> int:
        """Sessions that take streams."""
        return sum(v.phase is Phase.READY and not v.retiring for v in self.views)

    @property
    def views(self) -> list[SessionView]:
        """The sessions as the plan sees them."""
        return [member.view for member in self.pool.snapshot().members]

    async def until_ready(self, count: int = 1, patience: float = 60.0) -> None:
        """Return once ``count`` sessions are ready."""
        await until(lambda: self.ready >= count, patience=patience)

    async def open(self, timeout: float = 15.0) -> StreamDuplex:
        """Return a stream that the agent has connected."""
        stream = await self.pool.open_stream(timeout)
        await check_alive(stream)
        return stream

    def starts_until_now(self) -> int:
        """StartSession calls."""
        return self.control.count("StartSession")


@asynccontextmanager
async def living_pool(
    policy: Policy | None = None,
    service: Service | None = None,
    settings: SessionSettings | None = None,
    **options: Any,
) -> AsyncIterator[PoolRig]:
    """Run a pool; at the end cancel it and look for what it left behind."""
    rig = PoolRig(
        service or Service(),
        policy or Policy(),
        settings or SessionSettings(),
        **options,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(rig.pool.run(), name="pool")
        yield rig
        running.cancel()
    assert_nothing_left(rig.control)


async def check_alive(stream: StreamDuplex, words: bytes = b"ping") -> None:
    """Send ``words`` and wait for the echo."""
    await stream.send(words)
    heard = b""
    async with asyncio.timeout(60):
        while len(heard) < len(words):
            piece = await stream.receive()
            assert piece, "the stream has ended"
            heard += piece
    assert heard == words


def assert_nothing_left(control: FakeControl) -> None:
    """Fail if a session, a link or a task is left."""
    assert not control.alive, f"left: {[s.session_id for s in control.alive]}"
    assert not control.open_wires
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, others
