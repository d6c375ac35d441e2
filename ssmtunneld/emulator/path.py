"""The network between all clients and the emulator: delay, rate and a queue.

Each direction is one link. What its senders have for it waits with them, as in their
sockets' buffers; they take turns, a packet each, as TCP connections do that share a
link. A packet enters the router's queue while that holds less than ``queue``, leaves
it at ``rate``, and arrives ``delay`` later. Nothing is lost: a full queue holds senders
up, which is what TCP makes of losses. Connecting itself takes no time.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from typing_extensions import override

from ssmtunneld.emulator.faults import duration
from ssmtunneld.errors import ConfigError

PACKET: Final = 1448
"""Bytes of data in a packet, on a link whose rate is limited."""
OVERHEAD: Final = 52
"""Bytes of IP and TCP headers before them."""
HIGH_WATER: Final = 16 << 10
"""Bytes that wait with a sender before it is asked to stop."""
LOW_WATER: Final = 4 << 10

_RATE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(k|m|g)bit")
_SCALE: Final = {"k": 1e3, "m": 1e6, "g": 1e9}
_DEFAULT_QUEUE: Final = 0.05


@dataclass(frozen=True, slots=True)
class PathSettings:
    """Delay, rate and queue of a path; the directions are independent."""

    delay: float = 0.0
    """Seconds that a packet travels."""
    rate: float | None = None
    """Bytes per second; None is without limit."""
    queue: float = _DEFAULT_QUEUE
    """Seconds that a packet waits in a full queue."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``delay=50ms,rate=10mbit,queue=50ms``, or some of these.

        Raises:
            ConfigError: It cannot be read.
        """
        values: dict[str, Any] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            if name not in ("delay", "rate", "queue"):
                raise ConfigError([f"path {part!r}: expected delay, rate or queue"])
            try:
                values[name] = _rate(value) if name == "rate" else duration(value)
            except ValueError as error:
                raise ConfigError([f"path {part!r}: {error}"]) from None
        return cls(**values)


def _rate(text: str) -> float:
    match = _RATE.fullmatch(text)
    if match is None or not float(match[1]):
        raise ValueError(f"{text!r} is not a rate such as 512kbit, 10mbit or 1gbit")
    return float(match[1]) * _SCALE[match[2]] / 8


class Flow:
    """One connection's bytes in one direction.

    Args:
        link: Where they travel.
        arrive: Called with bytes that have arrived.
        relieved: Called when little waits here any more.
    """

    def __init__(
        self,
        link: "Link",
        arrive: Callable[[bytes], None],
        relieved: Callable[[], None],
    ) -> None:
        self.held = False
        """Nothing enters the link for now."""
        self._link = link
        self._arrive = arrive
        self._relieved = relieved
        self._waiting = bytearray()
        self._travelling = 0
        self._finished: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """True if something is queued and can be sent now."""
        return bool(self._waiting) and not self.held

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Take ``data``; never waits."""
        self._waiting += data
        self._link.queue(self)

    def hold(self) -> None:
        """Let nothing enter the link."""
        self.held = True

    def release(self) -> None:
        """Let it go on."""
        self.held = False
        self._link.queue(self)

    def finish(self, finished: Callable[[], None]) -> None:
        """Call ``finished`` once everything has arrived; what was held goes on."""
        self._finished = finished
        self.release()
        self._check_finished()

    def drop(self) -> None:
        """Lose what waits."""
        self._waiting.clear()

    def take(self, most: int) -> bytes:
        """Return what enters the link next."""
        packet = bytes(self._waiting[:most])
        del self._waiting[:most]
        self._travelling += 1
        if len(self._waiting) <= LOW_WATER:
            self._relieved()
        return packet

    def arrive(self, packet: bytes) -> None:
        """Note that ``packet`` is there."""
        self._travelling -= 1
        self._arrive(packet)
        self._check_finished()

    def _check_finished(self) -> None:
        if self._finished is not None and not (self._waiting or self._travelling):
            finished, self._finished = self._finished, None
            finished()


class Link:
    """One direction of a path.

    Args:
        settings: What it is like.
    """

    def __init__(self, settings: PathSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._turns: deque[Flow] = deque()
        self._travelling: deque[tuple[float, Flow, bytes]] = deque()
        self._free_at = 0.0
        self._last_arrival = 0.0
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    def change(self, settings: PathSettings) -> None:
        """Be like ``settings`` from now on, for what enters the link.

        What travels already arrives when it would have, and nothing overtakes it.
        """
        self._settings = settings
        # What waits in the queue is sent at the old rate, which can be a slow one.
        self._free_at = min(self._free_at, self._loop.time() + self._depth)
        self._advance()

    def queue(self, flow: Flow) -> None:
        """Give ``flow`` its turns until nothing is left of it."""
        if flow.ready and flow not in self._turns:
            self._turns.append(flow)
            self._advance()

    def _advance(self) -> None:
        now = self._loop.time()
        # A timer may fire a little early, and uvloop's clock counts milliseconds.
        while self._travelling and self._travelling[0][0] <= now + 1e-3:
            _, flow, packet = self._travelling.popleft()
            flow.arrive(packet)
        # By a microsecond more, or rounding would set the timer for this very moment
        # again and again.
        while self._turns and self._free_at - now < self._depth + 1e-6:
            self._enter(self._turns.popleft(), now)
        self._set_timer()

    @property
    def _depth(self) -> float:
        # A queue that holds nothing would let nothing through.
        return max(self._settings.queue, 1e-3)

    def _enter(self, flow: Flow, now: float) -> None:
        if not flow.ready:
            return
        rate = self._settings.rate
        packet = flow.take(PACKET if rate else HIGH_WATER)
        if flow.ready:
            self._turns.append(flow)
        spent = (len(packet) + OVERHEAD) / rate if rate else 0.0
        self._free_at = max(self._free_at, now) + spent
        arrival = max(self._last_arrival, self._free_at + self._settings.delay)
        self._last_arrival = arrival
        self._travelling.append((arrival, flow, packet))

    def _set_timer(self) -> None:
        moments = [self._travelling[0][0]] if self._travelling else []
        if self._turns:
            moments.append(self._free_at - self._depth)
        if not moments:
            return
        due = min(moments)
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._advance()


class Path:
    """Both directions, shared by every connection.

    Args:
        settings: What each is like.
    """

    def __init__(self, settings: PathSettings) -> None:
        self.up = Link(settings)
        """From clients."""
        self.down = Link(settings)

    def change(self, settings: PathSettings) -> None:
        """Be like ``settings`` from now on: as if the client had another network."""
        self.up.change(settings)
        self.down.change(settings)

    def behind(
        self, factory: Callable[[], asyncio.Protocol]
    ) -> Callable[[], "PathConnection"]:
        """Return a factory of what stands between a transport and its protocol."""
        return lambda: PathConnection(self, factory())


class PathConnection(asyncio.Transport, asyncio.Protocol):
    """A transport to its protocol, and a protocol to its transport.

    Args:
        path: What lies between the two.
        protocol: Which gets everything later.
    """

    def __init__(self, path: Path, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._protocol = protocol
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._up = Flow(path.up, self._come, self._read_again)
        self._down = Flow(path.down, self._go, self._write_again)
        self._reading_paused = False
        self._writing_paused = False
        self._high = HIGH_WATER

    # What the real transport calls.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of this class, and do what it does.
        self._transport = cast("asyncio.Transport", transport)
        self._protocol.connection_made(self)

    @override
    def data_received(self, data: bytes) -> None:
        self._up.send(data)
        if len(self._up) > HIGH_WATER and not self._reading_paused:
            self._reading_paused = True
            self._real.pause_reading()

    @override
    def eof_received(self) -> bool:
        self._up.finish(self._end_of_input)
        return True

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._down.drop()
        self._up.finish(lambda: self._protocol.connection_lost(exc))

    @override
    def pause_writing(self) -> None:
        self._down.hold()

    @override
    def resume_writing(self) -> None:
        self._down.release()

    # What the protocol calls.

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        self._down.send(data)
        if len(self._down) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    @override
    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._down.finish(self._real.close)

    @override
    def abort(self) -> None:
        self._closing = True
        self._up.drop()
        self._down.drop()
        self._real.abort()

    @override
    def is_closing(self) -> bool:
        return self._closing or self._real.is_closing()

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._real.get_extra_info(name, default)

    @override
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    @override
    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    @override
    def pause_reading(self) -> None:
        self._up.hold()

    @override
    def resume_reading(self) -> None:
        self._up.release()

    @override
    def is_reading(self) -> bool:
        return not self._up.held

    @override
    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        del low  # what is little is the same for everybody
        self._high = HIGH_WATER if high is None else high

    @override
    def get_write_buffer_size(self) -> int:
        return len(self._down)

    @override
    def can_write_eof(self) -> bool:
        return False

    # What the links call.

    def _come(self, packet: bytes) -> None:
        protocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            assert isinstance(protocol, asyncio.Protocol)
            protocol.data_received(packet)
            return
        rest = memoryview(packet)
        while rest:
            room = memoryview(protocol.get_buffer(len(rest)))
            size = min(len(room), len(rest))
            room[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]

    def _go(self, packet: bytes) -> None:
        if not self._real.is_closing():
            self._real.write(packet)

    def _read_again(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._real.resume_reading()

    def _write_again(self) -> None:
        if self._writing_paused:
            self._writing_paused = False
            self._protocol.resume_writing()

    def _end_of_input(self) -> None:
        protocol = self._protocol
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        if not protocol.eof_received():
            self.close()

    @property
    def _real(self) -> asyncio.Transport:
        assert self._transport is not None, "used before it was connected"
        return self._transport
