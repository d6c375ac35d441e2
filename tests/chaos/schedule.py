"""Schedules of faults: each is a function of a seed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from ssmtunneld.emulator.faults import Action


@dataclass(frozen=True)
class Step:
    """One thing to do to the service, ``at`` seconds after the start."""

    at: float
    verb: str
    """A method of ``Adversary``."""
    arguments: tuple = ()
    kind: str = "line"
    """Of which fault it is a part: a key of ``FAULTS``."""


@dataclass(frozen=True)
class Window:
    """From when until when something is wrong."""

    start: float
    end: float


def _knobs(on, off):
    """Something that is wrong for a while, in the emulator's own language."""
    return lambda random, window: [
        Step(window.start, "apply", (on(random),)),
        Step(window.end, "apply", (off,)),
    ]


def _once(action):
    """Something that happens to one session, or to all, and kills none."""
    return lambda random, window: [
        Step(window.start, "act", (action, random.random() < 0.3))
    ]


def _kill(action):
    return lambda random, window: [Step(window.start, "kill", (action,))]


def _start_fails(code):
    """StartSession is refused for a while, just when a session is needed."""
    return lambda random, window: [
        Step(window.start, "apply", (f"start-error={code}",)),
        Step(window.start, "kill", (random.choice([*LETHAL]),)),
        Step(window.end, "apply", ("start-error=none*0",)),
    ]


def _resume_fails(code):
    """ResumeSession is refused for a while, just when it is needed."""
    return lambda random, window: [
        Step(window.start, "apply", (f"resume-error={code}",)),
        Step(window.start, "act", (_loss(random), random.random() < 0.5)),
        Step(window.end, "apply", ("resume-error=none*0",)),
    ]


def _loss(random):
    return random.choice([Action.CUT, Action.BYE])


def _pause(random, window):
    way = random.choice(["", "up:", "down:"])
    return [
        Step(window.start, "apply", (f"{way}pause",)),
        Step(window.end, "apply", (f"{way}start",)),
    ]


def _vanish(answer):
    """A session ends while its client is away: there is nothing to resume."""
    return lambda random, window: [
        Step(window.start, "apply", ("resume-error=ThrottlingException",)),
        Step(window.start, "abduct"),
        Step(window.end, "apply", (f"resume-gone={answer}",)),
        Step(window.end, "bury"),
        Step(window.end, "apply", ("resume-error=none*0",)),
    ]


def _empty_token(random, window):
    """ResumeSession has no token for a session that lives: it counts as timed out."""
    return [
        Step(window.start, "doubt"),
        Step(window.start, "apply", ("resume-error=empty-token*1",)),
        Step(window.start, "act", (_loss(random), False)),
        Step(window.end, "apply", ("resume-error=none*0",)),
        Step(window.end, "end_doubt"),
    ]


def _expire(random, window):
    """Credentials expire, until a human has logged in again."""
    specs = "start-error={0},resume-error={0},upgrade-error=403".format(
        random.choice(["ExpiredTokenException", "UnrecognizedClientException"])
    )
    return [
        Step(window.start, "apply", (specs,)),
        Step(window.start, "act", (_loss(random), random.random() < 0.5)),
        Step(window.end, "log_in"),
    ]


def _refuse(random, window):
    return [
        Step(window.start, "refuse_dials"),
        Step(window.end, "accept_dials"),
    ]


def _cut_at_once(random, window):
    """Every websocket lives for moments only."""
    every = random.choice(["80ms", "150ms", "300ms"])
    name = random.choice(["cut-every", "bye-every"])
    return [
        Step(window.start, "apply", (f"{name}={every}",)),
        Step(window.end, "apply", (f"{name}=0",)),
    ]


def _starting(knob):
    """A new session's start is hampered, just when one is needed."""
    return lambda random, window: [
        Step(window.start, "apply", (f"{knob}={_STARTING[knob][0]}",)),
        Step(window.start, "kill", (random.choice([*LETHAL]),)),
        Step(window.end, "apply", (f"{knob}={_STARTING[knob][1]}",)),
    ]


_STARTING = {"handshake-stall": ("on", "off"), "start-delay": ("300ms", "0")}
LETHAL = (Action.AGENT_RESTART, Action.CLOSE)

FAULTS: dict[str, Callable[[Random, Window], list[Step]]] = {
    "cut": _once(Action.CUT),
    "bye": _once(Action.BYE),
    "agent-reconnect": _once(Action.AGENT_RECONNECT),
    "agent-restart": _kill(Action.AGENT_RESTART),
    "close": _kill(Action.CLOSE),
    "short-lived websockets": _cut_at_once,
    "blackhole": _knobs(lambda _: "blackhole", "blackhole=off"),
    "pause": _pause,
    "gone": _vanish("DoesNotExistException"),
    "gone, empty token": _vanish("empty-token"),
    "empty token": _empty_token,
    "resume denied": _resume_fails("403"),
    "resume throttled": _resume_fails("ThrottlingException"),
    "resume failing": _resume_fails("500"),
    "start throttled": _start_fails("ThrottlingException"),
    "start failing": _start_fails("503"),
    "start denied": _start_fails("AccessDeniedException*1"),
    "target offline": _start_fails("TargetNotConnected*1"),
    "start slow": _starting("start-delay"),
    "handshake stalled": _starting("handshake-stall"),
    "credentials expired": _expire,
    "upgrade refused": _knobs(
        lambda random: f"upgrade-error={random.choice([403, 500, 503])}",
        "upgrade-error=none*0",
    ),
    "destination refused": _refuse,
    "dials stalled": _knobs(lambda _: "stall-dial", "stall-dial=off"),
    "destination slow": _knobs(
        lambda random: f"slow-destination={random.choice(['0', '32k', '256k'])}",
        "slow-destination=100M",
    ),
}
"""Every kind of fault by name, beside those of the line."""

_LINE = {
    "drop": lambda random: random.choice([0, 0.01, 0.03]),
    "duplicate": lambda random: random.choice([0, 0.02, 0.1]),
    "reorder": lambda random: random.choice([0, 0.05, 0.2]),
    "lose-acks": lambda random: random.choice([0, 0, 0.05]),
    "swap-every": lambda random: random.choice([0, 0, 50]),
    "delay": lambda random: random.choice(["0", "0", "2ms", "20ms"]),
}


def make_schedule(seed, duration, pace=0.22):
    """Return the steps of a run, in order.

    Args:
        seed: What decides.
        duration: Seconds until the last fault.
        pace: Seconds from one fault to the next.
    """
    random = Random(f"schedule {seed}")
    steps = [Step(0.0, "apply", (_line(random),))]
    steps.append(Step(duration / 2, "apply", (_line(random),)))
    kinds = list(FAULTS)
    # Runs with neighbouring seeds share the kinds among them.
    turn = seed * round(duration / pace)
    at = pace / 2
    while at < duration:
        kind = (
            kinds[turn % len(kinds)] if random.random() < 0.7 else random.choice(kinds)
        )
        turn += 1
        window = Window(at, min(at + random.uniform(0.1, 5 * pace), duration))
        steps.extend(replace(step, kind=kind) for step in FAULTS[kind](random, window))
        at += random.uniform(0.5 * pace, 1.5 * pace)
    return sorted(steps, key=lambda step: step.at)


def _line(random):
    parts = []
    for way in ("up", "down"):
        parts += [f"{way}:{name}={value(random)}" for name, value in _LINE.items()]
    return ",".join(parts)
