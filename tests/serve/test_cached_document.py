"""Values are made at most once in a period, and shared by all who ask."""

import asyncio

import pytest

from ssmtunneld.serve.cached_document import Fresh
from tests.support.clockwork import run_virtual


def test_everybody_within_a_period_gets_the_same():
    async def main():
        made = []

        async def make(key):
            await asyncio.sleep(0.25)
            made.append(key)
            return f"{key} {len(made)}"

        fresh = Fresh(make)
        first = await asyncio.gather(*(fresh.get("a") for _ in range(50)))
        await asyncio.sleep(0.9)
        first.append(await fresh.get("a"))
        await asyncio.sleep(0.2)
        second = await fresh.get("a")
        return set(first), second, len(made)

    assert run_virtual(main()) == ({"a 1"}, "a 2", 2)


def test_other_kinds_wait_for_their_turn():
    async def main():
        made = []

        async def make(key):
            made.append((key, asyncio.get_running_loop().time()))

        fresh = Fresh(make, variants=2)
        start = asyncio.get_running_loop().time()
        await asyncio.gather(*(fresh.get(key) for key in "abcdab"))
        return [(key, round(at - start)) for key, at in made]

    # By the time that the last two have their turn, what they want is old.
    made = run_virtual(main())
    assert made[:4] == [("a", 0), ("b", 0), ("c", 1), ("d", 1)]
    assert made[4:] == [("a", 2), ("b", 2)]


def test_a_failure_is_not_kept():
    async def main():
        async def make(key):
            answers.append(key)
            if len(answers) == 1:
                raise OSError("once")
            return key

        answers = []
        fresh = Fresh(make)
        with pytest.raises(OSError, match="once"):
            await fresh.get("a")
        return await fresh.get("a")

    assert run_virtual(main()) == "a"


def test_a_cancelled_asker_holds_nobody_up():
    async def main():
        async def make(key):
            await asyncio.sleep(5)
            return key

        fresh = Fresh(make)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await fresh.get("a")
        return await fresh.get("a")

    assert run_virtual(main()) == "a"
