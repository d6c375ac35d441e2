"""The sessions of one mapping: carries out plans, hands out streams (design D5, D6)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final, assert_never

from ssmtunneld.errors import ChannelClosed, NoSessionReady, Recovery, TunnelError
from ssmtunneld.log import EventLog
from ssmtunneld.transport.streams import StreamDuplex
from ssmtunneld.tunnel.backoff import Backoff
from ssmtunneld.tunnel.lifespan import Lifespan
from ssmtunneld.tunnel.limiter import StartLimiter
from ssmtunneld.tunnel.member import Member, MemberSnapshot
from ssmtunneld.tunnel.plan import (
    Close,
    Phase,
    Policy,
    Retire,
    SessionView,
    Start,
    choose,
    next_change,
    plan,
)
from ssmtunneld.tunnel.session import Session

TICK: Final = 1.0
"""Seconds between looks at the traffic, while there is any stream."""
GROWTH_PATIENCE: Final = 3.0
"""Seconds that a connection waits for a session with room, if one may come, before it
shares a full one. Starting a session takes one to two seconds."""
STABLE_SESSION: Final = 30.0
"""Seconds that a session must have lived for its end not to count as a failure."""
BASIC_IDLE: Final = 60.0
"""Seconds that an unused basic session is kept: its connection to the destination
stands since its start, and what the destination said meanwhile grows stale."""
DEMAND_INTERVAL: Final = 2.0
"""Seconds between attempts, at most, while a local connection waits."""
REFUSALS: Final = 3
"""Refused destinations in a row after which a session to a remote host is replaced:
the agent resolves the name once in its session's life (protocol 6.2)."""
RECYCLE_AGE: Final = 30.0
"""Seconds that a session is used before it is replaced for that reason: a destination
that is simply down must not cost one StartSession after the other."""


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """What there is to see of a pool."""

    name: str
    members: tuple[MemberSnapshot, ...]
    waiting: int
    """Local connections that wait for a session."""
    trouble: TunnelError | None
    """Why no session could be started, or the last one ended."""
    retry_in: float | None
    """Seconds until a session is started again, if that is being delayed."""


class Pool:
    """Keeps the sessions of one mapping as the policy wants them.

    Args:
        name: The mapping's.
        make_session: Makes the session of a number; calls back after each change.
        policy: How many sessions, and when.
        limiter: Shared by all pools of one account and region.
        random: For jitter.
        log: Bound to the mapping.
        lifespan: How old a session may become.
        respects_idle: The service's idle timeout is respected: a session that it ended
            unused is not replaced before somebody asks.
    """

    def __init__(
        self,
        name: str,
        make_session: Callable[[int, Callable[[], None]], Session],
        policy: Policy,
        *,
        limiter: StartLimiter,
        random: Random,
        log: EventLog,
        lifespan: Lifespan | None = None,
        respects_idle: bool = False,
    ) -> None:
        self._name = name
        self._make_session = make_session
        self._policy = policy
        self._lifespan = lifespan or Lifespan()
        self._respects_idle = respects_idle
        self._dormant = False
        self._basic = False
        self._limiter = limiter
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._members: dict[int, Member] = {}
        self._next_number = 1
        self._waiting = 0
        self._changed = asyncio.Event()
        self._turn = asyncio.Condition()
        self._stopping = False
        self._ready = asyncio.Event()
        self._trouble: TunnelError | None = None
        self._backoffs = {
            Recovery.RESUME: Backoff(random, base=0.5, cap=15.0),
            Recovery.RESTART: Backoff(random, base=0.5, cap=15.0),
            Recovery.WAIT: Backoff(random, base=4.0, cap=20.0),
            # A wrong request stays wrong; but whoever mends a document or a policy at
            # AWS should not have to restart anything.
            Recovery.STOP: Backoff(random, base=60.0, cap=600.0),
        }
        self._not_before = self._last_start = float("-inf")

    # Supervision.

    async def run(self) -> None:
        """Keep the sessions until cancelled, which terminates all of them."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                now = self._loop.time()
                self._learn(now)
                wake_at = self._carry_out(tasks, now)
                async with self._turn:
                    self._turn.notify_all()
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
        for action in plan(views, policy, waiting=self._waiting, now=now):
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
        if any(v.streams for v in views) or self._waiting:
            tick = now + TICK
            wake_at = min(tick, wake_at or tick)
        return wake_at

    def _views(self) -> list[SessionView]:
        limit = self._lifespan.limit
        return [member.view(limit) for member in self._members.values()]

    def _learn(self, now: float) -> None:
        self._ready.clear()
        for member in self._members.values():
            session = member.session
            member.gauge.measure(session, now)
            if session.phase is Phase.READY:
                self._trouble = None
                self._ready.set()
            if session.terms is not None:
                self._basic = not session.terms.mux
            if self._is_stale(session, now):
                self._retire(member, "the destination was refused repeatedly")

    @staticmethod
    def _is_stale(session: Session, now: float) -> bool:
        """Whether the agent may have an old address of another host (design D9)."""
        return (
            session.refusals >= REFUSALS
            and now >= session.created + RECYCLE_AGE
            and session.terms is not None
            and bool(session.terms.properties.get("host"))
        )

    def _policy_now(self) -> Policy:
        """Return the policy, adapted to what is known of the sessions."""
        policy = self._policy
        limit = self._lifespan.limit
        if limit is not None:
            # One that may not grow old must not be due for replacement all its life.
            margin = min(policy.expiry_margin, limit / 4)
            policy = replace(policy, expiry_margin=margin)
        if self._basic:
            policy = replace(
                policy,
                warm=0,
                spare=False,
                streams_per_session=1,
                idle_close=min(policy.idle_close, BASIC_IDLE),
            )
        return replace(policy, warm=0) if self._dormant else policy

    def _retire(self, member: Member, why: str) -> None:
        if not member.retiring:
            member.retiring = True
            self._log.info("session.retired", session=member.session.number, why=why)
            self._changed.set()

    def _may_start_at(self, now: float) -> float:
        if self._stopping:
            return now + TICK
        if self._waiting:
            return min(self._not_before, self._last_start + DEMAND_INTERVAL)
        return self._not_before

    def _start(self, tasks: asyncio.TaskGroup, now: float) -> None:
        number = self._next_number
        self._next_number += 1
        self._last_start = now
        member = Member(self._make_session(number, self._changed.set), now)
        self._members[number] = member
        name = f"{self._name} session {number}"
        member.task = tasks.create_task(self._live(member), name=name)

    async def _live(self, member: Member) -> None:
        session = member.session
        try:
            await self._limiter.acquire()
            await session.run()
        except TunnelError as error:
            self._note_end(session, error)
        finally:
            self._members.pop(session.number, None)
            self._changed.set()

    def _note_end(self, session: Session, error: TunnelError) -> None:
        now = self._loop.time()
        if isinstance(error, ChannelClosed) and session.terms is not None:
            if not session.terms.mux and not error.output:
                return  # with its connection, as a basic session does (protocol 6.4)
            if self._respects_idle and not session.streams:
                self._dormant = True
                self._log.info("session.idled_out", session=session.number)
                return
            self._lifespan.note_end(now - session.created)
        self._trouble = error
        if session.terms is not None and now >= session.created + STABLE_SESSION:
            self._reset_backoffs()
        backoff = self._backoffs[error.recovery]
        delay = backoff.next()
        self._not_before = max(self._not_before, now + delay)
        self._log.warning(
            "session.ended",
            session=session.number,
            reason=str(error),
            advice=error.advice,
            streams=session.streams,
            retry_in=round(delay, 1),
        )

    def _reset_backoffs(self) -> None:
        for backoff in self._backoffs.values():
            backoff.reset()

    async def _stop(self, member: Member) -> None:
        await member.session.stop()
        if member.task is not None:
            member.task.cancel()

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
        self._reset_backoffs()
        self._not_before = self._loop.time()
        for member in self._members.values():
            member.session.retry_now()
        self._changed.set()

    async def stop(self) -> None:
        """End all sessions politely; streams are cut. Then cancel :meth:`run`."""
        self._stopping = True
        async with asyncio.TaskGroup() as tasks:
            for member in list(self._members.values()):
                tasks.create_task(member.session.stop())

    # Streams.

    async def open_stream(self, timeout: float) -> StreamDuplex:
        """Return a stream on the best session. Cancelling is safe.

        Raises:
            NoSessionReady: There was none within ``timeout`` seconds; says why.
        """
        stream = self._try_open(may_wait=True)
        if stream is not None:
            return stream
        patient_until = self._loop.time() + GROWTH_PATIENCE
        self._waiting += 1
        self._dormant = False
        self._changed.set()
        try:
            async with asyncio.timeout(timeout), self._turn:
                while True:
                    may_wait = self._loop.time() < patient_until
                    stream = self._try_open(may_wait=may_wait)
                    if stream is not None:
                        return stream
                    await self._turn.wait()
        except TimeoutError:
            raise self._no_session(timeout) from None
        finally:
            self._waiting -= 1
            self._changed.set()

    @property
    def trouble(self) -> TunnelError | None:
        """What stands in the way of a session; ``None`` while one is ready."""
        sessions = [member.session for member in self._members.values()]
        if any(session.phase is Phase.READY for session in sessions):
            return None
        troubles = [self._trouble, *(session.trouble for session in sessions)]
        return next(filter(None, troubles), None)

    def _no_session(self, timeout: float) -> NoSessionReady:
        trouble = self.trouble
        if trouble is not None:
            why = str(trouble)
        elif self._ready.is_set():
            why = "all are in use, and there may be no more of them"
        else:
            why = "it is still being started"
        error = NoSessionReady(f"no session within {timeout:g} s: {why}")
        if trouble is not None:
            error.advice = trouble.advice
        return error

    def _try_open(self, *, may_wait: bool) -> StreamDuplex | None:
        views = self._views()
        growing = sum(not v.retiring for v in views) < self._policy.max_sessions or any(
            v.phase is Phase.STARTING for v in views
        )
        number = choose(views, self._policy_now(), may_wait=may_wait and growing)
        if number is None:
            return None
        stream = self._members[number].session.open_stream()
        self._changed.set()
        return stream

    def snapshot(self) -> PoolSnapshot:
        """Return what there is to see."""
        delay = self._not_before - self._loop.time()
        limit = self._lifespan.limit
        return PoolSnapshot(
            name=self._name,
            members=tuple(m.snapshot(limit) for m in self._members.values()),
            waiting=self._waiting,
            trouble=self.trouble,
            retry_in=delay if delay > 0 else None,
        )
