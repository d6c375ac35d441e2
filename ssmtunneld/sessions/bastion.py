"""An instance that is started on demand, and stopped when nobody needs it any more.

One for each target with ``start_target`` and identity of a process. `decide`
(``bastion_plan.py``) says what is next; here it is done, one call at a time, by
whichever of any number of tasks attends. A step that fails is followed by another look.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from typing_extensions import override

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.listeners import Listeners
from ssmtunneld.base.small_event import SmallEvent
from ssmtunneld.errors import (
    AccessDenied,
    AwsError,
    RequestRejected,
    TargetAsleep,
    TargetNotFound,
    TunnelError,
)
from ssmtunneld.sessions import bastion_plan
from ssmtunneld.sessions.bastion_plan import (
    Erase,
    Mark,
    Rest,
    Sight,
    Situation,
    Start,
    Step,
    Stop,
    Sweep,
    Use,
    Wait,
    Write,
    carry_over,
    decide,
    read_mark,
    write_mark,
)
from ssmtunneld.sessions.targeting import TargetSelector

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from ssmtunneld.aws.bastions import Instance
    from ssmtunneld.base.log import EventLog

RETRY: Final = 2.0
"""Seconds after a failure until the next look, while a connection waits."""
LONGEST_RETRY: Final = 30.0
"""Seconds between looks after failures, at most, while a connection waits."""
DOUBT: Final = 5.0
"""Seconds between looks because of a session without an agent, at least, and between
those of connections that come although they are refused."""
SWEEP_SPACING: Final = 300.0
"""Seconds between removals of marks that daemons have left behind, at least: some may
not be allowed, and one that was removed is still seen for a moment."""
START_DOUBT: Final = 120.0
"""Seconds after a StartInstances in which another one's answer tells nothing of who has
started the instance."""
STALENESS: Final = 15.0
"""Seconds after a start or a stop in which EC2's answers can be older than that."""
PATIENCE: Final = 240.0
"""Seconds for an agent to register, after which it is said that something is wrong."""
END_PATIENCE: Final = 15.0
"""Seconds at the end of the process for stopping what nobody else needs."""

_CHECK_AGENT: Final = (
    "check that the SSM agent starts with the instance, reaches Systems Manager, and "
    "that the instance's role has the policy AmazonSSMManagedInstanceCore"
)


STOP_IT: Final = (
    "it may run on: the next daemon with such a tunnel stops it; or stop it yourself: "
    "aws ec2 stop-instances"
)
"""The cure where the end came before the stop."""


def _never() -> float:
    return float("-inf")


class BastionCalls(Protocol):
    """The calls to AWS. All raise AwsError."""

    async def find(self) -> Instance:
        """Return the one instance, running or stopped."""
        ...

    async def start(self, instance: str) -> bool:
        """Start it; return False if it was starting or running already."""
        ...

    async def stop(self, instance: str) -> None:
        """Stop it."""
        ...

    async def write(self, instance: str, key: str, value: str) -> None:
        """Give it a tag."""
        ...

    async def erase(self, instance: str, key: str) -> None:
        """Take a tag from it."""
        ...

    async def sweep(self, instance: str, tags: Mapping[str, str]) -> None:
        """Take those tags from it that have these values."""
        ...

    async def is_connected(self, instance: str) -> bool:
        """Return whether its agent is connected."""
        ...

    async def strangers(self, instance: str) -> int:
        """Return the number of its sessions that are not of this process."""
        ...


class BastionUser(Protocol):
    """Connections that need the instance: a pool."""

    @property
    def busy(self) -> bool:
        """True if a connection is open or waits."""
        ...


class BastionPhase(StrEnum):
    """The condition of an instance, for its users."""

    UNKNOWN = "unknown"
    """Nobody has looked yet."""
    ASLEEP = "asleep"
    """It is stopped, or about to be, and nobody waits."""
    STOPPING = "stopping"
    """It is being stopped."""
    STARTING = "starting"
    """It is being started."""
    AWAITING_AGENT = "awaiting_agent"
    """It runs, and its agent is not connected yet."""
    AWAKE = "awake"
    """Sessions can be started."""


class Bastion:
    """One instance.

    Args:
        target: As the configuration spells it.
        calls: The calls to AWS.
        key: The key of its tag; no other daemon nor target has the same.
        by: The user and machine, for people who see the tag.
        stop_after: Seconds without connections after which it is stopped; None for
            never.
        wall_clock: Returns Unix seconds.
        log: For what happens to it.
    """

    def __init__(
        self,
        target: str,
        calls: BastionCalls,
        key: str,
        by: str,
        *,
        stop_after: float | None,
        wall_clock: Callable[[], float],
        log: EventLog,
    ) -> None:
        self._target = target
        self._calls = calls
        self._key = key
        self._former_key: str | None = None
        # What is found under a new key is of a daemon before us, until it is moved.
        self._is_key_new, self._is_mark_moved = True, False
        self._by = by
        self._stop_after = stop_after
        self._wall_clock = wall_clock
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._instance: Instance | None = None
        self._sight: Sight | None = None
        self._phase = BastionPhase.UNKNOWN
        self._failure: AwsError | None = None
        self._failures = 0
        self._said = ""
        self._used_at = float("-inf")
        self._was_busy = self._is_hurried = False
        self._wanted_until = float("-inf")
        self._used_elsewhere = _never
        self._leaving = self._is_handed_over = False
        self._last_step: Step | None = None
        self._started_at = self._looked_at = float("-inf")
        self._up_since = 0.0
        self._connected = False
        self._trusted = 0.0
        self._tried_at = self._stopped_at = self._swept_at = float("-inf")
        self._announced: dict[tuple[str, float], float] = {}
        self._users: set[BastionUser] = set()
        self._stirred = SmallEvent()
        self._turn = asyncio.Lock()
        self._listeners = Listeners("bastion")
        self.starts = self.stops = 0
        """Times that this process has started and stopped it."""

    # Observation.

    @property
    def awake(self) -> bool:
        """True if sessions can be started now."""
        return self._phase is BastionPhase.AWAKE

    @property
    def phase(self) -> BastionPhase:
        """The condition of the instance."""
        return self._phase

    @property
    def instance(self) -> str | None:
        """The instance's id, where it is known."""
        return None if self._instance is None else self._instance.id

    @property
    def state(self) -> str | None:
        """The instance's state in EC2's words, where it is known."""
        return None if self._sight is None else self._sight.state

    @property
    def end_patience(self) -> float:
        """The seconds that `leave` takes at most."""
        return 0.0 if self._stop_after is None else END_PATIENCE

    @property
    def is_ours(self) -> bool:
        """True if a daemon has started it, so that daemons may stop it."""
        return self._sight is not None and self._sight.is_ours

    @property
    def failure(self) -> AwsError | None:
        """The reason why the last step failed; None if it did not."""
        return self._failure

    @property
    def needed(self) -> bool:
        """True if a connection is open or waits, or a person has asked for it."""
        wanted = self._loop.time() < self._wanted_until
        return wanted or any(user.busy for user in self._users)

    @property
    def is_stopped_by_us(self) -> bool:
        """True if it is stopped once nobody has needed it for some time."""
        return self._stop_after is not None

    @property
    def kept_for(self) -> float:
        """Seconds for which it is kept without connections; not positive for none."""
        if self._stop_after is None:
            return 0.0
        used_at = max(self._used_at, self._used_elsewhere())
        return used_at + self._stop_after - self._loop.time()

    @property
    def hindrance(self) -> TunnelError | None:
        """The reason why no session can be started; None if one can."""
        if self.awake:
            return None
        return self._failure or TargetAsleep(clean(self._words()), self._advice())

    @property
    def refusal(self) -> TunnelError | None:
        """The reason why waiting is in vain; None if it is not."""
        lasting = AccessDenied | RequestRejected | TargetNotFound
        failure = self._failure
        return failure if not self.awake and isinstance(failure, lasting) else None

    def _words(self) -> str:
        name = self.instance or self._target
        match self._phase:
            case BastionPhase.UNKNOWN:
                return f"looking for bastion {name}"
            case BastionPhase.ASLEEP if self.state == "running":
                return f"bastion {name} runs unused; a connection wakes it"
            case BastionPhase.ASLEEP:
                return f"bastion {name} is asleep; a connection starts it"
            case BastionPhase.STOPPING:
                return f"bastion {name} is stopping"
            case BastionPhase.STARTING:
                return f"starting bastion {name}: {self.state}"
            case BastionPhase.AWAITING_AGENT:
                return f"bastion {name} runs, waiting for its agent"
            case BastionPhase.AWAKE:
                return ""
            case _:
                assert_never(self._phase)

    def _advice(self) -> str:
        late = self._loop.time() > self._up_since + PATIENCE
        waits = self._phase is BastionPhase.AWAITING_AGENT
        return _CHECK_AGENT if waits and late else ""

    # Users.

    @contextmanager
    def used_by(self, user: BastionUser) -> Iterator[None]:
        """Count ``user`` among those who need it, while the context lasts."""
        self._users.add(user)
        self._stirred.set()
        try:
            yield
        finally:
            if user.busy:
                self.note_use()
            self._users.discard(user)

    def telling(self, listener: Callable[[], None]) -> AbstractContextManager[None]:
        """Call ``listener`` after each change, for the duration of the context."""
        return self._listeners.telling(listener)

    def _tell(self) -> None:
        self._listeners.tell()

    def ask(self) -> None:
        """Wake it: a connection waits.

        If one waited before, the next look is due when it was: many that come must not
        make a flood of looks, least of all where AWS has asked for patience.
        """
        self.note_use()
        if self.awake:
            return
        if self.refusal is None:
            is_due = not self._is_hurried
        else:
            is_due = self._loop.time() > self._looked_at + DOUBT
        if is_due:
            self._failure = None
            self._stirred.set()

    def wake(self, patience: float) -> None:
        """Wake it for a person who has no connection yet.

        Args:
            patience: Seconds until it is left asleep after all.
        """
        if not self.awake:
            self._wanted_until = self._loop.time() + patience
        self.ask()

    def hurry(self) -> None:
        """Look again soon: there is a new login."""
        if self._failure is not None:
            self._stirred.set()

    def note_use(self) -> None:
        """Note that a connection needs it now."""
        self._used_at = self._loop.time()

    def doubt(self) -> None:
        """Look soon: a session found no agent there."""
        if self.awake and self._loop.time() > self._looked_at + DOUBT:
            self._connected = False
            self._stirred.set()

    def move_mark(self, key: str) -> None:
        """Keep the mark under ``key`` from now on, and go on from what stands there.

        For a daemon that takes the place of another one: as long as that runs, each of
        them must have a mark of its own.
        """
        if key == self._key:
            return
        self._former_key, self._key = self._key, key
        self._is_key_new, self._is_mark_moved = True, False
        if self._sight is not None and self._former_key in self._sight.marks:
            marks = {**self._sight.marks}
            marks[key] = marks.pop(self._former_key)
            self._sight = replace(self._sight, marks=marks)
        self._stirred.set()

    # Life.

    async def attend(self) -> None:
        """Look after it until cancelled.

        Any number of tasks can do so: one of them works, the rest wait. Without
        users it is looked after for as long as there is something to stop.
        """
        async with self._turn:
            while not self._leaving:
                self._stirred.clear()
                delay = await self._attend_once()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if self._is_settled else delay):
                        await self._stirred.wait()

    async def hand_over(self) -> None:
        """Give up the lease, and see a start through that may be on its way.

        For a process that leaves it to another one of this user, which knows of that.
        What AWS refuses is left: the lease ends by itself. Cancelling is safe.
        """
        self._is_handed_over = True
        try:
            async with self._turn:
                while True:
                    delay = await self._attend_once()
                    if self._failure is not None or self._is_done:
                        return
                    await asyncio.sleep(delay)
        finally:
            self._is_handed_over = False

    async def see_off(self, used_elsewhere: Callable[[], float] | None = None) -> None:
        """Look after it until it is stopped, or is for others to stop.

        For a process that nobody will ask again. Cancelling is safe.

        Args:
            used_elsewhere: Returns when processes have needed it last that have left it
                to this one, on the loop's clock. It is asked after each look at the
                marks: they tell first, and give up their leases after that.
        """
        self._used_elsewhere = used_elsewhere or _never
        quiet = False
        async with self._turn:
            while True:
                self._stirred.clear()
                delay = await self._attend_once()
                if self._is_done:
                    if quiet:
                        return
                    # What others have just written is not seen at once.
                    delay = bastion_plan.PAUSE
                quiet = self._is_done
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._stirred.wait()

    @property
    def _is_done(self) -> bool:
        """True if the last step found nothing that it must do now, or soon."""
        if self._failure is not None or self.needed:
            return False
        if self.is_ours and self.kept_for > 0 and not self._is_handed_over:
            return False
        if not isinstance(self._last_step, Use | Rest):
            return False
        own = self._sight.marks.get(self._key) if self._sight else None
        # Of a claim without a launch the start may still be on its way.
        return own is None or bool(own.launch) or not own.claim

    @property
    def _is_settled(self) -> bool:
        """True if nobody uses it, and a daemon before or after us changes nothing."""
        if self._users or self.is_ours or self._is_start_in_doubt:
            return False
        return self._sight is None or self._key not in self._sight.marks

    @property
    def _is_start_in_doubt(self) -> bool:
        """True if we have asked for a start that EC2 may not show yet."""
        own = None if self._sight is None else self._sight.marks.get(self._key)
        if own is None or not own.claim or own.launch or own.claim != self._trusted:
            return False
        return self._loop.time() < self._tried_at + START_DOUBT

    async def leave(self) -> bool:
        """Stop it if nobody else needs it; for the end of the process.

        Return False if it may run on although nobody needs it. Nothing else may be
        asked of it afterwards. Takes `END_PATIENCE` at most; if that is too little, or
        if it is cancelled, the log tells what may run on.
        """
        if self._stop_after is None or self._instance is None:
            return True
        if not (self.is_ours or self._is_start_in_doubt):
            return True
        self._leaving = True
        self._stirred.set()
        is_settled = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_PATIENCE), self._turn:
                    is_settled = await self._settle()
        finally:
            if not is_settled:
                self._log.warning(
                    "bastion.left", target=self._instance.id, advice=STOP_IT
                )
        return is_settled

    async def _settle(self) -> bool:
        """Stop it, or find out that others need it; return False if AWS refuses."""
        step: Step | None = None
        while True:
            gave_up = isinstance(step, Write | Erase)
            try:
                step = await self._step()
            except AwsError as error:
                self._report(error)
                return False
            if isinstance(step, Use | Stop) or self.state == "stopping":
                return True
            if isinstance(step, Erase) and self.state == "stopped":
                return True
            if isinstance(step, Rest) and not (gave_up or self._may_still_start):
                return True
            if isinstance(step, Rest | Wait):
                # What others have just written is not seen at once.
                await asyncio.sleep(min(self._delay(step.until), bastion_plan.PAUSE))

    @property
    def _may_still_start(self) -> bool:
        return self.state == "stopped" and self._is_start_in_doubt

    async def _attend_once(self) -> float:
        """Take a step; return the seconds until the next one."""
        # Whoever comes from now on is waited for as those are who are here.
        self._is_hurried = self.needed
        delay = await self._attempt()
        self._is_hurried &= delay <= LONGEST_RETRY
        return delay

    async def _attempt(self) -> float:
        try:
            step = await self._step()
        except AwsError as error:
            return self._fail(error)
        if self._failure is not None or self._failures:
            self._failure, self._failures, self._said = None, 0, ""
            self._tell()
        if isinstance(step, Use | Rest | Wait):
            until = step.until
            if self.kept_for > 0 and not self.needed:
                until = min(until, self._wall_clock() + self.kept_for)
            if self._phase is BastionPhase.AWAITING_AGENT:
                until = min(until, self._wall_clock() + bastion_plan.POLL)
            return self._delay(until)
        return 0.0

    def _delay(self, until: float) -> float:
        """Return the seconds until then; never so few that looks become a flood."""
        return max(bastion_plan.POLL / 2, until - self._wall_clock())

    def _fail(self, error: AwsError) -> float:
        self._failure = error
        self._failures += 1
        if self.refusal is not None:
            self._wanted_until = float("-inf")
        self._report(error)
        self._tell()
        if not self.needed:
            return bastion_plan.LOOK
        return min(LONGEST_RETRY, RETRY * 2.0 ** min(self._failures - 1, 8))

    def _report(self, error: AwsError) -> None:
        if str(error) != self._said:
            self._said = str(error)
            self._log.warning(
                "bastion.failed",
                target=self.instance or self._target,
                reason=str(error),
                advice=error.advice,
            )

    async def _step(self) -> Step:
        await self._look()
        await self._move()
        step = self._last_step = decide(self._situation())
        instance = self._instance
        assert instance is not None, "a step without a look"
        match step:
            case Use():
                await self._await_agent(instance)
            case Rest() | Wait():
                self._enter(self._phase_during(step))
            case Write(mark):
                await self._write(instance, mark)
            case Erase():
                await self._calls.erase(instance.id, self._key)
            case Sweep(keys):
                await self._sweep(instance, keys)
            case Start():
                await self._start(instance)
            case Stop():
                await self._stop(instance)
            case _:
                assert_never(step)
        return step

    def _phase_during(self, step: Rest | Wait) -> BastionPhase:
        if isinstance(step, Wait):
            stops = self.state == "running"
            return BastionPhase.STOPPING if stops else self._underway()
        starts = self.needed and self.state == "pending"
        return BastionPhase.STARTING if starts else BastionPhase.ASLEEP

    async def _look(self) -> None:
        self._looked_at = self._loop.time()
        found = await self._calls.find()
        if self._instance is None or found.id != self._instance.id:
            self._connected = False
        self._instance = found
        marks = {key: read_mark(text) for key, text in found.marks.items()}
        known = {key: mark for key, mark in marks.items() if mark is not None}
        state, now = found.state, self._loop.time()
        if state == "stopped" and now < self._started_at + STALENESS:
            state = "pending"
        if state == "running" and now < self._stopped_at + STALENESS:
            state = "stopping"
        before = self._sight
        self._sight = Sight(state, found.launched, known)
        if self._is_key_new and self._key in known:
            # Of a daemon before us: its connections may come again.
            self.note_use()
            if not self._awaits_launch(known):
                self._trusted = known[self._key].claim
        self._is_key_new = False
        if before is None or before.launched != found.launched or state != "running":
            self._connected = False
        self._note_announcements(known)

    def _awaits_launch(self, marks: dict[str, Mark]) -> bool:
        """Return True if we have claimed a start under the key of before."""
        former = None if self._former_key is None else marks.get(self._former_key)
        return former is not None and bool(former.claim) and not former.launch

    async def _move(self) -> None:
        """Carry the mark over from the key of before; what fails comes next time."""
        instance, sight = self._instance, self._sight
        assert instance is not None, "a move without a look"
        assert sight is not None, "a move without a look"
        if self._former_key is None or self._former_key not in sight.marks:
            return
        marks = {**sight.marks}
        former = marks.pop(self._former_key)
        if not self._is_mark_moved:
            own = marks.get(self._key)
            marks[self._key] = carry_over(former, own, sight.launched)
        # Whatever becomes of the calls: it is ours, and no other daemon's.
        self._sight = replace(sight, marks=marks)
        with suppress(AwsError):
            if not self._is_mark_moved:
                await self._put(instance, marks[self._key])
            await self._calls.erase(instance.id, self._former_key)

    async def _put(self, instance: Instance, mark: Mark) -> None:
        key = self._key
        await self._calls.write(instance.id, key, write_mark(mark))
        # It can have got another one during the call.
        self._is_mark_moved = key == self._key

    def _note_announcements(self, marks: dict[str, Mark]) -> None:
        now = self._wall_clock()
        self._announced = {
            (key, mark.stopping): self._announced.get((key, mark.stopping), now)
            for key, mark in marks.items()
            if mark.stopping and key != self._key
        }

    def _situation(self) -> Situation:
        busy = self.needed and not self._leaving
        if busy or self._was_busy:
            self.note_use()
        self._was_busy = busy
        assert self._sight is not None, "a situation without a look"
        return Situation(
            self._sight,
            self._key,
            self._by,
            self._wall_clock(),
            needed=busy,
            kept=self.kept_for > 0 and not (self._leaving or self._is_handed_over),
            may_stop=self._stop_after is not None,
            trusted=self._trusted,
            announced={key: seen for (key, _), seen in self._announced.items()},
            is_handed_over=self._is_handed_over,
            may_sweep=not self._leaving
            and self._loop.time() > self._swept_at + SWEEP_SPACING,
        )

    def _underway(self) -> BastionPhase:
        if self.state == "stopping":
            return BastionPhase.STOPPING
        if self.needed:
            return BastionPhase.AWAKE if self._connected else BastionPhase.STARTING
        return BastionPhase.ASLEEP

    def _enter(self, phase: BastionPhase) -> None:
        if phase is self._phase:
            return
        self._phase = phase
        name = self.instance or self._target
        if phase is BastionPhase.AWAKE:
            self._wanted_until = float("-inf")
            self._log.info("bastion.ready", target=name)
        elif phase is BastionPhase.AWAITING_AGENT:
            self._up_since = self._loop.time()
            self._log.info("bastion.running", target=name)
        self._tell()

    async def _await_agent(self, instance: Instance) -> None:
        if not self._connected:
            try:
                self._connected = await self._calls.is_connected(instance.id)
            except AccessDenied:
                self._connected = True  # StartSession will tell
        self._enter(
            BastionPhase.AWAKE if self._connected else BastionPhase.AWAITING_AGENT
        )

    async def _write(self, instance: Instance, mark: Mark) -> None:
        up = self._phase in {BastionPhase.AWAITING_AGENT, BastionPhase.AWAKE}
        if mark.stopping or not up:
            self._enter(self._underway())
        try:
            await self._put(instance, mark)
        except AwsError:
            # Nothing is started that nobody could stop, and nothing stopped that others
            # were not told of. But what runs is used: another daemon may stop it.
            if self.state == "running":
                await self._await_agent(instance)
            raise
        if mark.claim and not mark.launch:
            # The answer to an earlier call may still be unknown.
            in_doubt = self._loop.time() < self._tried_at + START_DOUBT
            self._trusted = mark.claim if in_doubt else 0.0
            self._log.info("bastion.claimed", target=instance.id, tag=self._key)

    async def _sweep(self, instance: Instance, keys: Collection[str]) -> None:
        """Remove marks of others; nothing else depends on it."""
        self._swept_at = self._loop.time()
        try:
            await self._calls.sweep(
                instance.id, {key: instance.marks[key] for key in keys}
            )
        except AwsError as error:
            self._log.debug("bastion.unswept", target=instance.id, reason=str(error))
        else:
            self._log.info("bastion.swept", target=instance.id, tags=len(keys))

    async def _start(self, instance: Instance) -> None:
        self._enter(BastionPhase.STARTING)
        own = self._situation().own
        is_first = self._loop.time() > self._tried_at + START_DOUBT
        self._tried_at = self._loop.time()
        if own is not None:
            self._trusted = own.claim
        try:
            was_us = await self._calls.start(instance.id)
        except (AccessDenied, RequestRejected):
            self._tried_at = float("-inf")  # it does not start later either
            raise
        self._started_at = self._loop.time()
        if was_us:
            self.starts += 1
            self._log.info("bastion.started", target=instance.id)
        elif is_first:
            # After a call whose answer was lost, this answer would be about that one.
            self._tried_at = float("-inf")
            self._trusted = 0.0

    async def _stop(self, instance: Instance) -> None:
        self._enter(BastionPhase.STOPPING)
        strangers = 0
        try:
            strangers = await self._calls.strangers(instance.id)
        except AwsError as error:
            self._log.debug("bastion.unseen", target=instance.id, reason=str(error))
        if strangers:
            # Somebody who leaves no mark, such as a person with a shell.
            self._log.info("bastion.kept", target=instance.id, sessions=strangers)
            self.note_use()
            if self._leaving:
                return
            self._stirred.set()
            return
        if self.needed and not self._leaving:
            return  # somebody has come during the call
        await self._calls.stop(instance.id)
        self._stopped_at = self._loop.time()
        self._connected = False
        self.stops += 1
        self._log.info("bastion.stopped", target=instance.id)


class BastionTargetSelector(TargetSelector):
    """The instance, while sessions can be started there.

    Args:
        bastion: Knows it.
    """

    def __init__(self, bastion: Bastion) -> None:
        self._bastion = bastion

    @override
    async def choose(self) -> str:
        hindrance, instance = self._bastion.hindrance, self._bastion.instance
        if hindrance is not None:
            raise hindrance
        assert instance is not None, "awake without an instance"
        return instance

    @override
    def avoid(self, target: str) -> None:
        """Look again: it had no agent."""
        self._bastion.doubt()
