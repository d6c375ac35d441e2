"""One direction of a client's link: a bounded queue behind the faults.

``offer`` decides what becomes of a message; it never waits. Messages leave in batches,
because one wake-up for each of them would be most of the cost.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from ssmtunneld.emulator.faults import Direction, FaultPlan
from ssmtunneld.protocol.message import MessageType

HOLD_LIMIT: Final = 0.05
"""Seconds after which an overtaken message goes on although nothing overtook it."""
MOST_OVERTAKING: Final = 5
TURNS_OF_OTHERS: Final = 5

_ACKNOWLEDGE: Final = MessageType.ACKNOWLEDGE.value.encode()
_TYPE: Final = slice(4, 4 + len(_ACKNOWLEDGE))


async def give_way() -> None:
    """Let the tasks of other sessions pass a message on, from its arrival to its end.

    Real agents run on machines of their own; here one that is busy would hold up all
    the rest, for nothing that it does ever has to wait.
    """
    for _ in range(TURNS_OF_OTHERS):
        await asyncio.sleep(0)


@dataclass(slots=True)
class LaneStatistics:
    """Messages that passed since the session began."""

    messages: int = 0
    bytes: int = 0
    lost: int = 0
    """By a fault, or because the peer was away and the lane was full."""
    duplicated: int = 0
    reordered: int = 0


@dataclass(slots=True)
class _Held:
    data: bytes
    overtakers: int
    deadline: float


class Lane:
    """A queue of messages from one peer to the other.

    Args:
        direction: Which way.
        plan: The faults in force; read for each message.
        random: Where chance comes from; own to this lane, so that a seed repeats it.
        capacity: Messages that are held before ``put`` waits.
    """

    def __init__(
        self, direction: Direction, plan: FaultPlan, random: Random, capacity: int
    ) -> None:
        self.statistics = LaneStatistics()
        self.receiver_away = False
        """Nobody takes messages: what exceeds the capacity is dropped."""
        self._shut = False
        self._direction = direction
        self._plan = plan
        self._random = random
        self._capacity = capacity
        self._held: list[_Held] = []
        self._delayed: deque[tuple[float, bytes]] = deque()
        self._ready: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._timer: asyncio.Handle | None = None
        # uvloop queues what is due like any callback: its handle knows no time.
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._ready) + len(self._delayed) + len(self._held)

    @property
    def full(self) -> bool:
        """True if a sender must wait in `room`."""
        if self._shut or self.receiver_away:
            return False
        return len(self) >= self._capacity

    def offer(self, data: bytes) -> None:
        """Take ``data``, or lose it as the faults will; never waits."""
        self.statistics.messages += 1
        self.statistics.bytes += len(data)
        if self._shut or (self.receiver_away and len(self) >= self._capacity):
            self.statistics.lost += 1
        elif self._plan.untouched[self._direction] and not (
            self._held or self._delayed
        ):
            self._ready.append(data)
            self._arrived.set()
        else:
            self._spoil(data, asyncio.get_running_loop().time())

    def insert(self, data: bytes) -> None:
        """Take ``data`` from the service itself, past all faults; never waits."""
        self._ready.append(data)
        self._arrived.set()

    async def put(self, batch: list[bytes]) -> None:
        """Take ``batch`` whole, and return when there is room for more.

        Cancelling is safe: the batch has been taken.
        """
        for data in batch:
            self.offer(data)
        if self.full:
            await self.room()

    async def room(self) -> None:
        """Wait until the lane is not full; cancelling is safe."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    async def get(self, most: int) -> list[bytes]:
        """Return between one and ``most`` messages; cancelling loses none."""
        ready = self._ready
        while not ready:
            self._arrived.clear()
            await self._arrived.wait()
        count = min(most, len(ready))
        batch = [ready.popleft() for _ in range(count)]
        self._room.set()
        return batch

    def detach_receiver(self) -> None:
        """Note that nobody takes messages for now; senders no longer wait."""
        self.receiver_away = True
        self._room.set()

    def attach_receiver(self) -> None:
        """Note that somebody takes messages again."""
        self.receiver_away = False

    def shut(self) -> None:
        """Lose whatever is offered from now on; senders no longer wait."""
        self._shut = True
        self._room.set()

    def clear(self) -> None:
        """Lose everything that is on its way."""
        self.statistics.lost += len(self)
        self._held.clear()
        self._delayed.clear()
        self._ready.clear()
        self._cancel_timer()
        self._room.set()

    def _spoil(self, data: bytes, now: float) -> None:
        faults = self._plan.line(self._direction)
        chance = self._random.random
        lost = self._plan.knobs.blackhole
        if faults.lose_acks and data[_TYPE] == _ACKNOWLEDGE:
            lost |= chance() < faults.lose_acks
        if lost or (faults.drop and chance() < faults.drop):
            self.statistics.lost += 1
            return
        self._pass(data, now)
        if faults.duplicate and chance() < faults.duplicate:
            self.statistics.duplicated += 1
            self._pass(data, now)

    def _pass(self, data: bytes, now: float) -> None:
        faults = self._plan.line(self._direction)
        overtakers = 0
        if faults.reorder and self._random.random() < faults.reorder:
            overtakers = self._random.randint(1, MOST_OVERTAKING)
        elif faults.swap_every and not self.statistics.messages % faults.swap_every:
            overtakers = 1
        if overtakers:
            self.statistics.reordered += 1
            self._held.append(_Held(data, overtakers, now + HOLD_LIMIT))
        else:
            self._travel(data, now)
            self._overtake(now)
        self._set_timer()

    def _overtake(self, now: float) -> None:
        for held in self._held:
            held.overtakers -= 1
        self._release(lambda held: held.overtakers <= 0, now)

    def _release(self, condition: Callable[[_Held], bool], now: float) -> None:
        if not self._held:
            return
        released = [held for held in self._held if condition(held)]
        self._held = [held for held in self._held if not condition(held)]
        for held in released:
            self._travel(held.data, now)

    def _travel(self, data: bytes, now: float) -> None:
        delay = self._plan.line(self._direction).delay
        # A delay that was lowered does not let later messages overtake.
        if delay or self._delayed:
            last = self._delayed[-1][0] if self._delayed else 0.0
            self._delayed.append((max(last, now + delay), data))
        else:
            self._ready.append(data)
            self._arrived.set()

    def _set_timer(self) -> None:
        deadlines = [held.deadline for held in self._held]
        if self._delayed:
            deadlines.append(self._delayed[0][0])
        if not deadlines:
            self._cancel_timer()
            return
        due = min(deadlines)
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_at(due, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        # The clock's resolution lets a timer fire a little early.
        now = asyncio.get_running_loop().time() + 1e-3
        self._release(lambda held: held.deadline <= now, now)
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(self._delayed.popleft()[1])
        if self._ready:
            self._arrived.set()
        self._set_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
