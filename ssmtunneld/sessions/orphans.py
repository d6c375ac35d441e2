"""Our sessions as the service lists them: their maximum age, and orphans.

A daemon that was killed leaves sessions behind. They would idle out, but until then
an audit shows them as open. Ours carry a mark in their reason, so that the next
daemon with the same configuration finds them. All this needs ssm:DescribeSessions;
where that is not permitted, only these two features are missing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ssmtunneld.aws.api.port import ActiveSession, Control
from ssmtunneld.base.log import EventLog
from ssmtunneld.errors import AccessDenied, AwsError
from ssmtunneld.sessions.start_queue import StartQueue

FRESH: Final = 30.0
"""Seconds for which an answer serves the other tunnels with the same target."""


class OrphanReaper:
    """Asks the service for the active sessions of a target; for one identity.

    Args:
        control: The API.
        log: Gets one warning if the call is not permitted.
        starts_known: Returns when every session that this process has asked for is
            known by its id, or was refused, also those whose askers have left; later
            ones do not matter.
    """

    def __init__(
        self,
        control: Control,
        log: EventLog,
        starts_known: Callable[[], Awaitable[None]],
    ) -> None:
        self._control = control
        self._log = log
        self._starts_known = starts_known
        self._permitted = True
        self._answers: dict[str, tuple[float, list[ActiveSession]]] = {}
        self._one_at_a_time = asyncio.Lock()
        # Far below what the API was seen to throttle: no task waits for this.
        self._limiter = StartQueue(1.0, 3)

    async def sessions(self, target: str) -> list[ActiveSession]:
        """Return the active sessions of ``target``; none if they cannot be listed."""
        async with self._one_at_a_time:
            now = asyncio.get_running_loop().time()
            asked_at, answer = self._answers.get(target, (float("-inf"), []))
            if now < asked_at + FRESH or not self._permitted:
                return answer
            try:
                with await self._limiter.place():
                    answer = await self._control.describe(target=target)
            except AccessDenied as error:
                self._permitted = False
                self._log.info("orphans.search_denied", reason=str(error))
            except AwsError as error:
                self._log.info("orphans.search_failed", reason=str(error))
            self._answers[target] = (now, answer)
            return answer

    async def terminate_orphans(
        self,
        target: str,
        mark: str,
        ours: Callable[[str], bool],
        by: Control | None = None,
    ) -> float | None:
        """End the sessions of ``target`` that a daemon before us left behind.

        Args:
            target: The target.
            mark: The end of their reason.
            ours: Returns True for the id of a session that this process was granted,
                even if it is over: an answer of the service outlives it.
            by: Who may end them, if not whoever may list them.

        Returns:
            The maximum age of a session in seconds, if the service tells it.
        """
        limit: float | None = None
        sessions = await self.sessions(target)
        # The service lists a session from when it grants it, and its answer can still
        # be on the way to us. No clock can tell: theirs is not ours.
        await self._starts_known()
        for session in sessions:
            if ours(session.session_id):
                limit = session.max_duration
            elif mark and session.reason.endswith(mark):
                await self._terminate(session.session_id, by or self._control)
        return limit

    async def _terminate(self, session_id: str, control: Control) -> None:
        self._log.warning("session.orphaned", session_id=session_id)
        try:
            await control.terminate(session_id)
        except AwsError as error:
            self._log.warning(
                "session.abandoned", session_id=session_id, reason=str(error)
            )
