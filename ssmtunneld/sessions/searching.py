"""A target that is searched for, and the sessions that must leave theirs."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias, assert_never

from typing_extensions import override

from ssmtunneld.aws.targets.resolver import Resolver
from ssmtunneld.aws.targets.search import Candidate, SearchResult, TargetFate
from ssmtunneld.base.log import EventLog
from ssmtunneld.config.targets import SearchedTarget
from ssmtunneld.errors import AwsError
from ssmtunneld.sessions.targeting import FollowingTargetSelector, SessionsByTarget

INTERVAL: Final = 10.0
"""Seconds between looks at what a target stands for: with the time that the answers
take, what went away is left within 15 s."""
AVOIDANCE: Final = 60.0
"""Seconds for which a target is the last choice after it refused a session."""

TargetPolicy: TypeAlias = Literal["first", "newest", "spread"]
"""The oldest, the newest, or all of them in turn."""


class SearchingTargetSelector(FollowingTargetSelector):
    """One of the targets that a search finds, followed as they change.

    Args:
        target: The search.
        policy: The choice among several targets.
        resolver: Looks for it.
        log: Bound to the tunnel.
    """

    def __init__(
        self,
        target: SearchedTarget,
        policy: TargetPolicy,
        resolver: Resolver,
        log: EventLog,
    ) -> None:
        self._target = target
        self._policy = policy
        self._resolver = resolver
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._count: Callable[[], Mapping[str, int]] = Counter
        self._avoided: dict[str, float] = {}
        self._online: frozenset[str] = frozenset()
        self._reported = ""

    @override
    def count_by(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    @override
    async def choose(self) -> str:
        found = await self._resolver.find(self._target)
        if not found.online:
            raise await self._resolver.explain(self._target, found)
        return self._pick(found).id

    @override
    def avoid(self, target: str) -> None:
        self._avoided[target] = self._loop.time() + AVOIDANCE

    @property
    @override
    def reason(self) -> str:
        return self._resolver.reason

    def _pick(self, found: SearchResult) -> Candidate:
        now = self._loop.time()
        self._avoided = {k: v for k, v in self._avoided.items() if now < v}
        # Rather one that had no agent a moment ago than none at all.
        among = [c for c in found.online if c.id not in self._avoided] or found.online
        match self._policy:
            case "first":
                return among[0]
            case "newest":
                return among[-1]
            case "spread":
                counts = self._count()
                return min(among, key=lambda c: counts.get(c.id, 0))
            case _:
                assert_never(self._policy)

    @override
    async def follow(self, pool: SessionsByTarget) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self._look(pool)
            except AwsError as error:
                if str(error) != self._reported:
                    # Once, however often it is tried again.
                    self._reported = str(error)
                    self._log.warning(
                        "target.unknown", reason=str(error), advice=error.advice
                    )

    async def _look(self, pool: SessionsByTarget) -> None:
        used = pool.targets
        if not used and pool.trouble is None:
            return  # no session has to move
        found = await self._resolver.find(self._target, INTERVAL / 2)
        self._reported = ""
        online = frozenset(c.id for c in found.online)
        if online != self._online:
            self._log.info("target.resolved", targets=sorted(online))
        if online - self._online and pool.trouble is not None:
            pool.retry_now()
        self._online = online
        await self._leave_the_lost(pool, found)
        if self._policy == "newest" and online:
            for target in set(pool.targets) - {self._pick(found).id}:
                pool.leave(target, "there is a newer target", cut=False)

    async def _leave_the_lost(
        self, pool: SessionsByTarget, found: SearchResult
    ) -> None:
        lost = set(pool.targets) - {candidate.id for candidate in found.candidates}
        if not lost:
            return
        for target, fate in (await self._resolver.learn_fates(lost)).items():
            gone = fate is TargetFate.GONE
            why = "its target is gone" if gone else "its target was replaced"
            pool.leave(target, why, cut=gone)
