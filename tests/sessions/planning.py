"""Sessions as the plan sees them, in few words; and a pool that is only its plan."""

from collections.abc import Sequence
from dataclasses import replace

from ssmtunneld.sessions.policy import (
    Action,
    Close,
    Phase,
    Policy,
    Retire,
    SessionView,
    Start,
    choose,
    plan,
)

NOW = 10_000.0
LONG_AGO = 0.0


def ready(number: int, **facts: object) -> SessionView:
    """Return a session that has been ready, and without a stream, just now."""
    return _view(number, Phase.READY, facts)


def starting(number: int, **facts: object) -> SessionView:
    """Return a session that was asked for just now."""
    return _view(number, Phase.STARTING, facts)


def resuming(number: int, **facts: object) -> SessionView:
    """Return a session that lost its link just now."""
    return _view(number, Phase.RESUMING, facts)


def _view(number: int, phase: Phase, facts: dict[str, object]) -> SessionView:
    basis = SessionView(number, phase, since=NOW, idle_since=NOW)
    return replace(basis, **facts)  # type: ignore[arg-type] # a test's shorthand


def in_words(actions: Sequence[Action]) -> list[str]:
    """Return ``actions`` as ``start``, ``retire 1``, ``close 1``."""
    return [_word(action) for action in actions]


def _word(action: Action) -> str:
    match action:
        case Start():
            return "start"
        case Retire(number):
            return f"retire {number}"
        case Close(number):
            return f"close {number}"


class PlannedPool:
    """Carries out plans on views alone: sessions take ``start_time`` to be ready."""

    def __init__(
        self,
        policy: Policy,
        views: Sequence[SessionView] = (),
        *,
        start_time: float = 2.0,
        lifetime: float | None = None,
    ) -> None:
        self.policy = policy
        self.views = {view.number: view for view in views}
        self.now = NOW
        self.waiting = 0
        self.history: list[str] = []
        self._start_time = start_time
        self._lifetime = lifetime
        self._next_number = max(self.views, default=0) + 1

    def change(self, number: int, **facts: object) -> None:
        """Let something happen to a session."""
        self.views[number] = replace(self.views[number], **facts)  # type: ignore[arg-type] # a test's shorthand

    def connect(self) -> int:
        """Let a connection come; return the session that takes it."""
        number = choose(list(self.views.values()), self.policy, may_wait=False)
        assert number is not None, "no session is ready"
        self.change(number, streams=self.views[number].streams + 1)
        self.settle()
        return number

    def disconnect(self, number: int) -> None:
        """Let a connection of a session end."""
        streams = self.views[number].streams - 1
        self.change(number, streams=streams, idle_since=self.now)
        self.settle()

    def settle(self) -> None:
        """Plan, and carry it out, until the plan is content."""
        for _ in range(100):
            actions = plan(
                list(self.views.values()),
                self.policy,
                waiting=self.waiting,
                now=self.now,
            )
            self.history.extend(in_words(actions))
            for action in actions:
                self._carry_out(action)
            if not actions:
                return
        raise AssertionError(f"never content: {self.history[-10:]}")

    def _carry_out(self, action: Action) -> None:
        match action:
            case Start():
                self._start()
            case Retire(number):
                self.change(number, retiring=True)
            case Close(number):
                assert not self.views.pop(number).streams, "streams were cut"

    def _start(self) -> None:
        expires_at = None if self._lifetime is None else self.now + self._lifetime
        number = self._next_number
        self._next_number += 1
        self.views[number] = starting(number, since=self.now, expires_at=expires_at)

    def advance(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass; whatever has started is ready after a while."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            for view in list(self.views.values()):
                if view.phase is not Phase.STARTING:
                    continue
                if self.now >= view.since + self._start_time:
                    self.change(
                        view.number,
                        phase=Phase.READY,
                        since=self.now,
                        idle_since=self.now,
                    )
            for view in list(self.views.values()):
                if view.streams:
                    self.change(view.number, idle_since=self.now)
            self.settle()
