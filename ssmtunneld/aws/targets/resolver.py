"""One identity's searches: one at a time, not too often, remembered for a while."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from ssmtunneld.aws.targets.not_found import explain
from ssmtunneld.aws.targets.search import learn_fates, search
from ssmtunneld.errors import TargetNotFound, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ssmtunneld.aws.client import AwsClient
    from ssmtunneld.aws.targets.search import SearchResult, TargetFate
    from ssmtunneld.config.targets import SearchedTarget

T = TypeVar("T")

FRESH: Final = 15.0
"""Seconds for which an answer serves whoever starts a session."""
INTERVAL: Final = 0.2
"""Seconds between two searches, at least: EC2 fills up 20 calls of DescribeInstances a
second for a whole account, and other programs want some of them."""
PENALTY: Final = 10.0
"""Seconds without any search once the service has said that it was too much."""


class AwsCaller(Protocol):
    """Whoever makes calls with one identity, in threads."""

    async def ask(self, work: Callable[[AwsClient], T]) -> T:
        """Return what ``work`` returns when it is called in a thread.

        Cancelling only stops the waiting.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    found: SearchResult
    at: float


class Resolver:
    """Resolves targets to nodes, as one identity sees them.

    Args:
        asking: Makes the calls.
    """

    def __init__(self, asking: AwsCaller) -> None:
        self._asking = asking
        self._answers: dict[SearchedTarget, _Answer] = {}
        self._misses: dict[SearchedTarget, tuple[SearchResult, TargetNotFound]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._not_before = float("-inf")
        self._throttled = False

    @property
    def reason(self) -> str:
        """The reason why searches take long, as a clause; empty if there is none."""
        if not self._throttled:
            return ""
        wait = max(0.0, self._not_before - asyncio.get_running_loop().time())
        return f"AWS throttles the search for targets: the next one in {wait:.0f} s"

    async def find(
        self, target: SearchedTarget, max_age: float = FRESH
    ) -> SearchResult:
        """Return what ``target`` stands for, as known for at most ``max_age`` seconds.

        An answer can be older if the service is asked too often. Cancelling is safe.

        Raises:
            AwsError: In the kinds of ``Control``.
        """
        loop = asyncio.get_running_loop()
        async with self._one_at_a_time:
            known = self._answers.get(target)
            if known is not None:
                fresh = loop.time() < known.at + max_age
                if fresh or loop.time() + INTERVAL < self._not_before:
                    return known.found
            try:
                found = await self._ask(lambda account: search(account, target))
            except Throttled:
                if known is None:
                    raise
                return known.found
            self._answers[target] = _Answer(found, loop.time())
            return found

    async def learn_fates(self, ids: Iterable[str]) -> Mapping[str, TargetFate]:
        """Return what became of targets that no search finds any more.

        Cancelling is safe.

        Raises:
            AwsError: In the kinds of ``Control``.
        """
        wanted = sorted(ids)
        async with self._one_at_a_time:
            return await self._ask(lambda account: learn_fates(account, wanted))

    async def explain(
        self, target: SearchedTarget, found: SearchResult
    ) -> TargetNotFound:
        """Return why ``found``, of which nothing is online, is of no use.

        Cancelling is safe.
        """
        known = self._misses.get(target)
        if known is None or known[0] != found:
            async with self._one_at_a_time:
                miss = await self._ask(lambda account: explain(account, target, found))
            known = self._misses[target] = found, miss
        # A new one for each: what is raised collects where it has been.
        return type(known[1])(*known[1].args)

    async def _ask(self, work: Callable[[AwsClient], T]) -> T:
        loop = asyncio.get_running_loop()
        wait = self._not_before - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        try:
            answer = await self._asking.ask(work)
        except Throttled:
            self._not_before = loop.time() + PENALTY
            self._throttled = True
            raise
        self._not_before = loop.time() + INTERVAL
        self._throttled = False
        return answer
