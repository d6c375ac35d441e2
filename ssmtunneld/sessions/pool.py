"""The sessions of one tunnel: carries out plans, opens streams (design D5, D6)."""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final, assert_never

from ssmtunneld.base.compartment import Defects, run_compartment
from ssmtunneld.base.log import EventLog
from ssmtunneld.base.small_event import SmallEvent
from ssmtunneld.errors import (
    AccessMissing,
    ChannelClosed,
    NoSessionReady,
    StreamError,
    TrialLost,
    TunnelError,
    Unforeseen,
)
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.sessions.backoff import Retries
from ssmtunneld.sessions.basic import RecentDemand, is_refusal, refusal
from ssmtunneld.sessions.bursts import BurstMemory
from ssmtunneld.sessions.counters import PoolSnapshot, SessionCounters
from ssmtunneld.sessions.lifespan import Lifespan
from ssmtunneld.sessions.policy import (
    BURST_PATIENCE,
    Close,
    Phase,
    Policy,
    Retire,
    SessionView,
    Start,
    adapted,
    awaits_own,
    choose,
    find_stuck,
    may_wait,
    next_change,
    plan,
)
from ssmtunneld.sessions.pooled_session import PooledSession, session_for_probe
from ssmtunneld.sessions.session import Session
from ssmtunneld.sessions.start_queue import Urgency
from ssmtunneld.transport.streams import StreamDuplex

if TYPE_CHECKING:
    from ssmtunneld.sessions.bastion import Bastion
    from ssmtunneld.sessions.node_access import NodeAccess

TICK: Final = 1.0
"""Seconds between looks at the traffic, while there is any stream."""
STABLE_SESSION: Final = 30.0
"""Seconds that a session must have lived for its end not to count as a failure."""
MOST_EXPECTED: Final = 64
"""Connections that are remembered, and so sessions that are kept ready for the next
ones, where each connection needs its own."""
UNSENT_TICK: Final = 0.1
"""Seconds between looks at streams that cannot leave their sessions."""
STALL_TIMEOUT: Final = 900.0
"""Seconds of silence that end a session unless the service speaks for its agent; what
``stall_timeout`` is by default."""
MOST_TRIALS_LOST: Final = 8
"""Sessions that a pool loses in trials of larger messages in its life: enough for every
size, and an end to it where each agent is of another version."""
TRIAL_PATIENCE: Final = 5.0
"""Seconds for which connections must be ready to wait where a trial is made in the only
session: a connection that comes right then waits until another one is started."""
FORGETTING: Final = 600.0
"""Seconds between looks at how many sessions a burst of connections is still worth."""
SETTLING: Final = 0.02
"""Seconds after a stream was opened in which its first bytes go before the plans that
follow from it, and those of streams that are opened together are made together."""

IDLE_ADVICE: Final = (
    "set keep_alive below the account's idle timeout, or raise that in Session "
    "Manager's preferences"
)
"""Advice for an idle timeout that ``keep_alive`` does not reach."""


class PoolRetired(NoSessionReady):
    """The pool gives no more streams: another one has taken its place."""


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
        policy: The policy for the number of sessions.
        random: For jitter.
        log: Bound to the tunnel.
        lifespan: The greatest age of a session.
        respects_idle: The service's idle timeout is respected: a session that it ended
            unused is not replaced before a connection comes.
        counters: The totals; fresh if not given.
        defects: The record of defects, of one session or of planning.
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
        self._demand = RecentDemand(MOST_EXPECTED)
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._members: dict[int, PooledSession] = {}
        self._alive = 0
        self._retired = self._stopping = False
        self._unsent = 0
        """Streams that wait in sessions that cannot send."""
        self._waiters: deque[_Waiter] = deque()
        self._changed = SmallEvent()
        self._settling: asyncio.TimerHandle | None = None
        self._turn = asyncio.Condition()
        self._ready = SmallEvent()
        self._trouble: TunnelError | None = None
        self._retries = Retries(random)
        self._bursts = BurstMemory()
        self.stall_timeout = STALL_TIMEOUT
        """Seconds without an acknowledgement after which a session is given up if AWS
        does not say whether its agent is connected."""
        self.message_limit = MAX_PAYLOAD
        """Bytes of payload that a message can have if the agent takes them."""
        self.connect_timeout = STALL_TIMEOUT
        """Seconds that connections wait for a session."""
        self._trials_lost = 0
        self.first_urgency = Urgency.FIRST
        """The urgency of its first session while no connection waits for it."""
        self.access: NodeAccess | None = None
        """The access to the node, where somebody must ask for it."""
        self.bastion: Bastion | None = None
        """The instance, where it is started on demand."""

    # Supervision.

    @property
    def policy(self) -> Policy:
        """The policy; can be replaced at any time."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        self._changed.set()

    def retire(self) -> None:
        """Start nothing more: sessions end with their last stream, then :meth:`run`.

        Callers that wait for a stream, or ask for one later, get ``PoolRetired``.
        """
        self._retired = True
        self._fail_waiters(_retired)
        for member in self._members.values():
            self._retire(member, "the tunnel's settings have changed")
        self._changed.set()

    @property
    def defects(self) -> Defects:
        """The record of its defects."""
        return self._defects

    @property
    def ready(self) -> bool:
        """True if a session takes connections."""
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
            # Separate from the sessions: they live on while planning fails.
            await run_compartment("pool", lambda: self._supervise(tasks), self._defects)
        # The last sessions have ended only now; a task could wait for that.
        async with self._turn:
            self._turn.notify_all()

    async def _supervise(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._changed.clear()
            now = self._loop.time()
            self._learn(now)
            self._look_into_silence(tasks, now)
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
        """Carry out the plan; return the latest time of the next one."""
        views = self._views()
        policy = self._policy_now()
        wake_at = next_change(views, policy, now)
        # A stream that cannot leave its session waits for another one, too.
        waiting = len(self._waiters) + self._unsent
        for action in plan(views, policy, waiting=waiting, now=now):
            match action:
                case Start() if self._missing is not None or self._asleep is not None:
                    pass  # what ends that is followed by a call of `retry_now`
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
        if any(v.streams or v.stalled or v.traffic for v in views) or waiting:
            tick = now + (UNSENT_TICK if self._unsent else TICK)
            wake_at = min(tick, wake_at or tick)
        return self._look_again_at(now, wake_at)

    def _look_again_at(self, now: float, otherwise: float | None) -> float | None:
        """Return when to look again because of those that wait, and of bursts."""
        times = [] if otherwise is None else [otherwise]
        if self._waiters:
            # A little later, lest the time that it has waited be rounded down.
            due = self._waiters[0].asked_at + BURST_PATIENCE + 0.001
            if due > now:
                times.append(due)
        if self._bursts.expected(now):
            times.append(now + FORGETTING)
        return min(times, default=None)

    def _views(self) -> list[SessionView]:
        limit = self._lifespan.limit
        return [member.view(limit) for member in self._members.values()]

    def _learn(self, now: float) -> None:
        self._ready.clear()
        for member in list(self._members.values()):
            session = member.session
            session.message_limit = self.message_limit
            session.apply_message_size()
            member.measure(now)
            if session.terms is not None:
                self._basic = not session.terms.mux
            if session.failed:
                continue  # about to be dropped
            if session.phase is Phase.READY:
                self._counters.note_ready(session)
                self._trouble = None
                self._ready.set()
            if member.is_abandoned() and not member.retiring:
                self._retire(member, "nothing moves in it, and nobody uses it")
                session.cut("nothing moved in it, and nobody used it")
            if member.is_stale(now):
                self._retire(member, "the destination was refused repeatedly")
        stuck = find_stuck(self._members.values(), self._policy.max_sessions, now)
        if stuck is not None:
            self._retire(stuck, "nothing moves in it, and no other may be started")

    def _look_into_silence(self, tasks: asyncio.TaskGroup, now: float) -> None:
        """Tell dead sessions from those that a destination blocks (design D21)."""
        members = [m for m in self._members.values() if m.phase is not Phase.STARTING]
        suspected = any(member.is_suspicious(now) for member in members)
        for member in members:
            if member.look_into_silence(now, self.stall_timeout, suspected=suspected):
                name = f"{self._name} session {member.number} inquiry"
                tasks.create_task(self._inquire(member), name=name)

    async def _inquire(self, member: PooledSession) -> None:
        await self._defects.attempt("session", member.inquire)
        self._changed.set()

    def _policy_now(self, *, expecting: bool = True) -> Policy:
        return adapted(
            self._policy,
            limit=self._lifespan.limit,
            basic=self._basic,
            dormant=self._dormant,
            expected=self._expected() if expecting else 0,
        )

    def _expected(self) -> int:
        """Return how many connections could come together, from what came lately."""
        if not self._basic:
            return self._bursts.expected(self._loop.time())
        # Where sessions fail, only a waiting connection causes further starts.
        if self._trouble is not None:
            return 0
        return self._demand.peak(self._loop.time())

    def _retire(self, member: PooledSession, why: str) -> None:
        if not member.retiring:
            member.retiring = True
            self._log.info("session.retired", session=member.session.number, why=why)
            self._changed.set()

    def _may_start_at(self, now: float) -> float:
        if self._stopping or self._retired:
            return now + TICK
        return self._retries.next_start(wanted=bool(self._waiters))

    def _may_try_sizes(self) -> bool:
        """Say whether a session may be lost in a trial now (design D22)."""
        if self._waiters or self._unsent or self._retired or self._stopping:
            return False
        if self._trials_lost >= MOST_TRIALS_LOST:
            return False
        # The only session is tried before anybody knows of it. A connection that comes
        # in the same moment must be able to wait for the next one.
        return self._ready.is_set() or self.connect_timeout >= TRIAL_PATIENCE

    def _start(self, tasks: asyncio.TaskGroup, now: float) -> None:
        number = self._counters.next_number()
        self._retries.note_start(now)
        member = PooledSession(
            self._make_session(number, self._changed.set),
            now,
            respects_idle=self._respects_idle,
        )
        session = member.session
        session.urgency = lambda: self._urgency_of(session)
        session.message_limit = self.message_limit
        session.may_try_sizes = self._may_try_sizes
        session.ended = partial(self._drop, member)
        session.rescue = lambda stream: self._move(session, stream)
        self._members[number] = member
        self._shorten_keep_alive()
        name = f"{self._name} session {number}"
        member.task = tasks.create_task(self._host(member), name=name)

    async def _host(self, member: PooledSession) -> None:
        """Run a session in a compartment of its own."""
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
        self._alive += 1
        self._counters.enter(session)
        try:
            await session.run()
        except TunnelError as error:
            self._drop(member, error)
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            words = str(self._defects.note("session", error))
            self._drop(member, Unforeseen(words))
        finally:
            self._alive -= 1
            self._members.pop(session.number, None)
            self._changed.set()
            self._counters.leave(session, member.error)

    def _drop(self, member: PooledSession, error: TunnelError) -> None:
        """Forget a session that has ended by itself; told again, do nothing.

        Its end at the service takes a moment. Another one can be started at once.
        """
        if member.error is None:
            member.error = error
            self._members.pop(member.number, None)
            self._changed.set()
            self._note_end(member.session, error)

    def _note_end(self, session: Session, error: TunnelError) -> None:
        now = self._loop.time()
        if isinstance(error, TrialLost):
            self._trials_lost += 1
            return  # nobody's trouble: nobody had it, and the next one is not delayed
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
        if self._basic and isinstance(error, ChannelClosed) and is_refusal(error):
            # Whoever waited for it would be told the same, some sessions later. What
            # the agent found before a connection came says nothing to that one: the
            # destination can be back.
            self._fail_waiters(partial(refusal, error), until=session.created)
        if session.terms is not None and now >= session.created + STABLE_SESSION:
            self._retries.reset()
        delay = self._retries.note_end(error.recovery, now)
        self._log.warning(
            "session.ended",
            session=session.number,
            reason=str(error),
            advice=error.advice,
            ready=session.terms is not None,
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
        """The number of sessions to each target."""
        found = (m.session.target for m in self._members.values())
        return Counter(target for target in found if target is not None)

    def leave(self, target: str, why: str, *, cut: bool) -> None:
        """Send no more connections to ``target``; ``cut`` resets those that it has."""
        for member in self._members.values():
            if member.session.target == target:
                self._retire(member, why)
                if cut:
                    member.session.cut(why)

    def leave_all(self, missing: AccessMissing) -> None:
        """Use no session for new connections, because of ``missing`` access.

        Connections that are open keep theirs; those that wait are refused, unless the
        access is still to be decided.
        """
        for member in self._members.values():
            self._retire(member, str(missing))
        if not missing.pending:
            self._fail_waiters(partial(refused, missing))
        self._changed.set()

    async def wait_ready(self) -> None:
        """Return when a session is ready. Cancelling is safe."""
        await self._ready.wait()

    def check(self) -> None:
        """Check that all links are alive: the network could have changed."""
        for member in self._members.values():
            member.session.check()

    def retry_now(self) -> None:
        """Retry all failures at once: the network or a login has changed."""
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
        # A newcomer does not overtake connections that wait already.
        passes = not self._waiters and self._may_serve()
        stream = self._try_open(0.0) if passes else None
        if stream is not None:
            self._counters.opening.observe(0.0)
        return stream

    async def open_stream(self, timeout: float) -> StreamDuplex:
        """Return a stream on the best session. Cancelling is safe.

        Raises:
            NoSessionReady: There was none within ``timeout`` seconds, or none may be
                started; says why.
            DestinationRefused: A session that carries one connection ended with that.
            PoolRetired: Ask its successor.
        """
        if self._retired:
            raise _retired()
        stream = self.stream_at_once()
        if stream is not None:
            return stream
        self._check_access()
        self._wake_bastion()
        waiter = _Waiter(self._loop.time(), self._loop.create_future())
        self._waiters.append(waiter)
        self._dormant = False
        self._changed.set()
        for member in self._members.values():
            if member.session.queued:
                # It is more urgent than it was.
                member.session.reconsider_urgency()
            member.session.hurry_trial()
        try:
            async with asyncio.timeout(timeout):
                return await waiter.served
        except TimeoutError:
            _give_back(waiter)
            raise no_session(
                timeout,
                self._missing or self._asleep or self.trouble,
                in_use=self._ready.is_set(),
                start_reason=self._start_reason(),
            ) from None
        except asyncio.CancelledError:
            _give_back(waiter)
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self._changed.set()

    @property
    def _missing(self) -> AccessMissing | None:
        """The reason why no session may be started; None if one may."""
        return None if self.access is None else self.access.missing

    def _check_access(self) -> None:
        """Let a connection wait for an approval, if one can come.

        Raises:
            NoSessionReady: None can come.
        """
        missing = self._missing
        if self.access is None or missing is None:
            return
        if not missing.pending:
            raise refused(missing)
        self.access.hurry()

    @property
    def _asleep(self) -> TunnelError | None:
        """The reason why the instance takes no sessions; None if it takes some."""
        return None if self.bastion is None else self.bastion.hindrance

    def _wake_bastion(self) -> None:
        """Ask for the instance, where it is started on demand.

        Raises:
            NoSessionReady: It is known to be in vain.
        """
        if self.bastion is None:
            return
        self.bastion.ask()
        refusal = self.bastion.refusal
        if refusal is not None:
            raise refused(refusal)

    def give_up_waiting(self, reason: TunnelError) -> None:
        """Refuse the connections that wait: what they wait for does not come."""
        self._fail_waiters(partial(refused, reason))
        self._changed.set()

    @property
    def busy(self) -> bool:
        """True if a connection is open or waits."""
        streams = any(m.session.streams for m in self._members.values())
        return bool(streams or self._waiters)

    def _move_unsent(self) -> None:
        """Move streams that cannot leave their session to one that can send."""
        self._unsent = 0
        for member in list(self._members.values()):
            for stream in member.session.unsent:
                if not self._move(member.session, stream):
                    self._unsent += 1

    def _move(self, session: Session, stream: StreamDuplex) -> bool:
        """Move an unsent stream to another session; return False if none can take it.

        The agent has not heard of it, so nothing is lost or repeated.
        """
        others = (
            m
            for m in self._living
            if m.session is not session and m.session.takes_over and not m.stalled
        )
        # Where its own is over, it is either moved now or reset.
        number = choose(others, self._policy_now(), may_wait=not session.failed)
        if number is None:
            return False
        session.hand_over(stream, self._members[number].session)
        return True

    def _serve_waiters(self, now: float) -> None:
        """Serve the waiting connections, first come, first served (design D20)."""
        while self._waiters and self._may_serve():
            waiter = self._waiters[0]
            if not waiter.served.done():
                # Later connections have less patience, and would get nothing either.
                stream = self._try_open(now - waiter.asked_at)
                if stream is None:
                    return
                self._counters.opening.observe(now - waiter.asked_at)
                waiter.served.set_result(stream)
            self._waiters.popleft()

    def _may_serve(self) -> bool:
        return not self._retired and self._missing is None and self._asleep is None

    def _fail_waiters(
        self, make_error: Callable[[], StreamError], until: float = math.inf
    ) -> None:
        """Fail those that wait, of those only who came by a time of the loop's."""
        while self._waiters and self._waiters[0].asked_at <= until:
            waiter = self._waiters.popleft()
            if not waiter.served.done():
                waiter.served.set_exception(make_error())

    def _urgency_of(self, session: Session) -> Urgency:
        """Return the urgency of a session that waits for its start (design D20)."""
        queued = [m.session.number for m in self._members.values() if m.session.queued]
        place = queued.index(session.number) if session.number in queued else 0
        streams = self._policy.streams_per_session
        if place < -(-len(self._waiters) // streams):
            return Urgency.CLIENT
        if place < len(self._waiters):
            return Urgency.CROWD
        if place or self._ready.is_set():
            return Urgency.SPARE
        return self.first_urgency

    @property
    def trouble(self) -> TunnelError | None:
        """The reason why no session is ready; ``None`` while one is."""
        if any(member.phase is Phase.READY for member in self._living):
            return None
        sessions = (member.session for member in self._members.values())
        return next(filter(None, [self._trouble, *(s.trouble for s in sessions)]), None)

    def _start_reason(self) -> str:
        """Return why the first session that is not started yet waits, if known."""
        sessions = (member.session for member in self._members.values())
        return next(filter(None, (s.start_reason for s in sessions)), "")

    def _try_open(self, waited: float) -> StreamDuplex | None:
        number = self._choose(waited)
        if number is None:
            return None
        self._bursts.note(self._loop.time())
        if self.bastion is not None:
            self.bastion.note_use()
        stream = self._members[number].session.open_stream()
        self._demand.note(self._loop.time())
        if self._settling is None:
            self._settling = self._loop.call_later(SETTLING, self._on_settled)
        return stream

    @property
    def _living(self) -> list[PooledSession]:
        """Those that are not over: one that is can be there for another turn."""
        return [m for m in self._members.values() if not m.session.failed]

    def _choose(self, waited: float) -> int | None:
        """Return the session for a connection that has waited; None to wait on."""
        policy = self._policy_now()
        members = self._living
        number = choose(members, policy, may_wait=True)
        if number is None:
            patient = may_wait(members, self._policy.max_sessions, waited)
            return choose(members, policy, may_wait=patient)
        return None if awaits_own(members, policy, number, waited) else number

    def _on_settled(self) -> None:
        self._settling = None
        self._changed.set()

    def open_probe(self) -> StreamDuplex | None:
        """Return a stream that does not count as use, if there is a session for it."""
        session = session_for_probe(self._living, respects_idle=self._respects_idle)
        return None if session is None else session.open_stream(counted=False)

    @property
    def rtt(self) -> float | None:
        """The round-trip time of the busiest session, in seconds."""
        # Those of the other sessions can be from long ago.
        now = self._loop.time()
        found = [(m.gauge.rate, m.rtt(now)) for m in self._members.values()]
        return max((f for f in found if f[1] is not None), default=(0.0, None))[1]

    def snapshot(self) -> PoolSnapshot:
        """Return what there is to see."""
        limit, now = self._lifespan.limit, self._loop.time()
        return PoolSnapshot(
            name=self._name,
            members=tuple(m.snapshot(limit, now) for m in self._members.values()),
            waiting=len(self._waiters),
            trouble=self.trouble,
            retry_in=self._retries.left(self._loop.time()),
            warm=self._policy_now(expecting=False).warm,
            start_reason=self._start_reason(),
            counts=self._counters.read(),
        )


def no_session(
    waited: float, trouble: TunnelError | None, *, in_use: bool, start_reason: str = ""
) -> NoSessionReady:
    """Return the error of a connection that got no session.

    Args:
        waited: Seconds.
        trouble: The reason why no session is ready, if known.
        in_use: There are sessions, but none with room.
        start_reason: The reason why the next one is not started yet.
    """
    if trouble is not None:
        why = str(trouble)
    elif in_use:
        why = "all sessions are busy and max_sessions is reached"
    elif start_reason:
        why = f"it waits to be started, {start_reason}"
    else:
        why = "it is still being started"
    error = NoSessionReady(f"no session within {waited:g} s: {why}")
    if trouble is not None:
        error.advice = trouble.advice
    elif in_use:
        error.advice = "raise max_sessions of the tunnel, or close connections"
    else:
        error.advice = "try again in a moment, or raise connect_timeout of the tunnel"
    return error


def refused(missing: TunnelError) -> NoSessionReady:
    """Return the error of a connection for which no session may be started."""
    error = NoSessionReady(f"no session: {missing}")
    error.advice = missing.advice
    return error


def _retired() -> PoolRetired:
    return PoolRetired("the tunnel's settings have changed meanwhile")


def _give_back(waiter: _Waiter) -> None:
    """Abort a stream that was granted in the very turn in which its caller left."""
    served = waiter.served
    if served.done() and not served.cancelled() and served.exception() is None:
        served.result().abort()
