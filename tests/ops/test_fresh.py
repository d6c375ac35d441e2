"""Values are made at most once in a period, and shared by all who ask."""

import asyncio

import pytest

from ssmtunneld.ops.fresh import Fresh
from tests.support.clockwork import run_virtual


class Maker:
    """Makes values, and remembers when."""

    def __init__(self, takes=0.0):
        self.made = []
        self.takes = takes

    async def make(self, key):
        await asyncio.sleep(self.takes)
        self.made.append((key, asyncio.get_running_loop().time()))
        return f"{key} {len(self.made)}"


def test_everybody_within_a_period_gets_the_same():
    async def main():
        maker = Maker(takes=0.25)
        fresh = Fresh(maker.make)
        first = await asyncio.gather(*(fresh.get("a") for _ in range(50)))
        await asyncio.sleep(0.9)
        first.append(await fresh.get("a"))
        await asyncio.sleep(0.2)
        second = await fresh.get("a")
        return set(first), second, len(maker.made)

    assert run_virtual(main()) == ({"a 1"}, "a 2", 2)


def test_other_kinds_wait_for_their_turn():
    async def main():
        maker = Maker()
        fresh = Fresh(maker.make, variants=2)
        start = asyncio.get_running_loop().time()
        await asyncio.gather(*(fresh.get(key) for key in "abcdab"))
        return [(key, round(at - start)) for key, at in maker.made]

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
        maker = Maker(takes=5.0)
        fresh = Fresh(maker.make)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await fresh.get("a")
        return await fresh.get("a")

    assert run_virtual(main()) == "a 1"
