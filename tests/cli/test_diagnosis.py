"""Lines that begin with a verdict, and stand below each other."""

import asyncio
import errno

import pytest

from ssmtunneld.base.log import get_log
from ssmtunneld.cli.diagnosis import new_context, run, say


@pytest.mark.parametrize("verdict", ["ok", "warn", "fail", "skip"])
def test_texts_are_aligned_and_a_cure_has_its_own_line(verdict, capsys):
    say(verdict, "hop: text", "do this")
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"  [{verdict}]".ljust(10) + "hop: text"
    assert second == "          cure: do this"


@pytest.mark.usefixtures("_logging")
def test_the_world_has_a_wall_clock_and_is_quiet(capsys):
    world = new_context()
    assert world.wall_clock() > 1_700_000_000
    get_log().warning("walk.test")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")


async def raise_in_groups(*errors):
    async def fail(error):
        raise error

    async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
        for group, error in zip((outer, inner), errors, strict=False):
            group.create_task(fail(error), name="fails")


def test_a_reader_that_has_gone_is_no_defect():
    with pytest.raises(BrokenPipeError) as caught:
        run(raise_in_groups(BrokenPipeError(), BrokenPipeError()))
    assert caught.value.errno == errno.EPIPE


def test_what_a_walk_returns_is_returned():
    async def walk():
        return "done"

    assert run(walk()) == "done"


def test_a_defect_beside_it_still_is_one():
    with pytest.raises(BaseExceptionGroup):
        run(raise_in_groups(BrokenPipeError(), ValueError("a defect")))
