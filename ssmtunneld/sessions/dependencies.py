"""What a session needs to know, and what it uses of the world."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from ssmtunneld.aws.api.port import Control, Grant
from ssmtunneld.sessions.start_queue import StartQueue
from ssmtunneld.transport.link import Link
from ssmtunneld.transport.ports import Buffers


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What one session needs to know. Times are in seconds."""

    keep_alive: float | None = 300.0
    """How often a NOP keeps the service's idle timeout away; ``None`` respects it."""
    resume_budget: float = 1200.0
    """How long resuming is tried: the service's default idle timeout (protocol 1.8)."""
    buffers: Buffers = field(default_factory=Buffers)


@dataclass(frozen=True, slots=True)
class SessionDependencies:
    """What a session uses of the world, made by the daemon and faked by tests."""

    control: Control
    connect: Callable[[Grant], Awaitable[Link]]
    random: Random
    new_id: Callable[[], bytes]
    """Returns 16 random bytes."""
    wall_clock_ms: Callable[[], int]
    limiter: StartQueue
    """Whom to ask before StartSession; shared by all of one account and region."""
