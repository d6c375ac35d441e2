"""The sessions of one tunnel: carries out plans, hands out streams (design D5, D6)."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, assert_never

from ssmtunneld.base.compartment import Defects, run_compartment
from ssmtunneld.base.log import EventLog
from ssmtunneld.errors import ChannelClosed, TunnelError, Unforeseen
from ssmtunneld.sessions.backoff import Retries
from ssmtunneld.sessions.counters import SessionCounters
from ssmtunneld.sessions.lifespan import Lifespan
from ssmtunneld.sessions.policy import (
    Close,
    Phase,
    Policy,
    Retire,
    SessionView,
    Start,
    choose,
    may_wait,
    next_change,
    plan,
)
from ssmtunneld.sessions.pooled_session import (
    PooledSession,
    find_stuck,
    session_for_probe,
)
from ssmtunneld.sessions.session import Session
from ssmtunneld.sessions.snapshot import (
    PoolRetired,
    PoolSnapshot,
    adapted,
    busiest_rtt,
    find_trouble,
    first_start_reason,
    no_session,
)
from ssmtunneld.sessions.start_queue import Urgency
from ssmtunneld.transport.streams import StreamDuplex

TICK: Final = 1.0
"""Seconds between looks at the traffic, while there is any stream."""
STABLE_SESSION: Final = 30.0
"""Seconds that a session must have lived for its end not to count as a failure."""
UNSENT_TICK: Final = 0.1
"""Seconds between looks at streams that cannot leave their sessions."""
SETTLING: Final = 0.02
"""Seconds after a stream was opened in which its first bytes go before the plans that
follow from it, and those of streams that are opened together are made together."""

IDLE_ADVICE: Final = (
    "set keep_alive below the account's idle timeout, or raise that in Session "
    "Manager's preferences"
)
"""What to do about an idle timeout that ``keep_alive`` does not reach."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    """A connection that waits for a session."""

    asked_at: float
    served: asyncio.Future[StreamDuplex]


class Pool:
    """Keeps the sessions of one tunnel as the policy wants them.

    Args:
        name: The tunnel's.
        make_session: Makes the session of a number; calls back after each change.
        policy: How many sessions, and when.
        random: For jitter.
        log: Bound to the tunnel.
        lifespan: How old a session may become.
        respects_idle: The service's idle timeout is respected: a session that it ended
            unused is not replaced before somebody asks.
        counters: Where to count; fresh if not given.
        defects: Where defects are noted, of one session or of the plans for all.
    """

    def __init__(  # noqa: PLR0913 - keywords for the things it works with
        self,
        name: str,
        make_session: Callable[[int, Callable[[], None]], Session],
        policy: Policy,
        *,
        random: Random,
        log: EventLog,
        lifespan: Lifespan | None = None,
        respects_idle: bool = False,
        counters: SessionCounters | None = None,
        defects: Defects | None = None,
    ) -> None:
        self._defects = defects or Defects(log)
        self._name = name
        self._make_session = make_session
        self._policy = policy
        self._lifespan = lifespan or Lifespan()
        self._respects_idle = respects_idle
        self._counters = counters or SessionCounters()
        self._dormant = self._basic = False
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._members: dict[int, PooledSession] = {}
        self._alive = 0
        self._retired = self._stopping = False
        self._unsent = 0
        """Streams that wait in sessions that cannot send."""
        self._waiters: deque[_Waiter] = deque()
        self._changed = asyncio.Event()
        self._settling: asyncio.TimerHandle | None = None
        self._turn = asyncio.Condition()
        self._ready = asyncio.Event()
        self._trouble: TunnelError | None = None
        self._retries = Retries(random)
        self.first_urgency = Urgency.FIRST
        """How urgent its first session is while nobody waits for it."""

    # Supervision.

    @property
    def policy(self) -> Policy:
        """What is wanted; may be replaced at any time."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        self._changed.set()

    def retire(self) -> None:
        """Start nothing more: sessions end with their last stream, then :meth:`run`.

        Whoever waits for a stream, or asks for one from now on, gets ``PoolRetired``.
        """
        self._retired = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.served.done():
                waiter.served.set_exception(_retired())
        for member in self._members.values():
            self._retire(member, "the tunnel's settings have changed")
        self._changed.set()

    @property
    def defects(self) -> Defects:
        """Where its defects are noted."""
        return self._defects

    @property
    def ready(self) -> bool:
        """Whether a session takes connections."""
        return self._ready.is_set()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when ``condition`` holds; it is asked after each change of the pool.

        Cancelling is safe.
        """
        async with self._turn:
            await self._turn.wait_for(condition)

    async def emptied(self) -> None:
        """Return when no session is left, also at the service. Cancelling is safe."""
        await self.wait_for(lambda: not self._alive)

    async def run(self) -> None:
        """Keep the sessions until cancelled, which terminates all of them."""
        self._members.clear()  # after a defect: none of them lives any more
        async with asyncio.TaskGroup() as tasks:
            # Beside the sessions: they live on while the plans are in trouble.
            await run_compartment("pool", lambda: self._supervise(tasks), self._defects)
        # The last sessions have ended only now; somebody may wait for that.
        async with self._turn:
            self._turn.notify_all()

    async def _supervise(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._changed.clear()
            now = self._loop.time()
            self._learn(now)
            self._move_unsent()
            wake_at = self._carry_out(tasks, now)
            self._serve_waiters(now)
            async with self._turn:
                self._turn.notify_all()
            if self._retired and not self._members:
                return
            try:
                async with asyncio.timeout_at(wake_at):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _carry_out(self, tasks: asyncio.TaskGroup, now: float) -> float | None:
        """Do what the plan says; return when to look again at the latest."""
        views = self._views()
        policy = self._policy_now()
        wake_at = next_change(views, policy, now)
        # A stream that cannot leave its session waits for another one, too.
        waiting = len(self._waiters) + self._unsent
        for action in plan(views, policy, waiting=waiting, now=now):
            match action:
                case Start():
                    start_at = self._may_start_at(now)
                    if start_at <= now:
                        self._start(tasks, now)
                    else:
                        wake_at = min(start_at, wake_at or start_at)
                case Retire(number):
                    self._retire(self._members[number], "it ends soon")
                case Close(number):
                    member = self._members.pop(number)
                    tasks.create_task(self._stop(member), name=f"{self._name} stop")
                case _:
                    assert_never(action)
        if any(v.streams or v.stalled for v in views) or waiting:
            tick = now + (UNSENT_TICK if self._unsent else TICK)
            wake_at = min(tick, wake_at or tick)
        return wake_at

    def _views(self) -> list[SessionView]:
        limit = self._lifespan.limit
        return [member.view(limit) for member in self._members.values()]

    def _learn(self, now: float) -> None:
        self._ready.clear()
        for member in self._members.values():
            session = member.session
            member.measure(now)
            if session.phase is Phase.READY:
                self._counters.note_ready(session)
                self._trouble = None
                self._ready.set()
            if session.terms is not None:
                self._basic = not session.terms.mux
            if member.is_abandoned() and not member.retiring:
                self._retire(member, "nothing moves in it, and nobody uses it")
                session.cut("nothing moved in it, and nobody used it")
            if member.is_stale(now):
                self._retire(member, "the destination was refused repeatedly")
        stuck = find_stuck(self._members.values(), self._policy.max_sessions, now)
        if stuck is not None:
            self._retire(stuck, "nothing moves in it, and no other may be started")

    def _policy_now(self) -> Policy:
        return adapted(
            self._policy,
            limit=self._lifespan.limit,
            basic=self._basic,
            dormant=self._dormant,
        )

    def _retire(self, member: PooledSession, why: str) -> None:
        if not member.retiring:
            member.retiring = True
            self._log.info("session.retired", session=member.session.number, why=why)
            self._changed.set()

    def _may_start_at(self, now: float) -> float:
        if self._stopping or self._retired:
            return now + TICK
        return self._retries.next_start(wanted=bool(self._waiters))

    def _start(self, tasks: asyncio.TaskGroup, now: float) -> None:
        number = self._counters.next_number()
        self._retries.note_start(now)
        member = PooledSession(self._make_session(number, self._changed.set), now)
        session = member.session
        session.urgency = lambda: self._urgency_of(session)
        self._members[number] = member
        self._shorten_keep_alive()
        name = f"{self._name} session {number}"
        member.task = tasks.create_task(self._host(member), name=name)

    async def _host(self, member: PooledSession) -> None:
        """Let a session live, in a compartment of its own."""
        try:
            await self._defects.attempt("session", partial(self._live, member))
        finally:
            left = self._members.pop(member.number, None)
            self._changed.set()
        if left is not None:
            # It broke before it could end in order. Another one must wait its turn.
            self._note_end(member.session, Unforeseen("defect: see the log"))

    async def _live(self, member: PooledSession) -> None:
        session = member.session
        cause: TunnelError | None = None
        self._alive += 1
        self._counters.enter(session)
        try:
            await session.run()
        except TunnelError as error:
            cause = error
            self._note_end(session, error)
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            cause = Unforeseen(str(self._defects.note("session", error)))
            self._note_end(session, cause)
        finally:
            self._alive -= 1
            self._members.pop(session.number, None)
            self._changed.set()
            self._counters.leave(session, cause)

    def _note_end(self, session: Session, error: TunnelError) -> None:
        now = self._loop.time()
        if isinstance(error, ChannelClosed) and session.terms is not None:
            if not session.terms.mux and not error.output:
                return  # with its connection, as a basic session does (protocol 6.4)
            if self._respects_idle and not session.streams:
                self._dormant = True
                self._log.info("session.idled_out", session=session.number)
                return
            self._lifespan.note_end(now - session.created, session.pauses)
            self._learn_idle_timeout(session)
        # Once a spare has idled out, none is wanted before a client comes: the end of a
        # session with a quiet stream, after it, is in nobody's way.
        self._trouble = None if self._dormant else error
        if session.terms is not None and now >= session.created + STABLE_SESSION:
            self._retries.reset()
        delay = self._retries.note_end(error.recovery, now)
        self._log.warning(
            "session.ended",
            session=session.number,
            reason=str(error),
            advice=error.advice,
            streams=session.streams,
            retry_in=round(delay, 1),
        )

    def _learn_idle_timeout(self, session: Session) -> None:
        keep_alive = session.keep_alive
        if keep_alive is None or not self._lifespan.note_idle_end(
            session.pauses, keep_alive
        ):
            return
        interval = self._shorten_keep_alive()
        self._log.warning(
            "session.idle_timeout_learned",
            idle_timeout=round(self._lifespan.idle_timeout or 0.0),
            keep_alive=round(interval),
            advice=IDLE_ADVICE,
        )

    def _shorten_keep_alive(self) -> float:
        """Keep sessions alive as often as the service needs it; return how often."""
        interval = self._lifespan.keep_alive or 0.0
        if interval:
            for member in self._members.values():
                member.session.shorten_keep_alive(interval)
        return interval

    async def _stop(self, member: PooledSession) -> None:
        await self._defects.attempt("session", member.session.stop)
        if member.task is not None:
            member.task.cancel()

    @property
    def targets(self) -> Counter[str]:
        """How many sessions there are to each target."""
        found = (m.session.target for m in self._members.values())
        return Counter(target for target in found if target is not None)

    def leave(self, target: str, why: str, *, cut: bool) -> None:
        """Send no more connections to ``target``; ``cut`` resets those that it has."""
        for member in self._members.values():
            if member.session.target == target:
                self._retire(member, why)
                if cut:
                    member.session.cut(why)

    def owns(self, session_id: str) -> bool:
        """Whether a session is one of this pool's."""
        return any(m.session.session_id == session_id for m in self._members.values())

    async def wait_ready(self) -> None:
        """Return when a session is ready. Cancelling is safe."""
        await self._ready.wait()

    def check(self) -> None:
        """Make sure that all links are alive: the network may be another one."""
        for member in self._members.values():
            member.session.check()

    def retry_now(self) -> None:
        """Try again at once whatever failed: the network or a login is another one."""
        self._retries.retry_at(self._loop.time())
        for member in self._members.values():
            member.session.retry_now()
        self._changed.set()

    async def stop(self) -> None:
        """End all sessions politely; streams are cut. Then cancel :meth:`run`."""
        self._stopping = True
        async with asyncio.TaskGroup() as tasks:
            for member in list(self._members.values()):
                stopping = self._defects.attempt("session", member.session.stop)
                tasks.create_task(stopping, name=f"{self._name} stop")

    # Streams.

    def stream_at_once(self) -> StreamDuplex | None:
        """Return a stream if that takes no waiting."""
        # Nobody overtakes those that wait already.
        passes = not self._retired and not self._waiters
        stream = self._try_open(0.0) if passes else None
        if stream is not None:
            self._counters.opening.observe(0.0)
        return stream

    async def open_stream(self, timeout: float) -> StreamDuplex:
        """Return a stream on the best session. Cancelling is safe.

        Raises:
            NoSessionReady: There was none within ``timeout`` seconds; says why.
            PoolRetired: Ask its successor.
        """
        if self._retired:
            raise _retired()
        stream = self.stream_at_once()
        if stream is not None:
            return stream
        waiter = _Waiter(self._loop.time(), self._loop.create_future())
        self._waiters.append(waiter)
        self._dormant = False
        self._changed.set()
        for member in self._members.values():
            if member.session.queued:
                # It is more urgent than it was.
                member.session.reconsider_urgency()
        try:
            async with asyncio.timeout(timeout):
                return await waiter.served
        except TimeoutError:
            _give_back(waiter)
            raise no_session(
                timeout,
                self.trouble,
                in_use=self._ready.is_set(),
                start_reason=first_start_reason(self._members.values()),
            ) from None
        except asyncio.CancelledError:
            _give_back(waiter)
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self._changed.set()

    def _move_unsent(self) -> None:
        """Move streams that cannot leave their session to one that can send.

        The agent has not heard of them, so nothing is lost or repeated.
        """
        self._unsent = 0
        for member in list(self._members.values()):
            for stream in member.session.unsent:
                others = (
                    m
                    for m in self._members.values()
                    if m is not member and m.session.takes_over and not m.stalled
                )
                number = choose(others, self._policy_now(), may_wait=True)
                if number is None:
                    self._unsent += 1
                else:
                    member.session.hand_over(stream, self._members[number].session)

    def _serve_waiters(self, now: float) -> None:
        """Give streams to those that wait, first come, first served (design D20)."""
        while self._waiters and not self._retired:
            waiter = self._waiters[0]
            if not waiter.served.done():
                # Who came later has less patience, and would get nothing either.
                stream = self._try_open(now - waiter.asked_at)
                if stream is None:
                    return
                self._counters.opening.observe(now - waiter.asked_at)
                waiter.served.set_result(stream)
            self._waiters.popleft()

    def _urgency_of(self, session: Session) -> Urgency:
        """Return who waits for a session that is to be started (design D20)."""
        queued = [m.session.number for m in self._members.values() if m.session.queued]
        place = queued.index(session.number) if session.number in queued else 0
        streams = self._policy.streams_per_session
        if place < -(-len(self._waiters) // streams):
            return Urgency.CLIENT
        if place or self._ready.is_set():
            return Urgency.SPARE
        return self.first_urgency

    @property
    def trouble(self) -> TunnelError | None:
        """What stands in the way of a session; ``None`` while one is ready."""
        return find_trouble(self._members.values(), self._trouble)

    def _try_open(self, waited: float) -> StreamDuplex | None:
        policy = self._policy_now()
        number = choose(self._members.values(), policy, may_wait=True)
        if number is None:
            views = self._views()
            patient = may_wait(views, self._policy.max_sessions, waited)
            number = choose(views, policy, may_wait=patient)
            if number is None:
                return None
        stream = self._members[number].session.open_stream()
        if self._settling is None:
            self._settling = self._loop.call_later(SETTLING, self._on_settled)
        return stream

    def _on_settled(self) -> None:
        self._settling = None
        self._changed.set()

    def open_probe(self) -> StreamDuplex | None:
        """Return a stream that does not count as use, if there is a session for it."""
        members = self._members.values()
        session = session_for_probe(members, respects_idle=self._respects_idle)
        return None if session is None else session.open_stream(counted=False)

    @property
    def rtt(self) -> float | None:
        """The round-trip time of the busiest session, in seconds."""
        return busiest_rtt(self._members.values())

    def snapshot(self) -> PoolSnapshot:
        """Return what there is to see."""
        limit = self._lifespan.limit
        return PoolSnapshot(
            name=self._name,
            members=tuple(m.snapshot(limit) for m in self._members.values()),
            waiting=len(self._waiters),
            trouble=self.trouble,
            retry_in=self._retries.left(self._loop.time()),
            warm=self._policy_now().warm,
            start_reason=first_start_reason(self._members.values()),
            counts=self._counters.read(),
        )


def _retired() -> PoolRetired:
    return PoolRetired("the tunnel's settings have changed meanwhile")


def _give_back(waiter: _Waiter) -> None:
    """Abort a stream that was granted in the very turn in which its caller left."""
    served = waiter.served
    if served.done() and not served.cancelled() and served.exception() is None:
        served.result().abort()
