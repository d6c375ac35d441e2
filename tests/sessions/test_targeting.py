"""The choice of a target for sessions, and reasons to leave it; in virtual time."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.aws.targets.search import Candidate, SearchResult, TargetFate
from ssmtunneld.config.targets import parse_target
from ssmtunneld.errors import AccessDenied, TargetNotFound
from ssmtunneld.sessions.targeting import (
    AVOIDANCE,
    INTERVAL,
    FixedTargetSelector,
    SearchingTargetSelector,
)
from tests.sessions.rig import Journal
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse

TARGET = parse_target("tag:Role=bastion")
DENIED = AccessDenied(
    "DescribeInstances", "UnauthorizedOperation", "not allowed", "ask"
)


def found(*names, offline=()):
    every = [*names, *offline]
    return SearchResult(
        "instance", tuple(Candidate(n, online=n in names) for n in every)
    )


class Resolver:
    """Knows what the test says."""

    def __init__(self, answer):
        self.answer = answer
        self.fates = {}
        self.searches = 0

    async def find(self, target, max_age=15.0):
        assert target is TARGET
        self.searches += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def learn_fates(self, ids):
        return {i: self.fates[i] for i in ids}

    async def explain(self, target, result):
        return TargetNotFound("DescribeInstances", "NothingFound", result.searched)


class Pool:
    """Has sessions to targets, and notes what is done to it."""

    def __init__(self, **targets):
        self.targets = Counter(targets)
        self.trouble = None
        self.left = []
        self.retries = 0

    def leave(self, target, why, *, cut):
        self.left.append((target, why, cut))

    def retry_now(self):
        self.retries += 1


def aim_at(answer, policy="first"):
    resolver, journal = Resolver(answer), Journal()
    return (
        SearchingTargetSelector(TARGET, policy, resolver, journal.log),
        resolver,
        journal,
    )


@asynccontextmanager
async def following(selector, pool):
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(selector.follow(pool))
        yield
        task.cancel()


@virtual
async def test_an_id_is_always_the_same():
    selector = FixedTargetSelector("i-1")
    selector.avoid("i-1")
    assert await selector.choose() == "i-1"


@pytest.mark.parametrize(
    ("policy", "chosen"), [("first", "i-1"), ("newest", "i-3"), ("spread", "i-1")]
)
def test_the_policy_chooses_among_several(policy, chosen):
    @virtual
    async def scenario():
        selector, _, _ = aim_at(found("i-1", "i-2", "i-3"), policy)
        assert await selector.choose() == chosen

    scenario()


@virtual
async def test_spreading_goes_where_the_fewest_sessions_are():
    selector, _, _ = aim_at(found("i-1", "i-2", "i-3"), "spread")
    counts = Counter()
    selector.count_by(lambda: counts)
    for _ in range(7):
        counts[await selector.choose()] += 1
    assert counts == {"i-1": 3, "i-2": 2, "i-3": 2}


@virtual
async def test_what_is_not_online_is_not_chosen():
    selector, resolver, _ = aim_at(found("i-2", offline=["i-1"]))
    assert await selector.choose() == "i-2"
    resolver.answer = found(offline=["i-1"])
    with pytest.raises(TargetNotFound, match="instance"):
        await selector.choose()


@virtual
async def test_what_had_no_agent_is_avoided_for_a_while():
    selector, resolver, _ = aim_at(found("i-1", "i-2"))
    selector.avoid("i-1")
    assert await selector.choose() == "i-2"
    resolver.answer = found("i-1")
    assert await selector.choose() == "i-1"
    resolver.answer = found("i-1", "i-2")
    await elapse(AVOIDANCE)
    assert await selector.choose() == "i-1"


@virtual
async def test_sessions_leave_what_is_gone_and_what_was_replaced():
    selector, resolver, _ = aim_at(found("i-3"))
    resolver.fates = {"i-1": TargetFate.GONE, "i-2": TargetFate.LIVES}
    pool = Pool(**{"i-1": 1, "i-2": 1, "i-3": 1})
    async with following(selector, pool):
        await elapse(INTERVAL + 0.1)
    assert sorted(pool.left) == [
        ("i-1", "its target is gone", True),
        ("i-2", "its target was replaced", False),
    ]


@virtual
async def test_what_is_matched_is_not_left_because_its_agent_is_away():
    selector, _, _ = aim_at(found("i-2", offline=["i-1"]))
    pool = Pool(**{"i-1": 1})
    async with following(selector, pool):
        await elapse(INTERVAL + 0.1)
    assert pool.left == []


@virtual
async def test_sessions_move_to_the_newest():
    selector, _, _ = aim_at(found("i-1", "i-2"), "newest")
    pool = Pool(**{"i-1": 1, "i-2": 1})
    async with following(selector, pool):
        await elapse(INTERVAL + 0.1)
    assert pool.left == [("i-1", "there is a newer target", False)]


@virtual
async def test_a_target_that_comes_is_used_at_once():
    selector, resolver, journal = aim_at(found())
    pool = Pool()
    pool.trouble = DENIED
    async with following(selector, pool):
        await elapse(INTERVAL + 0.1)
        assert pool.retries == 0
        resolver.answer = found("i-1")
        await elapse(2 * INTERVAL)
        assert pool.retries == 1
    (line,) = journal.lines("target.resolved")
    assert line["targets"] == ["i-1"]


@virtual
async def test_nobody_looks_while_nothing_is_there_to_be_moved():
    selector, resolver, _ = aim_at(found("i-1"))
    async with following(selector, Pool()):
        await elapse(10 * INTERVAL)
    assert resolver.searches == 0


@virtual
async def test_what_cannot_be_looked_up_is_said_once():
    selector, resolver, journal = aim_at(DENIED)
    pool = Pool(**{"i-1": 1})
    async with following(selector, pool):
        await elapse(3.5 * INTERVAL)
        (line,) = journal.lines("target.unknown")
        assert line["advice"] == "ask"
        resolver.answer = found("i-1")
        await elapse(INTERVAL)
        resolver.answer = DENIED
        await elapse(INTERVAL)
    assert len(journal.lines("target.unknown")) == 2
    assert pool.left == []
