"""A world for a channel and its peer: one clock, and a service that loses and repeats.

``step()`` goes to whatever happens next, an arrival or a deadline. Nothing sleeps, and
all chance comes from one seeded source. While it runs, the world checks what must be
true of a channel at every moment (P6, P7, P8, P10).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Protocol

from ssmtunneld.base.secret import Secret
from ssmtunneld.protocol.channel import DataChannel
from ssmtunneld.protocol.events import (
    Closed,
    Deliver,
    Effect,
    Opened,
    SendOpener,
    Transmit,
)
from ssmtunneld.protocol.inbound import MAX_EARLY
from ssmtunneld.protocol.message import MessageType, decode
from ssmtunneld.protocol.outbound import MAX_MESSAGE
from ssmtunneld.protocol.window import MAX_WINDOW
from tests.support.bench import Acked, described

DELAY = 0.02
"""Seconds from one end to the other, at least."""


@dataclass(frozen=True)
class Faults:
    """Faults of the service: probabilities of a loss and of a repetition; jitter."""

    loss: float = 0.0
    repeat: float = 0.0
    jitter: float = 0.0
    """Seconds by which messages may overtake one another."""


class Peer(Protocol):
    """The other end: ``Agent`` or ``Mirrored``."""

    got: list[bytes]

    @property
    def room(self) -> int: ...
    @property
    def unacked(self) -> int: ...
    def attach(self, now: float) -> None: ...
    def detach(self) -> None: ...
    def send(self, payload: bytes, now: float) -> None: ...
    def receive(self, data: bytes, now: float) -> None: ...
    def next_deadline(self) -> float | None: ...
    def on_deadline(self, now: float) -> None: ...
    def drain(self) -> list[bytes]: ...


class World:
    """A channel, its peer, and what lies between them.

    Args:
        channel: The channel under test, detached.
        peer: The other end, detached.
        faults: What happens between them; may be replaced at any time.
        random: Decides about it.
    """

    def __init__(
        self, channel: DataChannel, peer: Peer, faults: Faults, random: Random
    ) -> None:
        self.channel, self.peer = channel, peer
        self.faults = faults
        self.now = 0.0
        self.got: list[bytes] = []
        """The payloads that the channel delivered, in order."""
        self.closed: Closed | None = None
        self.transcript: list[tuple[float, str, bytes]] = []
        self._random = random
        self._flight: list[tuple[float, int, bool, int, bytes]] = []
        self._number = count()
        self._links = 0
        self._channel_linked = self._peer_linked = False
        self._up: deque[bytes] = deque()
        self._down: deque[bytes] = deque()

    # What a test does.

    def send_up(self, payloads: Iterable[bytes]) -> None:
        """Send from the channel, as soon as it has room."""
        self._up += payloads
        self.settle()

    def send_down(self, payloads: Iterable[bytes]) -> None:
        """Send from the peer, as soon as it may."""
        self._down += payloads
        self.settle()

    def attach_channel(self) -> None:
        """Give the channel a websocket, unless it has one."""
        if not self._channel_linked and self.closed is None:
            self._channel_linked = True
            self.channel.attach("request", Secret("token"), self.now)
            self.settle(introduced=True)

    def attach_peer(self) -> None:
        """Give the peer a websocket, unless it has one."""
        if not self._peer_linked:
            self._peer_linked = True
            self.peer.attach(self.now)
            self.settle()

    def cut_channel(self, *, undrained: bool = False) -> None:
        """Lose the channel's websocket, and what is under way.

        Args:
            undrained: Let it have something to do that nobody has carried out yet.
        """
        if self._channel_linked:
            if undrained and self._up and self.channel.room:
                self.channel.send(self._up.popleft(), self.now)
            self._channel_linked = False
            self._links += 1
            self.channel.detach()
            self.settle()

    def cut_peer(self) -> None:
        """Lose the peer's websocket, and what is under way."""
        if self._peer_linked:
            self._peer_linked = False
            self._links += 1
            self.peer.detach()

    def advise(self, message: bytes, *, up: bool) -> None:
        """Let the service say something to one end."""
        heappush(self._flight, (self.now, next(self._number), up, self._links, message))

    # What happens.

    def step(self, until: float = inf) -> bool:
        """Go to what happens next; return whether anything did before ``until``."""
        arrival = self._flight[0][0] if self._flight else inf
        ours = self.channel.next_deadline()
        theirs = self.peer.next_deadline()
        ours = inf if ours is None else ours
        theirs = inf if theirs is None else theirs
        time = min(arrival, ours, theirs)
        if self.closed is not None or time >= until:
            return False
        self.now = max(self.now, time)
        if time == arrival:
            self._arrive()
        elif time == ours:
            self._reach_deadline()
        else:
            self.peer.on_deadline(self.now)
        self.settle()
        return True

    def run(self, seconds: float) -> None:
        """Let everything happen that happens in the next ``seconds``."""
        until = self.now + seconds
        while self.step(until):
            pass
        self.now = until

    def run_until_quiet(self, limit: int = 20_000) -> None:
        """Let everything happen until both ends rest, or the channel is closed."""
        for _ in range(limit):
            if not self.step():
                return
        raise AssertionError("they never come to rest")

    def _arrive(self) -> None:
        _, _, up, links, data = heappop(self._flight)
        if links != self._links:
            return
        self.transcript.append((self.now, "up" if up else "down", data))
        if up:
            self.peer.receive(data, self.now)
        else:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        message = decode(data)
        self.channel.receive(data, self.now)
        effects = self.channel.drain()
        if message.message_type == MessageType.OUTPUT and self.closed is None:
            acks = [e for e in map(described, effects) if isinstance(e, Acked)]
            assert acks == [Acked(message.sequence)], "P8: one ack for each message"
            assert isinstance(described(effects[0]), Acked)
        self._carry_out(effects)

    def _reach_deadline(self) -> None:
        self.channel.on_deadline(self.now)
        effects = self.channel.drain()
        following = self.channel.next_deadline()
        progress = effects or following is None or following > self.now
        assert progress, "P7: a deadline came and went without effect"
        self._carry_out(effects)

    def settle(self, *, introduced: bool = False) -> None:
        """Carry out what both ends want, and give them what waits to be sent."""
        effects = self.channel.drain()
        if introduced:
            assert isinstance(effects.pop(0), SendOpener)
        self._carry_out(effects)
        while self._up and self.channel.room:
            self.channel.send(self._up.popleft(), self.now)
            now = self.channel.statistics()
            under_way = now.unacked_bytes - MAX_MESSAGE
            assert under_way < now.window, "P6: more under way than the window"
            assert now.window <= MAX_WINDOW, "P6: more bytes than may be"
        self._carry_out(self.channel.drain())
        while self._down and self.peer.room:
            self.peer.send(self._down.popleft(), self.now)
        for data in self.peer.drain():
            self._send(data, up=False)
        assert self.channel.statistics().early <= MAX_EARLY

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert self.closed is None, "P10: something came out after the end"
            match effect:
                case Transmit(data):
                    self._send(data, up=True)
                case Deliver(payload):
                    self.got.append(payload)
                case Closed():
                    self.closed = effect
                case _:
                    assert isinstance(effect, Opened)

    def _send(self, data: bytes, *, up: bool) -> None:
        if not (self._channel_linked and self._peer_linked):
            return
        faults, random = self.faults, self._random
        for _ in range(2 if random.random() < faults.repeat else 1):
            if random.random() >= faults.loss:
                time = self.now + DELAY + random.random() * faults.jitter
                heappush(
                    self._flight, (time, next(self._number), up, self._links, data)
                )
