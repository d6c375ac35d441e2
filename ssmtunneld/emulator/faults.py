"""Injected faults: the fault plan and its small language.

A specification is a comma-separated list of ``[up:|down:]NAME[=VALUE]``. Up is from the
client to the agent. docs/emulator.md has the table of names; ``NAMES`` here is its
source. A plan is owned by one event loop; ``apply``, ``replace`` and ``clear`` are
plain calls and take effect on the next message, dial, call or websocket.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from ssmtunneld.base.nearest import nearest
from ssmtunneld.emulator.targets import check_target
from ssmtunneld.errors import ConfigError


class Direction(StrEnum):
    """The direction of messages on the client's websocket."""

    UP = "up"
    DOWN = "down"


class Action(StrEnum):
    """A single action on all live sessions or on one of them."""

    PAUSE = "pause"
    START = "start"
    AGENT_RECONNECT = "agent-reconnect"
    AGENT_RESTART = "agent-restart"
    CUT = "cut"
    BYE = "bye"
    CLOSE = "close"


@dataclass(slots=True)
class LineFaults:
    """The faults of the messages in one direction."""

    drop: float = 0.0
    """Probability that a message vanishes."""
    duplicate: float = 0.0
    """Probability that a message arrives twice."""
    reorder: float = 0.0
    """Probability that a message is overtaken by the next one to five."""
    lose_acks: float = 0.0
    """Probability that an acknowledgement vanishes."""
    delay: float = 0.0
    """Seconds that every message takes."""
    swap_every: int = 0
    """Every so many messages, one is overtaken by its successor; 0 is never."""

    def clean(self) -> bool:
        """Say whether messages pass untouched."""
        return not (
            self.drop
            or self.duplicate
            or self.reorder
            or self.lose_acks
            or self.delay
            or self.swap_every
        )


@dataclass(slots=True)
class ApiFault:
    """One operation answers with an error.

    Args:
        code: An error code, an HTTP status as text, or ``empty-token``.
        remaining: How many more answers; None for all of them.
    """

    code: str
    remaining: int | None = None

    def take(self) -> str | None:
        """Return the code for this call and count it, or None once used up."""
        if self.remaining is None:
            return self.code
        if self.remaining == 0:
            return None
        self.remaining -= 1
        return self.code


@dataclass(frozen=True, slots=True)
class MessageLimit:
    """The largest payload that the service takes of a client, and what it does beyond.

    Args:
        size: Bytes.
        beyond: ``closed`` (channel_closed), ``1009`` (the websocket's close code) or
            ``silence``: the message is dropped.
    """

    size: int
    beyond: str = "closed"


@dataclass(slots=True)
class Knobs:
    """The state of every fault; the defaults are a service in perfect health."""

    up: LineFaults = field(default_factory=LineFaults)
    down: LineFaults = field(default_factory=LineFaults)
    cut_every: float = 0.0
    """Seconds after which a client's websocket is reset; 0 is never."""
    bye_every: float = 0.0
    """Seconds after which it is closed with 1000 ``Bye``; 0 is never."""
    blackhole: bool = False
    refuse_dial: bool = False
    stall_dial: bool = False
    dns_failure: bool = False
    handshake_stall: bool = False
    agent_freeze: bool = False
    """Agents have stopped as by SIGSTOP; the service still answers for itself."""
    check_digest: bool = False
    """Agents drop messages whose digest is wrong; real ones do not look."""
    terminate_ack: str | None = None
    """``before``, ``after`` or ``never``: where the acknowledgement of TerminateSession
    comes, as seen from channel_closed; None is chance, as with real agents."""
    max_message: MessageLimit | None = None
    slow_destination: int | None = None
    """Bytes per second that a destination takes; None is as fast as it can."""
    start_delay: float = 0.0
    errors: dict[str, ApiFault] = field(default_factory=dict)
    """By ``start``, ``resume``, ``terminate``, ``describe``, ``upgrade``, ``gone``."""
    offline: set[str] = field(default_factory=set)
    on_ready: list[tuple[Action, Direction | None]] = field(default_factory=list)
    """Done to each new session once its agent is ready."""


class FaultPlan:
    """The faults in force.

    Args:
        specs: The specifications that are in force from the start. Actions among them
            (``pause``, ``agent-restart``, ...) are done to each session when its
            handshake is complete.
        away: Targets whose agents are away, until they are brought back.

    Raises:
        ConfigError: A specification cannot be read.
    """

    def __init__(self, specs: Iterable[str] = (), away: Iterable[str] = ()) -> None:
        self.seed = 0
        # The state of the world rather than a fault: no other faults undo it.
        self._away = set(away)
        self.knobs = Knobs()
        self.specs: list[str] = []
        self.untouched = dict.fromkeys(Direction, True)
        """True if messages in a direction meet no fault; kept because it is read
        for every message."""
        self._changed: asyncio.Event | None = None
        self._frozen_since: float | None = None
        # Nobody is live yet: what is done once is done to each session as it comes.
        self.knobs.on_ready = self.apply(specs)

    def apply(self, specs: Iterable[str]) -> list[tuple[Action, Direction | None]]:
        """Add ``specs`` to what is in force and return the actions among them.

        Raises:
            ConfigError: A specification cannot be read; nothing has changed.
        """
        parts = [part for spec in specs for part in _parts(spec)]
        for part in parts:
            _Change.parse(part)  # everything is read before anything is changed
        actions = []
        for part in parts:
            change = _Change.parse(part)
            if change.action is not None:
                actions.append((change.action, change.direction))
            else:
                self._set(change)
                if change.name != "online":  # which takes something back
                    self.specs.append(part)
        self._announce()
        return actions

    def replace(self, specs: Iterable[str]) -> list[tuple[Action, Direction | None]]:
        """Put ``specs`` in the place of everything in force; see `apply`.

        Raises:
            ConfigError: A specification cannot be read; nothing has changed.
        """
        specs = list(specs)
        for spec in specs:
            for part in _parts(spec):
                _Change.parse(part)
        self.clear()
        return self.apply(specs)

    @property
    def offline(self) -> frozenset[str]:
        """Targets whose agents are away."""
        return frozenset(self._away | self.knobs.offline)

    def is_offline(self, target: str) -> bool:
        """Say whether the agent of ``target`` is away."""
        return target in self._away or target in self.knobs.offline

    def take_away(self, target: str) -> None:
        """Take the agent of ``target`` away, whatever faults come and go.

        Raises:
            ConfigError: It is not a target.
        """
        _Change.parse(f"offline={target}")
        self._away.add(target)
        self._announce()

    def bring_back(self, target: str) -> None:
        """Undo `take_away` of ``target``, and its ``offline``."""
        self._away.discard(target)
        self.knobs.offline.discard(target)
        self.specs = [spec for spec in self.specs if spec != f"offline={target}"]
        self._announce()

    def clear(self) -> None:
        """Return the service to perfect health; seed and absent agents stay."""
        self.knobs = Knobs()
        self.specs = []
        self._announce()

    def line(self, direction: Direction) -> LineFaults:
        """Return the faults of the messages in ``direction``."""
        return self.knobs.up if direction is Direction.UP else self.knobs.down

    def api_error(self, operation: str) -> str | None:
        """Return the error that the next answer of ``operation`` must be, if any."""
        fault = self.knobs.errors.get(operation)
        return None if fault is None else fault.take()

    def frozen_for(self, now: float) -> float:
        """Return for how many seconds agents have been frozen; 0 if they are not.

        Time counts from the change, or from the first look if they were from the start.
        """
        if not self.knobs.agent_freeze:
            return 0.0
        if self._frozen_since is None:
            self._frozen_since = now
        return now - self._frozen_since

    async def changed(self) -> None:
        """Wait until anything is applied or cleared; cancelling is safe."""
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    async def until(self, condition: Callable[[Knobs], bool]) -> None:
        """Wait until ``condition`` holds of the knobs; cancelling is safe."""
        while not condition(self.knobs):
            await self.changed()

    def _set(self, change: "_Change") -> None:
        if change.name == "seed":
            self.seed = int(change.value)
            return
        if change.name == "offline":
            self.knobs.offline.add(change.value)
            return
        if change.name == "online":
            self.bring_back(change.value)
            return
        if change.name in _ERRORS:
            self.knobs.errors[_ERRORS[change.name]] = _api_fault(change.value)
            return
        attribute = change.name.replace("-", "_")
        value = NAMES[change.name](change.value)
        if change.name not in _DIRECTED:
            setattr(self.knobs, attribute, value)
            return
        for direction in Direction:
            if change.direction in (None, direction):
                setattr(self.line(direction), attribute, value)

    def _announce(self) -> None:
        for direction in Direction:
            clean = self.line(direction).clean()
            self.untouched[direction] = clean and not self.knobs.blackhole
        if not self.knobs.agent_freeze:
            self._frozen_since = None
        with suppress(RuntimeError):  # no loop: the specifications of the start
            self.frozen_for(asyncio.get_running_loop().time())
        # Whoever waits holds the old event; the next one waits on a new one.
        if self._changed is not None:
            self._changed.set()
            self._changed = None


@dataclass(frozen=True, slots=True)
class _Change:
    """One part of a specification, checked."""

    name: str
    value: str
    direction: Direction | None
    action: Action | None

    @classmethod
    def parse(cls, part: str) -> "_Change":
        prefix, colon, rest = part.partition(":")
        direction = None
        if colon and prefix in tuple(Direction):
            direction, part = Direction(prefix), rest
        name, _, value = part.partition("=")
        if name not in NAMES:
            near = nearest(name, NAMES)
            hint = f"; did you mean {near[0]}?" if near else ""
            problem = f"there is no fault named {name!r}{hint}"
            raise ConfigError([f"fault {part!r}: {problem}"])
        if direction is not None and name not in _DIRECTED | _DIRECTED_ACTIONS:
            raise ConfigError([f"fault {part!r}: {name} has no direction"])
        try:
            NAMES[name](value)
        except ValueError as error:
            raise ConfigError([f"fault {part!r}: {error}"]) from None
        action = Action(name) if name in tuple(Action) else None
        return cls(name, value, direction, action)


def duration(text: str) -> float:
    """Return the seconds in ``"20ms"``, ``"3s"``, ``"60m"``, ``"1h"`` or ``"1.5"``.

    Raises:
        ValueError: It is not a duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 20ms, 3s, 60m or 1h")
    scale = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    return float(match[1]) * scale[match[2] or "s"]


def _parts(spec: str) -> list[str]:
    return [part.strip() for part in spec.split(",") if part.strip()]


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a probability") from None
    if not 0 <= value <= 1:
        raise ValueError(f"{text} is not between 0 and 1")
    return value


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _rate(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([kM]?)", text)
    if match is None:
        raise ValueError(f"{text!r} is not bytes per second such as 65536, 64k or 1M")
    return int(match[1]) * {"": 1, "k": 1024, "M": 1024 * 1024}[match[2]]


def _switch(text: str) -> bool:
    if text not in ("", "on", "off"):
        raise ValueError(f"{text!r} is not on or off")
    return text != "off"


def _choice(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return read


def _message_limit(text: str) -> MessageLimit:
    size, colon, beyond = text.partition(":")
    if not colon:
        return MessageLimit(_count(size))
    return MessageLimit(_count(size), _choice("closed", "1009", "silence")(beyond))


def _nothing(text: str) -> str:
    if text:
        raise ValueError("takes no value")
    return text


def _word(text: str) -> str:
    if not text:
        raise ValueError("needs a value")
    return text


def _target(text: str) -> str:
    return check_target(_word(text))


def _api_fault(text: str) -> ApiFault:
    code, star, times = _word(text).partition("*")
    return ApiFault(code, _count(times) if star else None)


_ERRORS: Final = {
    "start-error": "start",
    "resume-error": "resume",
    "terminate-error": "terminate",
    "describe-error": "describe",
    "upgrade-error": "upgrade",
    "resume-gone": "gone",
}
_DIRECTED: Final = frozenset(f.name.replace("_", "-") for f in fields(LineFaults))
_DIRECTED_ACTIONS: Final = frozenset({Action.PAUSE.value, Action.START.value})

NAMES: Final[Mapping[str, Callable[[str], object]]] = {
    "drop": _probability,
    "duplicate": _probability,
    "reorder": _probability,
    "lose-acks": _probability,
    "delay": duration,
    "swap-every": _count,
    "cut-every": duration,
    "bye-every": duration,
    "blackhole": _switch,
    "refuse-dial": _switch,
    "stall-dial": _switch,
    "dns-failure": _switch,
    "handshake-stall": _switch,
    "agent-freeze": _switch,
    "check-digest": _switch,
    "terminate-ack": _choice("before", "after", "never"),
    "max-message": _message_limit,
    "slow-destination": _rate,
    "start-delay": duration,
    "offline": _target,
    "online": _target,
    "seed": _count,
    **dict.fromkeys(_ERRORS, _api_fault),
    **{action.value: _nothing for action in Action},
}
"""Every fault by name, and what reads its value (a ValueError says why not)."""
