"""The effect of faults on the messages of one direction."""

import asyncio
from random import Random

import pytest

from ssmtunneld.emulator.faults import Direction, FaultPlan
from ssmtunneld.emulator.lane import Lane

ACK = b"\0\0\0\x74acknowledge                     "
DATA = b"\0\0\0\x74input_stream_data               "


def lane(*specs, capacity=1000, direction=Direction.UP):
    plan = FaultPlan(specs)
    return Lane(direction, plan, Random(plan.seed), capacity)


async def drained(taken, count):
    """Return ``count`` messages, however many batches they come in."""
    messages = []
    async with asyncio.timeout(10):
        while len(messages) < count:
            messages += await taken.get(64)
    return messages


def numbered(count):
    return [b"%d" % n for n in range(count)]


async def test_without_faults_messages_keep_their_order():
    calm = lane()
    await calm.put(numbered(100))
    assert await drained(calm, 100) == numbered(100)
    assert (calm.statistics.messages, calm.statistics.bytes) == (100, 190)


async def test_a_batch_is_no_larger_than_asked_for():
    calm = lane()
    await calm.put(numbered(5))
    assert await calm.get(2) == numbered(2)


async def test_dropped_messages_are_counted_and_gone():
    lossy = lane("drop=0.5", "seed=1")
    await lossy.put(numbered(100))
    assert len(lossy) + lossy.statistics.lost == 100
    assert 20 < lossy.statistics.lost < 80


async def test_a_fault_of_the_other_direction_does_nothing():
    calm = lane("down:drop=1")
    await calm.put(numbered(5))
    assert len(calm) == 5


async def test_only_acknowledgements_are_lost_by_lose_acks():
    lossy = lane("lose-acks=1")
    await lossy.put([ACK, DATA, ACK])
    assert await lossy.get(10) == [DATA]
    assert lossy.statistics.lost == 2


async def test_duplicates_follow_their_originals():
    doubling = lane("duplicate=1")
    await doubling.put(numbered(2))
    assert await drained(doubling, 4) == [b"0", b"0", b"1", b"1"]
    assert doubling.statistics.duplicated == 2


async def test_reordering_loses_nothing_and_moves_some():
    mixing = lane("reorder=0.3", "seed=5")
    await mixing.put(numbered(200))
    messages = await drained(mixing, 200)
    assert sorted(messages) == sorted(numbered(200))
    assert messages != numbered(200)


async def test_adjacent_messages_swap():
    swapping = lane("swap-every=3")
    await swapping.put(numbered(6))
    assert await drained(swapping, 6) == [b"0", b"1", b"3", b"2", b"4", b"5"]


async def test_a_message_that_nothing_overtakes_goes_on_after_a_while():
    mixing = lane("reorder=1")
    await mixing.put([b"alone"])
    assert await drained(mixing, 1) == [b"alone"]


async def test_a_delay_keeps_the_order():
    slow = lane("delay=30ms")
    started = asyncio.get_running_loop().time()
    await slow.put(numbered(3))
    assert len(slow) == 3
    assert await drained(slow, 3) == numbered(3)
    assert asyncio.get_running_loop().time() - started >= 0.028


async def test_a_delay_that_ends_does_not_let_messages_overtake():
    plan = FaultPlan(["delay=50ms"])
    slow = Lane(Direction.UP, plan, Random(0), 100)
    slow.offer(b"first")
    plan.clear()
    slow.offer(b"second")
    assert await drained(slow, 2) == [b"first", b"second"]


async def test_an_earlier_deadline_replaces_the_timer():
    plan = FaultPlan(["delay=1h"])
    slow = Lane(Direction.UP, plan, Random(0), 100)
    slow.offer(b"late")
    plan.replace(["reorder=1"])
    slow.offer(b"held")
    await asyncio.sleep(0)
    plan.clear()
    slow.clear()
    slow.offer(b"now")
    assert await slow.get(9) == [b"now"]


async def test_a_black_hole_swallows_all_but_the_services_own_words():
    hole = lane("blackhole")
    await hole.put(numbered(3))
    hole.insert(b"closed")
    assert await hole.get(9) == [b"closed"]
    assert hole.statistics.lost == 3


async def test_the_same_seed_repeats_everything():
    async def transcript():
        mixing = lane("drop=0.1,duplicate=0.1,reorder=0.2", "seed=42")
        await mixing.put(numbered(300))
        return await mixing.get(9999)

    assert await transcript() == await transcript()


async def test_a_sender_waits_while_the_lane_is_full():
    narrow = lane(capacity=2)
    async with asyncio.TaskGroup() as tasks:
        sender = tasks.create_task(narrow.put(numbered(3)))
        await asyncio.sleep(0)
        assert narrow.full
        assert not sender.done()
        await narrow.get(2)


async def test_a_sender_does_not_wait_for_a_receiver_that_is_away():
    narrow = lane(capacity=2)
    narrow.detach_receiver()
    await narrow.put(numbered(5))
    assert (len(narrow), narrow.statistics.lost) == (2, 3)
    narrow.attach_receiver()
    assert narrow.full


async def test_a_waiting_sender_is_released_when_the_receiver_goes_away():
    narrow = lane(capacity=1)
    async with asyncio.TaskGroup() as tasks:
        sender = tasks.create_task(narrow.put([b"x"]))
        await asyncio.sleep(0)
        assert not sender.done()
        narrow.detach_receiver()


async def test_after_the_end_only_the_service_speaks():
    ended = lane(capacity=1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ended.put([b"before"]))
        await asyncio.sleep(0)
        ended.shut()
    ended.offer(b"after")
    ended.insert(b"closed")
    assert await ended.get(9) == [b"before", b"closed"]


@pytest.mark.parametrize("spec", ["delay=1h", "reorder=1", "drop=0"])
async def test_clearing_loses_everything_on_its_way(spec):
    busy = lane(spec)
    await busy.put([b"x"])
    busy.clear()
    assert (len(busy), busy.statistics.lost) == (0, 1)
