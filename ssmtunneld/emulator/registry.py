"""Every session of one emulator, and the tasks that play them."""

import asyncio
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from ssmtunneld.base.log import EventLog
from ssmtunneld.emulator.agent.pacing import Pacer
from ssmtunneld.emulator.faults import Action, Direction, FaultPlan
from ssmtunneld.emulator.power import Power
from ssmtunneld.emulator.recording import RecordedSession, Recorder
from ssmtunneld.emulator.session import Session, StartRequest
from ssmtunneld.emulator.settings import EmulatorSettings
from ssmtunneld.emulator.targets import TARGET

HISTORY_LIMIT: Final = 1000
"""Sessions remembered after their end: what is left of one is about 25 KiB."""


class Registry:
    """The sessions by id, oldest first.

    Args:
        settings: Passed on to each.
        plan: The faults in force.
        tasks: Where sessions run.
        log: Where their lives are noted.
        pacer: Wakes agents that rest.
        recorder: Writes what passes.
        scripts: What is played in the place of agents, in turns.
    """

    def __init__(
        self,
        settings: EmulatorSettings,
        plan: FaultPlan,
        tasks: asyncio.TaskGroup,
        log: EventLog,
        *,
        pacer: Pacer,
        recorder: Recorder | None = None,
        scripts: Sequence[RecordedSession] = (),
    ) -> None:
        self._recorder = recorder
        self._scripts = scripts
        self._settings = settings
        self._pacer = pacer
        self._plan = plan
        self._tasks = tasks
        self._log = log
        self._sessions: dict[str, Session] = {}
        self._started = 0
        self.power = Power(settings, self._end_sessions)
        """The states of instances."""

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._sessions.values()))

    def get(self, session_id: str) -> Session | None:
        """Return the session, whether it lives or not."""
        return self._sessions.get(session_id)

    def start(self, request: StartRequest) -> Session:
        """Start a session and its agent."""
        # A seed repeats everything but the order in which sessions start.
        seed = f"{self._plan.seed}/{self._started}"
        random = Random(seed)  # noqa: S311 - must be repeatable; guards nothing
        scripts = self._scripts
        script = scripts[self._started % len(scripts)] if scripts else None
        self._started += 1
        session = Session(
            request,
            self._settings,
            self._plan,
            random=random,
            log=self._log,
            pacer=self._pacer,
            script=script,
        )
        if self._recorder is not None:
            version = self._settings.agent_version
            session.recorder = self._recorder.start(
                request.document, request.properties, version
            )
        self._sessions[session.id] = session
        self._tasks.create_task(session.run(), name=f"session {session.id}")
        self._forget_old()
        return session

    def do(self, action: Action, direction: Direction | None = None) -> int:
        """Carry out ``action`` on every live session and return how many there were."""
        live = [session for session in self if not session.over]
        for session in live:
            session.do(action, direction)
        return len(live)

    def _end_sessions(self, target: str) -> None:
        for session in self:
            if session.request.target == target and not session.over:
                session.end("The instance is being stopped.")

    def known_targets(self) -> list[str]:
        """Return the targets that sessions were started for, each once."""
        return list(dict.fromkeys(session.request.target for session in self))

    def nodes(self, asked: list[str]) -> list[str]:
        """Return the managed nodes that exist, as far as anybody can know.

        Args:
            asked: Ids that exist for being named, where any target does.
        """
        settings = self._settings
        known = settings.existing
        if known is None:
            known = settings.stopped | settings.offline
            known |= {*self.known_targets(), *asked}
        return [
            target
            for target in sorted(known)
            if TARGET.fullmatch(target) and not target.startswith("ecs:")
        ]

    def is_online(self, target: str) -> bool:
        """Say whether an agent answers for ``target``, which is well formed."""
        existing = self._settings.existing
        frozen_for = self._plan.frozen_for(asyncio.get_running_loop().time())
        if frozen_for > self._settings.freeze_notice:
            return False
        if self._plan.is_offline(target) or not self.power.has_agent(target):
            return False
        return existing is None or target in existing

    def _forget_old(self) -> None:
        excess = len(self._sessions) - HISTORY_LIMIT
        if excess <= 0:
            return
        ended = [s.id for s in self if s.ended is not None]
        for session_id in ended[:excess]:
            del self._sessions[session_id]
