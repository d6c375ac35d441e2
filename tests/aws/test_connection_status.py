"""One question about a target for all who ask at a time."""

import asyncio
from concurrent.futures import Future

import pytest

from ssmtunneld.aws.connection_status import FRESH, ConnectionStatuses
from ssmtunneld.errors import AccessDenied
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse

DENIED = AccessDenied("GetConnectionStatus", "AccessDeniedException", "no")


class Asked:
    """The questions, for a test to answer."""

    def __init__(self):
        self.calls = []

    def __call__(self, target):
        self.calls.append((target, Future()))
        return self.calls[-1][1]

    @property
    def targets(self):
        return [target for target, _ in self.calls]


async def asking(statuses, target):
    task = asyncio.get_running_loop().create_task(
        statuses.is_connected(target), name="asking"
    )
    await asyncio.sleep(0)
    return task


async def answered(task):
    # A future of a thread tells the loop a turn later, through its self-pipe.
    await asyncio.wait({task})
    return task


@virtual
async def test_all_who_ask_at_a_time_share_one_question():
    asked = Asked()
    statuses = ConnectionStatuses(asked)
    tasks = [await asking(statuses, "i-1") for _ in range(5)]
    other = await asking(statuses, "i-2")
    assert asked.targets == ["i-1", "i-2"]
    asked.calls[0][1].set_result(True)
    asked.calls[1][1].set_result(False)
    assert [(await answered(task)).result() for task in tasks] == [True] * 5
    assert (await answered(other)).result() is False


@virtual
async def test_a_fresh_answer_serves_the_next_one_and_an_old_one_does_not():
    asked = Asked()
    statuses = ConnectionStatuses(asked)
    first = await asking(statuses, "i-1")
    asked.calls[0][1].set_result(True)
    await answered(first)
    assert await statuses.is_connected("i-1")
    assert len(asked.calls) == 1
    await elapse(FRESH + 1)
    second = await asking(statuses, "i-1")
    asked.calls[1][1].set_result(False)
    assert (await answered(second)).result() is False


@virtual
async def test_a_refusal_is_told_to_all():
    asked = Asked()
    statuses = ConnectionStatuses(asked)
    tasks = [await asking(statuses, "i-1") for _ in range(2)]
    asked.calls[0][1].set_exception(DENIED)
    for task in tasks:
        with pytest.raises(AccessDenied):
            (await answered(task)).result()


@virtual
async def test_who_leaves_takes_the_answer_from_nobody():
    asked = Asked()
    statuses = ConnectionStatuses(asked)
    leaving, staying = [await asking(statuses, "i-1") for _ in range(2)]
    leaving.cancel()
    await answered(leaving)
    asked.calls[0][1].set_result(True)
    assert (await answered(staying)).result() is True
