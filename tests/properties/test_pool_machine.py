"""A pool and its sessions under random faults, in virtual time."""

import asyncio
from random import Random
from typing import TYPE_CHECKING

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ssmtunneld.errors import (
    AccessDenied,
    CredentialsUnusable,
    LinkLost,
    LinkRefused,
    NoSessionReady,
    ServiceUnavailable,
    SessionGone,
    StreamReset,
    TargetNotConnected,
    Throttled,
    TunnelError,
)
from ssmtunneld.sessions.lifespan import Lifespan
from ssmtunneld.sessions.policy import Phase, Policy
from ssmtunneld.sessions.session import SessionSettings
from ssmtunneld.sessions.start_queue import StartQueue
from tests.sessions.rig import PoolRig, assert_nothing_left, check_alive
from tests.support.clockwork import VirtualLoop
from tests.support.fake_agent import AgentNature
from tests.support.fake_control import CONNECT, RESUME, START, Service, elapse

if TYPE_CHECKING:
    from ssmtunneld.transport.streams import StreamDuplex

RATE, BURST = 1.0, 2
RECOVERY = 30.0
"""Seconds after the last fault in which the warm sessions must be ready."""

ERRORS: dict[str, list[TunnelError]] = {
    START: [
        Throttled(START, "ThrottlingException", "Rate exceeded"),
        ServiceUnavailable(START, "InternalServerError", "oops"),
        TargetNotConnected(START, "TargetNotConnected", "offline"),
        CredentialsUnusable(START, "ExpiredToken", "expired"),
    ],
    RESUME: [
        Throttled(RESUME, "ThrottlingException", "Rate exceeded"),
        AccessDenied(RESUME, "AccessDeniedException", "no"),
        CredentialsUnusable(RESUME, "ExpiredToken", "expired"),
        SessionGone("s-0", "no token"),
    ],
    CONNECT: [LinkLost("no route to host"), LinkRefused(503, "ssmmessages.invalid")],
}


class PoolMachine(RuleBasedStateMachine):
    """A pool with random events, and the invariants that hold throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.streams: list[StreamDuplex] = []
        self.retiring: dict[int, int] = {}

    def do(self, coroutine):
        """Let the loop run until ``coroutine`` is over."""
        return self.runner.run(coroutine)

    @initialize(
        warm=st.integers(0, 3),
        more=st.integers(0, 2),
        streams=st.sampled_from([1, 2, 8]),
        limit=st.sampled_from([None, 100.0, 300.0]),
        seed=st.integers(0, 2**16),
    )
    def begin(self, warm, more, streams, limit, seed):
        self.policy = Policy(
            warm=warm,
            max_sessions=max(1, warm + more),
            streams_per_session=streams,
            idle_close=60.0,
        )
        self.random = Random(seed)
        self.do(self._begin(limit, seed))

    async def _begin(self, limit, seed):
        self.limiter = StartQueue(RATE, BURST)
        self.rig = PoolRig(
            Service(max_duration=limit),
            self.policy,
            SessionSettings(),
            limiter=self.limiter,
            lifespan=Lifespan(limit),
            seed=seed,
        )
        self.control = self.rig.control
        # The loop keeps only weak references to tasks.
        loop = asyncio.get_running_loop()
        self.running = loop.create_task(self.rig.pool.run(), name="pool")
        self.waiting: set[asyncio.Task[None]] = set()

    # Faults.

    @rule(operation=st.sampled_from([START, RESUME, CONNECT]), data=st.data())
    def something_fails(self, operation, data):
        error = data.draw(st.sampled_from(ERRORS[operation]))
        note(f"{operation} fails with {error}")
        self.control.fail(operation, error)

    @rule()
    def everything_works(self):
        self._heal()

    def _heal(self):
        self.control.heal()
        self.control.service.agent.refuses = False
        for session in self.control.sessions.values():
            session.agent.nature.deaf = False

    def _any_session(self):
        return self.random.choice(self.control.alive) if self.control.alive else None

    @rule(way=st.sampled_from(["reset", "vanish", "end", "forget", "deaf"]))
    def something_breaks(self, way):
        session = self._any_session()
        if session is None:
            return
        if way == "reset":
            self._in_loop(session.lose_wire)
        elif way == "vanish" and session.wire is not None:
            self._in_loop(session.wire.vanish)
        elif way == "end":
            self._in_loop(session.end, "agent failure")
        elif way == "forget":
            session.forget()
        elif way == "deaf":
            session.agent.nature = AgentNature(deaf=True)

    def _in_loop(self, function, *arguments):
        async def call():
            function(*arguments)

        self.do(call())

    @rule()
    def all_links_are_lost(self):
        for session in self.control.alive:
            self._in_loop(session.lose_wire)

    @rule(data=st.data(), seconds=st.sampled_from([10.0, 100.0, 300.0]))
    def there_is_an_outage(self, data, seconds):
        for operation in (START, RESUME, CONNECT):
            error = data.draw(st.sampled_from(ERRORS[operation]))
            self.control.fail(operation, error)
        for session in self.control.alive:
            self._in_loop(session.lose_wire)
        self.do(self._watch(seconds))

    @rule(refuses=st.booleans())
    def the_destination_goes_or_comes(self, refuses):
        self.control.service.agent.refuses = refuses

    @rule(kind=st.sampled_from(["check", "retry"]))
    def the_network_changes(self, kind):
        pool = self.rig.pool
        self._in_loop(pool.check if kind == "check" else pool.retry_now)

    # Use.

    @rule(count=st.integers(1, 4))
    def connections_come(self, count):
        self.do(self._open(count))

    async def _open(self, count):
        loop = asyncio.get_running_loop()
        for _ in range(count):
            task = loop.create_task(self._open_one(), name="connection")
            self.waiting.add(task)
            task.add_done_callback(self.waiting.discard)
        await asyncio.sleep(0)

    async def _open_one(self):
        try:
            stream = await self.rig.pool.open_stream(15)
        except NoSessionReady:
            return
        self.streams.append(stream)
        try:
            await stream.send(b"hello")
        except StreamReset:
            self.streams.remove(stream)

    @precondition(lambda self: self.streams)
    @rule(abort=st.booleans())
    def a_connection_ends(self, abort):
        stream = self.streams.pop(self.random.randrange(len(self.streams)))
        if abort:
            self._in_loop(stream.abort)
        else:
            self.do(stream.aclose())

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 5.0, 30.0, 200.0]))
    def time_passes(self, seconds):
        self.do(self._watch(seconds))

    async def _watch(self, seconds):
        """Let time pass, and look at the pool all the while."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            await elapse(min(seconds / 10, end - loop.time() + 1e-9))
            self._check()

    # What must be true.

    @invariant()
    def the_pool_lives_and_keeps_its_bounds(self):
        if hasattr(self, "rig"):
            self._check()

    def _check(self):
        assert not self.running.done(), self.running
        views = self.rig.views
        self._check_size(views)
        retiring = {v.number: v.streams for v in views if v.retiring}
        for number, streams in retiring.items():
            assert streams <= self.retiring.get(number, streams), "it is retiring"
        self.retiring = retiring
        starts = self.control.times(START)[-20:]
        for count, start in enumerate(reversed(starts), 1):
            # Those that somebody waited for are not held by the rate (design D20).
            urgent = self.limiter.urgent
            assert count <= BURST + (starts[-1] - start) * RATE + urgent + 1e-6

    def _check_size(self, views):
        # One that ends soon is being replaced: it does not count.
        now = self.runner.get_loop().time()
        margin = self.policy.expiry_margin + 1
        lasting = [
            v
            for v in views
            if not v.retiring and (v.expires_at is None or now < v.expires_at - margin)
        ]
        assert len(lasting) <= self.policy.max_sessions

    def teardown(self):
        try:
            if hasattr(self, "rig"):
                self.do(self._recover_and_end())
        finally:
            self.runner.close()

    async def _recover_and_end(self):
        """Once faults end all is well within 30 s; then leave nothing behind."""
        self._heal()
        for session in self.control.alive:
            if session.wire is not None and session.wire.vanished:
                session.lose_wire()
        await self._watch(RECOVERY)
        ready = [v for v in self.rig.views if v.phase is Phase.READY and not v.retiring]
        assert len(ready) >= self.policy.warm, self.rig.pool.snapshot()
        await check_alive(await self.rig.pool.open_stream(15))
        self.running.cancel()
        await asyncio.wait({self.running, *self.waiting})
        assert_nothing_left(self.control)


# One example is half a second: hours of virtual time, and many sessions.
PoolMachine.TestCase.settings = settings(
    stateful_step_count=30, max_examples=settings.default.max_examples // 4
)
TestPoolUnderRandomFaults = PoolMachine.TestCase
