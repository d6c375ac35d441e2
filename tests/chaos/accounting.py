"""Accounting of a run: its results, and checks that nothing forbidden happened."""

import threading
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from tests.chaos.client import Outcome


@dataclass
class Report:
    """The actions and findings of one run."""

    seed: int
    faults: int = 0
    sessions: int = 0
    killed: int = 0
    connections: int = 0
    outcomes: Counter = field(default_factory=Counter)
    resets: Counter = field(default_factory=Counter)
    """Connections that were reset as they may have been, by the reason."""
    bytes_up: int = 0
    bytes_down: int = 0
    links_lost: int = 0
    resumed: int = 0
    moves: int = 0
    recovery: float = 0.0
    """Seconds from the last fault until every tunnel had answered a connection."""
    silence: float = 0.0
    """Seconds after the last fault that a connection was without a byte, at most."""
    probes_lost: int = 0
    """Connections of after the last fault whose session was lost."""
    completion: float = 0.0
    """Seconds from the last fault until the last connection from before had ended."""
    problems: list = field(default_factory=list)
    """Everything that must not be; empty is success."""
    trials: Counter = field(default_factory=Counter)
    """Trials of larger messages, by their result."""
    sizes: list = field(default_factory=list)
    """Bytes of payload that the sessions of the end may use."""
    events: tuple = ()
    """The last lines of the daemon's log."""

    def line(self):
        """Return the run on one line."""
        ended = " ".join(
            f"{o.value}={n}" for o, n in sorted(self.outcomes.items(), key=str)
        )
        return (
            f"seed {self.seed}: {self.faults} faults, {self.sessions} sessions "
            f"({self.killed} killed), {self.links_lost} links lost, {self.resumed} "
            f"resumed; {self.connections} connections: {ended} "
            f"({_list(self.resets)}); "
            f"{self.bytes_up / 1e6:.1f} MB up, {self.bytes_down / 1e6:.1f} MB down; "
            f"ready {self.recovery:.1f} s after the last fault, "
            f"connections done after {self.completion:.1f} s, "
            f"silent for {self.silence:.1f} s at most; trials: {_list(self.trials)}"
        )

    def text(self):
        """Return everything, for whom it failed."""
        return "\n".join(
            [self.line(), *map(str, self.problems), *map(str, self.events)]
        )


def _list(counter):
    return ", ".join(f"{name}: {count}" for name, count in sorted(counter.items()))


class Judge:
    """Decides about each connection whether it may have ended as it did.

    Args:
        adversary: Knows whom it killed and when destinations refused.
        connect_timeout: Seconds after which a connection without a session is reset.
    """

    def __init__(self, adversary, connect_timeout):
        self._adversary = adversary
        self._connect_timeout = connect_timeout
        self._told = set()

    @property
    def killed(self):
        """The number of sessions that were ended."""
        return len(self._adversary.killed)

    def verdict(self, result):
        """Return what is wrong with a result, or None."""
        match result.outcome:
            case Outcome.COMPLETE | Outcome.LEFT:
                return None
            case Outcome.RESET if self.excuse(result) is not None:
                return None
        after = result.ended - result.began
        return (
            f"{result.outcome.value} after {after:.2f} s on {result.session}: "
            f"{result.errand} {result.sent} sent, {result.received} received "
            f"{result.detail}"
        )

    def excuse(self, result):
        """Return why a connection may have been reset, or None if it may not."""
        session_id = result.session
        if session_id is None:
            if self._was_refused(result):
                # In basic mode the session ends with the refusal, and carries nobody.
                return "refused"
            waited = result.ended - result.began
            return "no session" if waited >= self._connect_timeout else None
        if session_id in self._adversary.killed:
            return "session ended"
        if self._was_refused(result):
            return "refused"
        if session_id in self._adversary.doubtful:
            # As many sessions as there were such answers, each with all that it had.
            if len(self._told) < self._adversary.told_so:
                self._told.add(session_id)
            if session_id in self._told:
                return "told that it is over"
        return None

    def _was_refused(self, result):
        if result.received:
            return False
        # A basic session's agent may have tried, in vain, before the connection came.
        return result.session in self._adversary.unconnected or any(
            start <= result.ended and (end is None or result.began <= end)
            for start, end in self._adversary.refusals
        )


def open_sockets():
    """Return the sockets, pipes and event files of this process, by their inodes."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue  # the listing's own descriptor
        if not target.startswith("/"):
            found[target] = entry.name
    return set(found)


def threads():
    """Return the threads of this process."""
    return set(threading.enumerate())


class Events:
    """The last lines of a log, and how often each event came."""

    def __init__(self, kept=400):
        self.last = deque(maxlen=kept)
        self.counts = Counter()

    def __call__(self, _logger, method, event):
        """Take one line; a structlog processor that lets nothing through."""
        self.counts[event.get("event")] += 1
        if method != "debug":
            self.last.append({"level": method, **event})
        raise structlog.DropEvent


@contextmanager
def captured_log():
    """Collect what the package logs instead of printing it."""
    before = structlog.get_config()
    events = Events()
    structlog.configure(processors=[events], cache_logger_on_first_use=False)
    try:
        yield events
    finally:
        structlog.configure(**before)
