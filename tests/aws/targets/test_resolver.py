"""Searches are made one at a time, not too often, and remembered; in virtual time."""

import asyncio

import pytest

from ssmtunneld.aws.targets.resolver import FRESH, INTERVAL, PENALTY, Resolver
from ssmtunneld.aws.targets.search import Candidate, SearchResult
from ssmtunneld.config.targets import parse_target
from ssmtunneld.errors import AccessDenied, TargetOffline, Throttled
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse

TARGET = parse_target("name:web-1")
OTHER = parse_target("name:web-2")
FOUND = SearchResult("instance", (Candidate("i-1", online=True),))
THROTTLED = Throttled("DescribeInstances", "Throttling", "slow down")


class Asking:
    """Answers each question with what the test said; calls take 0.1 s."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.times = []
        self.under_way = 0

    async def ask(self, work):
        self.times.append(asyncio.get_running_loop().time())
        self.under_way += 1
        assert self.under_way == 1
        await elapse(0.1)
        self.under_way -= 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer.error if isinstance(answer, Answer) else answer


@virtual
async def test_an_answer_serves_all_who_ask_soon():
    asking = Asking(FOUND)
    resolver = Resolver(asking)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(resolver.find(TARGET)) for _ in range(5)]
    assert [task.result() for task in asked] == [FOUND] * 5
    await elapse(FRESH - 1)
    await resolver.find(TARGET)
    assert len(asking.times) == 1
    await resolver.find(TARGET, max_age=5.0)
    assert len(asking.times) == 2


@virtual
async def test_different_targets_take_turns():
    asking = Asking(FOUND)
    resolver = Resolver(asking)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(resolver.find(TARGET))
        tasks.create_task(resolver.find(OTHER))
    first, second = asking.times
    assert second - first == pytest.approx(0.1 + INTERVAL)


@virtual
async def test_a_service_that_is_asked_too_often_is_left_alone():
    asking = Asking(FOUND, THROTTLED, FOUND)
    resolver = Resolver(asking)
    await resolver.find(TARGET)
    await elapse(FRESH)
    # What was known is better than nothing, and nobody waits for more.
    assert await resolver.find(TARGET) is FOUND
    assert await resolver.find(TARGET) is FOUND
    assert len(asking.times) == 2
    await elapse(PENALTY)
    await resolver.find(TARGET)
    assert len(asking.times) == 3


@virtual
async def test_whoever_waits_because_of_that_can_say_so():
    resolver = Resolver(Asking(THROTTLED, FOUND))
    assert resolver.reason == ""
    with pytest.raises(Throttled):
        await resolver.find(TARGET)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(resolver.find(TARGET))
        await elapse(1.0)
        expected = "AWS throttles the search for targets: the next one in 9 s"
        assert resolver.reason == expected
    assert resolver.reason == ""


@virtual
async def test_refusals_are_the_askers_business():
    denied = AccessDenied("DescribeInstances", "UnauthorizedOperation", "no")
    resolver = Resolver(Asking(THROTTLED, denied, FOUND))
    with pytest.raises(Throttled):
        await resolver.find(TARGET)
    with pytest.raises(AccessDenied):
        await resolver.find(TARGET)
    assert await resolver.find(TARGET) is FOUND


@virtual
async def test_a_miss_is_explained_once():
    miss = TargetOffline("DescribeInstances", "NoneOnline", "none", "look")
    asking = Asking(Answer(miss))
    resolver = Resolver(asking)
    nothing = SearchResult("instance")
    first = await resolver.explain(TARGET, nothing)
    second = await resolver.explain(TARGET, nothing)
    assert (str(first), first.advice) == ("none", "look")
    assert (str(second), second.advice) == ("none", "look")
    assert first is not second
    assert type(first) is type(second) is TargetOffline
    assert len(asking.times) == 1
    await resolver.explain(TARGET, SearchResult("instance", (Candidate("i-1"),)))
    assert len(asking.times) == 2


class Answer:
    """An error that is an answer."""

    def __init__(self, error):
        self.error = error


@virtual
async def test_the_fate_of_targets_is_asked_for_in_order():
    asking = Asking({"i-1": 1})
    assert await Resolver(asking).learn_fates({"i-1"}) == {"i-1": 1}
