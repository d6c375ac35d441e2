"""One SSM session, from its grant to its termination."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import field, replace
from functools import partial
from random import Random
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

from ssmtunneld.aws.api.port import Control, Grant, SessionRequest
from ssmtunneld.base.foreign import clean
from ssmtunneld.base.log import EventLog
from ssmtunneld.base.record import Record
from ssmtunneld.base.sentences import with_advice
from ssmtunneld.base.small_event import SmallEvent
from ssmtunneld.errors import (
    AgentUnresponsive,
    AwsError,
    ChannelClosed,
    LinkError,
    LinkLost,
    LinkRefused,
    LinkUnreachable,
    SessionError,
    SessionGone,
    TargetNotConnected,
    Throttled,
    TunnelError,
)
from ssmtunneld.protocol.channel import ChannelStatistics, DataChannel
from ssmtunneld.protocol.handshake import Terms
from ssmtunneld.protocol.message import MAX_PAYLOAD, Flag
from ssmtunneld.protocol.window import WindowBudget
from ssmtunneld.sessions.backoff import Backoff
from ssmtunneld.sessions.gap_detector import GapDetector
from ssmtunneld.sessions.keepalive import KeepAlive
from ssmtunneld.sessions.message_sizes import NAME_LIMIT, AgentKind, MessageSizes
from ssmtunneld.sessions.policy import Phase
from ssmtunneld.sessions.silence import Answer, Signs
from ssmtunneld.sessions.size_trial import TOO_BIG, SizeTrial
from ssmtunneld.sessions.start_queue import StartQueue, StartSlot, Urgency
from ssmtunneld.sessions.targeting import FixedTargetSelector, TargetSelector
from ssmtunneld.smux.mux import MuxStatistics
from ssmtunneld.transport.basic_port import BasicPort
from ssmtunneld.transport.channel_timing import Pauses
from ssmtunneld.transport.driver import Driver
from ssmtunneld.transport.link import Link
from ssmtunneld.transport.mux_port import MuxPort
from ssmtunneld.transport.ports import Buffers, Pending
from ssmtunneld.transport.streams import StreamDuplex

STABLE_LINK: Final = 1.0
"""Seconds that a websocket must have lived for its loss not to count as a failure."""
TERMINATE_TIMEOUT: Final = 5.0
"""Seconds for the API call that ends a session; then it is left to idle out."""
FAREWELL_TIMEOUT: Final = 2.0
"""Seconds for the agent to end a session that was told to (protocol appendix A)."""
HELD_UP_TIME: Final = 0.1
"""Seconds beyond a round trip without acknowledgement after which a session is not a
choice for a new connection."""
CHECK_TIMEOUT: Final = 5.0
"""Seconds for a sign of life after a sleep or a change of network (design D4)."""
RESUME_TIME: Final = 1200.0
"""Seconds for which resuming is tried: the service's default idle timeout (protocol
1.8)."""
SAME_TOKEN_ATTEMPTS: Final = 3
"""Dials with the token of StartSession before ResumeSession is asked for another."""

_STOPPED: Final = clean("the tunnel was stopped")


class SessionSettings(Record):
    """Settings of one session. Times are in seconds."""

    keep_alive: float | None = 300.0
    """Interval of NOPs against the service's idle timeout; ``None`` respects it."""
    buffers: Buffers = field(default_factory=Buffers)


class SessionDependencies(Record):
    """Everything outside of this room that a session uses; tests pass fakes."""

    control: Control
    connect: Callable[[Grant], Awaitable[Link]]
    random: Random
    new_id: Callable[[], bytes]
    """Returns 16 random bytes."""
    wall_clock_ms: Callable[[], int]
    limiter: StartQueue
    """The queue of StartSession calls; shared by all of one account and region."""
    sizes: MessageSizes | None = None
    """Known sizes of larger messages; ``None`` where none are used."""
    window_budget: WindowBudget = field(default_factory=WindowBudget)
    """The bytes that all sessions of the process may have unacknowledged."""


class Session:
    """One session's life: start, handshake, resume after every loss, terminate.

    Args:
        number: Its number within the pool.
        request: The parameters of StartSession.
        dependencies: Everything outside of this room that it uses.
        settings: Its settings.
        log: The log of its tunnel.
        changed: Called after each change of phase.
        selector: Chooses the target; by default it is the request's.
    """

    def __init__(
        self,
        number: int,
        request: SessionRequest,
        dependencies: SessionDependencies,
        settings: SessionSettings,
        *,
        log: EventLog,
        changed: Callable[[], None],
        selector: TargetSelector | None = None,
    ) -> None:
        self.number = number
        self.session_id: str | None = None
        self.target: str | None = None
        """The target of the session, once it is chosen."""
        self.phase = Phase.STARTING
        self.terms: Terms | None = None
        self.trouble: TunnelError | None = None
        """The error that keeps it from being ready; ``None`` while it is."""
        self.took: float | None = None
        """Seconds from its start until it took connections."""
        self.resumes = 0
        """The number of lost websockets that were replaced."""
        self.queued = False
        """True while it waits in the start queue."""
        self._choosing = False
        self.urgency: Callable[[], Urgency] = lambda: Urgency.SPARE
        """Returns its urgency; called while it waits in the start queue."""
        self.message_limit = MAX_PAYLOAD
        """Bytes of payload that a message can have if the agent takes them."""
        self.may_try_sizes: Callable[[], bool] = lambda: False
        """Returns True if it may be lost in a trial; called before each trial."""
        self.ended: Callable[[TunnelError], None] = lambda _: None
        """Called with what :meth:`run` will raise, once it is known: TerminateSession,
        which comes first, takes a moment, and another session can take its place."""
        self.rescue: Callable[[StreamDuplex], object] = lambda _: None
        """Called with each stream of which nothing was sent, before it is cut because
        the session has ended: it can be handed over."""
        self._request = request
        self._selector = selector or FixedTargetSelector(request.target)
        self._dependencies = dependencies
        self._settings = settings
        self._log = log.bind(session=number)
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self.since = self.created = self._loop.time()
        """The times of its phase's begin and of its creation, on the loop's clock."""
        self._channel = DataChannel(
            client_id=str(uuid4()),
            new_id=dependencies.new_id,
            wall_clock_ms=dependencies.wall_clock_ms,
            budget=dependencies.window_budget,
        )
        self._driver = Driver(self._channel, self._open_port)
        self._port: MuxPort | BasicPort | None = None
        self._nops = KeepAlive(settings.keep_alive, self._say_farewell)
        self._hole = GapDetector(self.since)
        self._kind: AgentKind | None = None
        self._endpoint = ""
        self._trial: SizeTrial | None = None
        self._over, self._retry = SmallEvent(), SmallEvent()
        self._stopping = self._given_up = False
        self._reported = ""
        self._backoff = Backoff(dependencies.random, base=0.2, cap=10.0)

    # Life.

    async def run(self) -> None:
        """Live until told to stop. Cancelling terminates the session at the service.

        Raises:
            TunnelError: The session could not be started, or ended. Its streams are
                cut by then.
        """
        try:
            self.target = await self._choose()
            place = await self._wait_for_turn()
            # Waiting in the start queue does not count as age.
            self.since = self.created = self._loop.time()
            grant = await self._start(replace(self._request, target=self.target), place)
            self.session_id = grant.session_id
            self._log = self._log.bind(session_id=grant.session_id)
            self._endpoint = urlsplit(grant.stream_url).netloc[:NAME_LIMIT]
            self._log.info("session.started", target=self.target)
            await self._live_and_terminate(grant)
        finally:
            self._over.set()

    async def _choose(self) -> str:
        self._choosing = True
        try:
            return await self._selector.choose()
        finally:
            self._choosing = False

    async def _wait_for_turn(self) -> StartSlot:
        self.queued = True
        try:
            return await self._dependencies.limiter.place(self._ask_urgency)
        finally:
            self.queued = False

    async def _start(self, request: SessionRequest, place: StartSlot) -> Grant:
        limiter = self._dependencies.limiter
        try:
            grant = await self._dependencies.control.start(request, answered=place.free)
        except Throttled:
            limiter.note_throttled()
            raise
        except TargetNotConnected:
            self._selector.avoid(request.target)
            raise
        limiter.note_served()
        return grant

    def _ask_urgency(self) -> Urgency:
        return self.urgency()

    @property
    def start_reason(self) -> str:
        """The reason why it is not started yet, as a clause; empty if none is known.

        It waits in the start queue, or for the search for its target.
        """
        if self._choosing:
            return self._selector.reason
        if not self.queued:
            return ""
        return self._dependencies.limiter.reason_for(self._ask_urgency)

    def reconsider_urgency(self) -> None:
        """Look at its urgency again: a connection has begun to wait for it."""
        self._dependencies.limiter.reconsider()

    async def _live_and_terminate(self, grant: Grant) -> None:
        ended_there = False
        try:
            await self._live(grant)
        except TunnelError as error:
            # What cannot be resumed can still exist at the service: because we lost
            # patience, or because an answer without a token was not the last word.
            ended_there = isinstance(error, ChannelClosed)
            if ended_there and not self._stopping:
                self._doubt_size()
            if isinstance(error, SessionError):
                self._end(error)
            if not (self._stopping and isinstance(error, ChannelClosed | SessionGone)):
                self.ended(error)
                raise
        finally:
            self._nops.stop()
            if self._trial is not None:
                self._trial.stop()
            self._end(ChannelClosed(_STOPPED))
            if not ended_there:
                await self._terminate(grant.session_id)

    async def _live(self, grant: Grant) -> None:
        unused_dials = 0
        while True:
            linked_at = float("inf")
            try:
                link = await self._dependencies.connect(grant)
                linked_at = self._loop.time()
                unused_dials = SAME_TOKEN_ATTEMPTS
                await self._use(link, grant)
            except LinkRefused as error:
                unused_dials = SAME_TOKEN_ATTEMPTS
                self._lose(error)
            except LinkError as error:
                unused_dials += 1
                self._lose(error)
            if self._loop.time() >= linked_at + STABLE_LINK:
                self._backoff.reset()
            else:
                await self._pause(self._backoff.next())
            if unused_dials >= SAME_TOKEN_ATTEMPTS:
                grant = await self._resume(grant)
                unused_dials = 0

    async def _use(self, link: Link, grant: Grant) -> None:
        if self.terms is not None:
            self.resumes += 1
            self._log.info("session.resumed", streams=self.streams)
            self._opened()
        try:
            await self._driver.run(link, grant.token)
        except (LinkError, ChannelClosed) as error:
            if self._trial is not None and self._trial.under_way:
                # Resumed, it would only send the same again.
                raise self._trial.lost_with(error) from None
            raise

    def _doubt_size(self) -> None:
        """Note that it ends while larger messages of a user are on their way."""
        sizes = self._dependencies.sizes
        if sizes is not None and self._kind is not None and self._channel.large_unacked:
            sizes.doubt(self._kind, self._loop.time())
            self._log.info("size.doubted", size=self._driver.message_limit)

    def _give_up_large(self, error: LinkError) -> None:
        """End it if the service takes its large messages no more: it cannot cut them.

        Raises:
            SessionGone: It does not.
        """
        too_big = isinstance(error, LinkLost) and error.code == TOO_BIG
        if too_big and self._channel.large_unacked:
            self._doubt_size()
            assert self.session_id is not None, "linked before it was started"
            raise SessionGone(self.session_id, clean(str(error)))

    def _lose(self, error: LinkError) -> None:
        self._give_up_large(error)
        self.trouble = error
        self._nops.stop()
        self._report(error)
        if self.phase is Phase.READY:
            self._enter(Phase.RESUMING)
        else:
            self._changed()

    def _report(self, error: LinkError) -> None:
        if not isinstance(error, LinkUnreachable | LinkRefused):
            self._log.info("link.lost", reason=str(error), streams=self.streams)
        elif str(error) != self._reported:
            # Once, however often it is tried again.
            self._reported = str(error)
            self._log.warning("link.failed", reason=str(error), advice=error.advice)

    async def _resume(self, grant: Grant) -> Grant:
        deadline = self.since + RESUME_TIME
        while True:
            try:
                resumed = await self._dependencies.control.resume(grant.session_id)
            except AwsError as error:
                # Also when access is denied or credentials have expired: none of this
                # ends the session at the service (protocol 1.7).
                self.trouble = error
                self._log.warning(
                    "session.resume_failed", reason=str(error), advice=error.advice
                )
                self._changed()
                if self.terms is None:
                    # It never carried anything: another one is as good.
                    raise
                if self._loop.time() >= deadline:
                    raise self._give_up(error) from None
                await self._pause(self._pause_after(error))
            else:
                return resumed

    def _pause_after(self, error: AwsError) -> float:
        pause = self._backoff.next()
        if not isinstance(error, Throttled):
            return pause
        # The whole account's calls slow down, this one too.
        return pause + self._dependencies.limiter.note_throttled()

    def _give_up(self, error: AwsError) -> SessionGone:
        assert self.session_id is not None, "resumed before it was started"
        gone = SessionGone(self.session_id, clean(f"not resumed in time; {error}"))
        gone.advice = error.advice
        return gone

    async def _pause(self, seconds: float) -> None:
        self._retry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._retry.wait()

    def check(self) -> None:
        """Check that the link is alive, or lose it."""
        self._driver.check(CHECK_TIMEOUT)

    def retry_now(self) -> None:
        """End a wait between attempts, and check that the link is alive."""
        self._backoff.reset()
        self._retry.set()
        self.check()

    async def _terminate(self, session_id: str) -> None:
        limit = asyncio.timeout(TERMINATE_TIMEOUT)
        try:
            with suppress(TimeoutError):
                async with limit:
                    await self._dependencies.control.terminate(session_id)
        except TunnelError as error:
            self._log.warning("session.abandoned", reason=str(error))
        finally:
            # Until Python 3.11.3 a task that is being cancelled gets no TimeoutError.
            if limit.expired():
                self._log.warning("session.abandoned", reason="timed out")

    async def stop(self) -> None:
        """Ask the agent to end the session; return when it has, or after two seconds.

        Streams are cut. Afterwards cancel the task of :meth:`run`, which terminates the
        session by the API if the agent did not.
        """
        self._stopping = True
        if self._port is not None:
            # Now, or a basic session's end would be taken for that of its destination.
            self._port.fail(ChannelClosed(_STOPPED))
        terms = self.terms
        if self.phase is Phase.READY and terms and terms.understands_terminate:
            self._say_farewell()
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_TIMEOUT):
                    await self._over.wait()

    def cut(self, why: str) -> None:
        """Reset all streams; then the session is stopped."""
        self._stopping = self._given_up = True
        if self._port is not None:
            self._port.fail(ChannelClosed(clean(why)))
        self._changed()

    def _end(self, error: SessionError) -> None:
        self._channel.close(error)
        if self._port is not None:
            self._port.fail(error)

    # Data.

    def _open_port(self, terms: Terms) -> MuxPort | BasicPort:
        self.terms = terms
        buffers = self._settings.buffers
        if terms.mux:
            self._port = MuxPort(self._driver, buffers, self, rescue=self._orphan)
        else:
            self._port = BasicPort(
                self._driver,
                buffers,
                self._finish_single,
                ends_with=not terms.redials,
                session=self,
            )
        if terms.notice:
            self._log.info("agent.said", notice=terms.notice)
        sizes = self._dependencies.sizes
        if terms.mux and sizes is not None:
            self._kind = AgentKind(terms.agent_version, self._endpoint)
            self._trial = SizeTrial(
                self._driver,
                sizes,
                self._kind,
                limit=lambda: self.message_limit,
                allowed=self.may_try_sizes,
                done=partial(self._offer, terms),
                log=self._log,
            )
            self._trial.begin()
        else:
            self._offer(terms)
        return self._port

    def _orphan(self, stream: StreamDuplex) -> None:
        if not self._stopping:
            self.rescue(stream)

    def _offer(self, terms: Terms) -> None:
        """Be ready for connections from now on."""
        self.took = self._loop.time() - self.created
        self._log.info(
            "session.ready",
            agent=terms.agent_version,
            mode="mux" if terms.mux else "basic",
            took_ms=round(self.took * 1000),
        )
        self._opened()
        self.apply_message_size()

    def apply_message_size(self) -> None:
        """Use messages of the size that is known by now, and allowed."""
        sizes = self._dependencies.sizes
        if sizes is not None and self._kind is not None:
            self._driver.message_limit = sizes.allowed(self._kind, self.message_limit)

    def hurry_trial(self) -> None:
        """Be ready soon, or be lost: a connection has begun to wait."""
        if self._trial is not None:
            self._trial.hurry()

    @property
    def trials_accepted(self) -> int:
        """Trials of larger messages that its agent has acknowledged."""
        return 0 if self._trial is None else self._trial.accepted

    def _opened(self) -> None:
        self.trouble = None
        self._reported = ""
        self._enter(Phase.READY)
        if self._port is not None and self.terms is not None:
            self._nops.start(self.terms, self._port)

    def _finish_single(self) -> None:
        # Behind the turn of the loop in which the driver sends the last bytes.
        if not self._stopping:
            self._stopping = True
            self._loop.call_soon(self._say_farewell)
            self._changed()

    @property
    def keep_alive(self) -> float | None:
        """Seconds between NOPs against the service's idle timeout; None for none."""
        return self._nops.interval

    def shorten_keep_alive(self, interval: float) -> None:
        """Send NOPs every ``interval`` seconds if it was less often; not if never."""
        self._nops.shorten(interval)

    def _say_farewell(self) -> None:
        self._driver.send_flag(Flag.TERMINATE_SESSION)

    def open_stream(self, *, counted: bool = True) -> StreamDuplex:
        """Return a new stream to the destination; the session must be ready."""
        assert self._port is not None, "open_stream() before the session is ready"
        return self._port.open_stream(counted=counted)

    @property
    def failed(self) -> bool:
        """True once its streams are cut, whatever its phase: it is over, or stopped."""
        return self._port is not None and self._port.failed

    @property
    def unsent(self) -> Sequence[StreamDuplex]:
        """Streams of which nothing was sent, while nothing can be sent."""
        waits = self._port is not None and (self.held_up or not self._channel.room)
        return self._port.unsent if waits and self._port is not None else ()

    def hand_over(self, stream: StreamDuplex, other: "Session") -> None:
        """Move an unsent stream to ``other``, which is ready."""
        port = self._port
        assert isinstance(port, MuxPort), "the stream of a basic session never waits"
        other.take_over(stream, port.withdraw(stream))

    def take_over(self, stream: StreamDuplex, pending: Pending) -> None:
        """Take over an unsent stream of another session."""
        port = self._port
        assert isinstance(port, MuxPort), "a basic session takes no stream of another"
        port.adopt(stream, pending)

    @property
    def takes_over(self) -> bool:
        """True if it can take over streams of another session."""
        return isinstance(self._port, MuxPort)

    @property
    def attended(self) -> int:
        """Streams that are open on our side."""
        return 0 if self._port is None or self._given_up else self._port.attended

    @property
    def streams(self) -> int:
        """Streams that are not yet over."""
        return 0 if self._port is None or self._given_up else self._port.streams

    @property
    def moved_bytes(self) -> int:
        """Bytes of payload both ways."""
        return 0 if self._port is None else self._port.moved_bytes

    @property
    def unanswered(self) -> int | None:
        """The oldest stream whose destination has not answered what was sent to it."""
        return None if self._port is None else self._port.unanswered

    @property
    def refusals(self) -> int:
        """Destinations refused in a row."""
        return 0 if self._port is None else self._port.refusals

    @property
    def exhausted(self) -> bool:
        """True if no further stream can be opened."""
        return self._port is not None and not self._port.available

    @property
    def reading_stopped(self) -> bool:
        """True while the session is not read because of a slow local reader (D7)."""
        return self._driver.reading_stopped

    @property
    def undelivered(self) -> bool:
        """True while it resumes with data that the agent has not acknowledged."""
        if self._given_up or self.phase is not Phase.RESUMING:
            return False
        return self._driver.statistics().unacked > 0

    @property
    def pauses(self) -> Pauses:
        """For how long nothing of ours has reached the service, now and before."""
        return self._driver.pauses

    def look_for_hole(self, now: float) -> None:
        """End the session if what is missing in it will never come."""
        if self.phase is Phase.READY and self._port is not None:
            self._hole.examine(now, self._driver, self._port)

    @property
    def held_up(self) -> bool:
        """True if the agent has been silent for longer than it takes to answer.

        Nothing was acknowledged for a round trip and ``HELD_UP_TIME``: the agent cannot
        write to a destination, and all that is sent now waits behind that.
        """
        return self.silent_for >= HELD_UP_TIME

    @property
    def silent_for(self) -> float:
        """Seconds beyond a round trip for which nothing new was acknowledged."""
        return self._driver.silent_for

    def signs(self, *, suspected: bool) -> Signs:
        """Return what is known of its silence; see :class:`Signs`."""
        return Signs(
            listening=self.phase is Phase.READY and not self._driver.reading_stopped,
            streams=self.attended,
            silent_for=self._driver.silent_for,
            quiet_for=self._loop.time() - self._driver.heard_at,
            delivered=self._driver.delivered,
            suspected=suspected,
        )

    def ask_agent(self) -> None:
        """Send what the agent must acknowledge; a basic session has no such thing."""
        if self._port is not None:
            self._port.nop()

    async def ask_service(self, before: Answer | None) -> Answer:
        """Ask whether the service hears of the agent; log what is new about that.

        Cancelling is safe.

        Args:
            before: The answer before, about the same silence.
        """
        assert self.target is not None, "asked before it was started"
        why = ""
        try:
            connected = await self._dependencies.control.is_connected(self.target)
        except AwsError as error:
            answer, why = Answer.UNKNOWN, with_advice(str(error), error.advice)
        else:
            answer = Answer.CONNECTED if connected else Answer.NOT_CONNECTED
        if answer is not before:
            self._log.warning(
                "agent.silent",
                seconds=round(self.silent_for),
                streams=self.streams,
                service=answer.value,
                reason=why,
            )
        return answer

    def give_up(self, silence: float, evidence: str) -> None:
        """End it, and with it its streams: the agent will say nothing more.

        Args:
            silence: Seconds without an acknowledgement.
            evidence: What speaks against the agent, as a clause.
        """
        target = self.target or self._request.target
        error = AgentUnresponsive(target, silence, clean(evidence))
        self._driver.close(error)

    @property
    def behind(self) -> float:
        """Seconds that the agent has spent on repeating, or has to: the greater one."""
        return self._driver.behind

    def statistics(self) -> tuple[ChannelStatistics, MuxStatistics | None]:
        """Return snapshots of the channel and of its streams."""
        port = self._port
        return self._channel.statistics(), port.statistics() if port else None

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self._loop.time()
        self._changed()
