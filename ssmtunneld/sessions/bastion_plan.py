"""Decisions about an instance that is started on demand, without doing any of them.

Whoever starts or uses such an instance says so in a tag of it, its *mark*, one for each
daemon and target (`Mark`). From the instance's state, its marks and the time, `decide`
returns the next step, and each step is one call: a daemon that is killed between two of
them is followed by one that sees the same facts and goes on from there.

**The order of writes.** To start: the claim first, then StartInstances, then the claim
is bound to the launch that followed. To use what one of us has started: the lease
first, and nothing is used before it is written. To stop: the announcement first; after
a pause all marks are read again; then StopInstances, and last the mark goes.

* A claim counts only for the launch after it (``was``), within `CLAIM_TIME`, and only
  if its start was sent, as far as that is known; a bound one for its own launch alone.
  So a mark that a crash leaves behind makes no instance ours that somebody starts
  later.
* Whoever announces a stop reads the leases after it; whoever takes a lease reads the
  announcements after it. One of two sees the other.
* Whoever leaves it to others gives up the lease first, and reads theirs after that.
  So of two that leave together one stops it.
* All of us that see that one of us has started it may stop it once no lease holds. The
  one that started it need not come back.
* Whoever has told another process of the same user that it leaves it to that one gives
  up the lease, whether that one has one or not.
* A mark that holds nothing and can never prove a launch again is removed by whoever
  sees it: an instance has room for 50 tags, and its daemon may never come back. What
  is removed is the mark as it was seen, so that a newer one stays.
* Two daemons that run never have one key: each would take the other one's lease for its
  own. A daemon that takes another one's place has a key of its own until that one has
  ended; then its mark is written under the other key, and after that removed under the
  first one (`carry_over`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, TypeAlias

LEASE: Final = 600.0
"""Seconds for which a mark says that its daemon needs the instance."""
RENEWAL: Final = 360.0
"""Seconds before its end from which a lease is renewed."""
SKEW: Final = 300.0
"""Seconds by which clocks can differ: AWS refuses signatures beyond that."""
CLAIM_TIME: Final = 120.0 + SKEW
"""Seconds after a claim within which the launch that it is for begins."""
CLAIM_RENEWAL: Final = 30.0
"""Age in seconds from which a claim is written anew before the start that it is for."""
PAUSE: Final = 3.0
"""Seconds between the announcement of a stop and the look that decides: EC2 shows a tag
to other callers a moment after it is written."""
STOP_TIME: Final = 25.0
"""Age in seconds up to which an announcement is followed by the stop."""
STOP_DOUBT: Final = 90.0
"""Seconds since an announcement was first seen in which the stop can still come: a call
takes 30 s at most, and its answer is the last of three."""
POLL: Final = 2.0
"""Seconds between looks while something is under way."""
LOOK: Final = 60.0
"""Seconds between looks at an instance that is used."""
REST_LOOK: Final = 300.0
"""Seconds between looks at one that is not."""

_WORD: Final = re.compile(r"[^A-Za-z0-9+=._:/@-]+")
_OWNER_LIMIT: Final = 48
_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Mark:
    """One daemon's tag on an instance. Times are whole Unix seconds; 0 is none."""

    by: str
    """The user and machine, for people."""
    until: float = 0.0
    """End of its lease."""
    claim: float = 0.0
    """Time of the claim that it is the one that starts the instance."""
    was: float = 0.0
    """The instance's launch time when it was claimed, stopped."""
    launch: float = 0.0
    """The launch that followed the claim."""
    stopping: float = 0.0
    """Time of the announcement that it stops the instance."""

    def proves(self, launched: float) -> bool:
        """Return True if the launch at that time was this daemon's."""
        if self.launch:
            return self.launch == launched
        if not self.claim or launched == self.was:
            return False
        return -SKEW <= launched - self.claim <= CLAIM_TIME

    def is_spent(self, launched: float, now: float, *, is_over: bool) -> bool:
        """Return True if it holds nothing, and proves no launch from now on.

        Args:
            launched: The instance's latest launch.
            now: Unix seconds.
            is_over: True if that launch has ended.
        """
        if not (self.until or self.claim or self.launch) or now < self.until + SKEW:
            return False
        if self.launch:
            # A later one than EC2 shows: its answer is the older one.
            return self.launch < launched or (is_over and self.launch == launched)
        is_proof = not is_over and self.proves(launched)
        return now > self.claim + CLAIM_TIME + SKEW and not is_proof


def write_mark(mark: Mark) -> str:
    """Return the value of the tag: ``by=me@laptop until=2026-11-30T06:50:00Z``."""
    words = [f"by={_WORD.sub('_', mark.by)[:_OWNER_LIMIT]}"]
    for name in ("claim", "was", "launch", "until", "stopping"):
        seconds = getattr(mark, name)
        if seconds:
            moment = datetime.fromtimestamp(seconds, UTC).strftime(_FORM)
            words.append(f"{name}={moment}")
    return " ".join(words)


def read_mark(text: str) -> Mark | None:
    """Return what a tag says; None if it is none of ours. Unknown words are ignored."""
    words = dict(word.partition("=")[::2] for word in text.split())
    if "by" not in words:
        return None
    times = {
        name: _seconds(words.get(name, ""))
        for name in ("claim", "was", "launch", "until", "stopping")
    }
    return Mark(words["by"], **times)


def _seconds(text: str) -> float:
    try:
        return datetime.strptime(text, _FORM).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


@dataclass(frozen=True, slots=True)
class Sight:
    """An instance as EC2 shows it, and what its marks say."""

    state: str
    """``pending``, ``running``, ``stopping``, ``stopped``, ..."""
    launched: float
    """Its latest launch, in whole Unix seconds."""
    marks: Mapping[str, Mark]
    """By the keys of the tags."""

    @property
    def is_ours(self) -> bool:
        """True if a daemon has started it, so that daemons may stop it."""
        return any(mark.proves(self.launched) for mark in self.marks.values())


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision depends on."""

    sight: Sight
    key: str
    """The key of the daemon's own mark."""
    by: str
    """Its user and machine."""
    now: float
    """Unix seconds."""
    needed: bool
    """True if a connection is open, or waits."""
    kept: bool = False
    """True if there was one less than ``stop_target_after`` ago."""
    may_stop: bool = False
    """True if the tunnel has ``stop_target_after``."""
    trusted: float = 0.0
    """The claim for which this process has sent a start, or which it found when it
    came, unless EC2 has said that somebody else had started it already."""
    announced: Mapping[str, float] = field(default_factory=dict)
    """Times since which announcements of other daemons have been seen, by key."""
    is_handed_over: bool = False
    """True if another process of the same user stops it from now on."""
    may_sweep: bool = True
    """False for some time after other daemons' marks were removed, or could not be."""

    @property
    def own(self) -> Mark | None:
        """The daemon's own mark; None if it has none."""
        return self.sight.marks.get(self.key)

    @property
    def spent(self) -> frozenset[str]:
        """The keys of other daemons' marks that are for nothing."""
        sight = self.sight
        is_over = sight.state == "stopped"
        return frozenset(
            key
            for key, mark in sight.marks.items()
            if key != self.key
            and mark.is_spent(sight.launched, self.now, is_over=is_over)
        )


@dataclass(frozen=True, slots=True)
class Use:
    """It runs and may be used; look again at ``until``, in Unix seconds."""

    until: float


@dataclass(frozen=True, slots=True)
class Rest:
    """No action is due before ``until``, in Unix seconds."""

    until: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Something is under way; look again at ``until``, in Unix seconds."""

    until: float


@dataclass(frozen=True, slots=True)
class Write:
    """Write the daemon's mark."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class Erase:
    """Remove the daemon's mark."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Remove marks of other daemons, if they are still as they were seen."""

    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Start:
    """Start the instance."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the instance."""


Step: TypeAlias = Use | Rest | Wait | Write | Erase | Sweep | Start | Stop


def decide(situation: Situation) -> Step:
    """Return the next step."""
    step = _next(situation)
    # Before a claim too, for which there would be no room.
    if situation.may_stop and situation.may_sweep and not isinstance(step, Wait | Stop):
        spent = situation.spent
        if spent:
            return Sweep(spent)
    return step


def _next(situation: Situation) -> Step:
    match situation.sight.state:
        case "stopped":
            return _stopped(situation)
        case "pending" | "running":
            return _up(situation)
        case "stopping":
            return Wait(situation.now + POLL)
        case _:
            return Rest(situation.now + REST_LOOK)


def _stopped(s: Situation) -> Step:
    own = s.own
    if s.needed:
        if s.may_stop and not _has_fresh_claim(s):
            return Write(
                Mark(
                    s.by,
                    until=_whole(s.now) + LEASE,
                    claim=_whole(s.now),
                    was=s.sight.launched,
                )
            )
        return Start()
    if own is None:
        return Rest(s.now + REST_LOOK)
    if own.claim and not own.launch and s.now < own.claim + CLAIM_TIME:
        # A start may be on its way, and EC2's answer older than it is.
        return Rest(s.now + LOOK)
    return Erase()


def _has_fresh_claim(s: Situation) -> bool:
    own = s.own
    return (
        own is not None
        and bool(own.claim)
        and not own.launch
        and own.was == s.sight.launched
        and s.now < own.claim + CLAIM_RENEWAL
    )


def _up(s: Situation) -> Step:
    own, launched = s.own, s.sight.launched
    if own is not None and own.claim and not own.launch:
        if own.claim != s.trusted:
            # Somebody was faster: the claim is for nothing.
            return Write(replace(own, claim=0.0, was=0.0))
        if own.proves(launched):
            return Write(replace(own, launch=launched))
        if launched == own.was and s.now < own.claim + CLAIM_TIME:
            return Wait(s.now + POLL)  # EC2's answer is older than the start
    if not s.sight.is_ours:
        # Somebody else's: it is used as it is, and never stopped.
        return _other(s) if own is None else Erase()
    if s.needed or s.kept:
        return _use(s)
    return _leave(s) if s.may_stop and not s.is_handed_over else _leave_to_others(s)


def _other(s: Situation) -> Step:
    if s.sight.state == "pending":
        return Wait(s.now + POLL) if s.needed else Rest(s.now + REST_LOOK)
    return Use(s.now + LOOK)


def _use(s: Situation) -> Step:
    own, launched = s.own, s.sight.launched
    if own is None or own.stopping or own.until <= s.now + RENEWAL:
        kept = own is not None and own.proves(launched)
        before = own if own is not None and kept else Mark(s.by)
        return Write(replace(before, until=_whole(s.now) + LEASE, stopping=0.0))
    if _stop_may_come(s) or s.sight.state == "pending":
        return Wait(s.now + POLL)
    return Use(min(s.now + LOOK, own.until - RENEWAL))


def _stop_may_come(s: Situation) -> bool:
    """Return True if another daemon has announced to stop this launch, just now.

    What is older than clocks can differ is of one that was killed, or has left it: no
    call of its is on its way any more.
    """
    marks = s.sight.marks
    return any(
        s.now < min(seen, marks[key].stopping + SKEW) + STOP_DOUBT
        for key, seen in s.announced.items()
        if key in marks and marks[key].launch == s.sight.launched
    )


def _leave_to_others(s: Situation) -> Step:
    """Its stop is the business of others; a lease of ours need not hold them up."""
    own = s.own
    if own is not None and (own.until or not own.proves(s.sight.launched)):
        return _withdraw(s, own)
    return Rest(s.now + REST_LOOK)


def _leave(s: Situation) -> Step:
    own = s.own
    held = max(
        (mark.until for key, mark in s.sight.marks.items() if key != s.key), default=0.0
    )
    if s.now < held + SKEW:
        # An announcement that was not followed would hold up whoever comes next.
        if own is not None and (own.until > s.now or own.stopping):
            return _withdraw(s, own)
        return Rest(min(s.now + REST_LOOK, held + SKEW))
    if s.sight.state == "pending":
        return Wait(s.now + POLL)
    if own is None or not own.stopping or s.now > own.stopping + STOP_TIME:
        # The proof is written again: it must not go with another daemon's mark.
        before = own or Mark(s.by)
        launch = s.sight.launched
        return Write(replace(before, launch=launch, until=0.0, stopping=_whole(s.now)))
    if s.now < own.stopping + PAUSE:
        return Wait(own.stopping + PAUSE)
    return Stop()


def _withdraw(s: Situation, own: Mark) -> Step:
    """Give up the lease: whoever has another one need not wait for the end of ours."""
    launched = s.sight.launched
    if own.proves(launched):
        return Write(replace(own, until=0.0, launch=launched, stopping=0.0))
    return Erase()


def carry_over(former: Mark, own: Mark | None, launched: float) -> Mark:
    """Return what a daemon's mark says under another key than it had before.

    Args:
        former: The mark under the key of before.
        own: What is found under the new one: of a daemon before this one; None for
            nothing.
        launched: The instance's latest launch.
    """
    awaits_launch = former.claim and not former.launch
    if own is None or awaits_launch or former.proves(launched):
        return former
    if not own.proves(launched):
        return former
    return replace(former, claim=own.claim, was=own.was, launch=launched)


def _whole(seconds: float) -> float:
    """Return whole seconds, which is what a mark can hold."""
    return float(int(seconds))
