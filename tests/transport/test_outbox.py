"""Messages on their way to a link: held for company, and choked by a full network."""

import asyncio

import pytest

from ssmtunneld.transport.outbox import (
    ACK_BATCH,
    ACK_DELAY,
    CHOKE_SIZE,
    CHOKE_TIMEOUT,
    Outbox,
)
from tests.support.clockwork import virtual
from tests.support.memory_link import MemoryLink


class Stage:
    """An outbox in front of a link."""

    def __init__(self):
        self.link = MemoryLink()
        self.lost = []
        self.outbox = Outbox(self.send, self.lost.append)

    def send(self):
        self.outbox.send(self.link)

    @property
    def writes(self):
        return [list(write) for write in self.link.writes]


@virtual
async def test_what_is_held_goes_by_itself_and_together():
    stage = Stage()
    for message in (b"a", b"b"):
        stage.outbox.add(message)
        stage.outbox.hold()
    assert len(stage.outbox) == 2
    await asyncio.sleep(ACK_DELAY / 2)
    assert stage.writes == []
    await asyncio.sleep(ACK_DELAY)
    assert stage.writes == [[b"a", b"b"]]
    assert len(stage.outbox) == 0


@virtual
async def test_holding_does_not_begin_anew_with_each_message():
    stage = Stage()
    for _ in range(ACK_BATCH - 1):
        stage.outbox.add(b"x")
        stage.outbox.hold()
        await asyncio.sleep(ACK_DELAY / 2)
    assert len(stage.writes) == (ACK_BATCH - 1) // 2


@virtual
async def test_many_are_not_held():
    stage = Stage()
    for _ in range(ACK_BATCH):
        stage.outbox.add(b"x")
    stage.outbox.hold()
    assert stage.writes == [[b"x"] * ACK_BATCH]


@virtual
async def test_what_has_gone_with_something_else_does_not_go_twice():
    stage = Stage()
    stage.outbox.add(b"a")
    stage.outbox.hold()
    stage.outbox.add(b"b")
    stage.send()
    await asyncio.sleep(1)
    assert stage.writes == [[b"a", b"b"]]


@virtual
async def test_nothing_is_written_for_nothing():
    stage = Stage()
    stage.outbox.hold()
    stage.send()
    await asyncio.sleep(1)
    assert stage.writes == []


@virtual
async def test_what_was_held_for_a_link_that_is_gone_is_forgotten():
    stage = Stage()
    stage.outbox.add(b"a")
    stage.outbox.hold()
    stage.outbox.reset()
    await asyncio.sleep(1)
    assert stage.writes == []
    stage.outbox.add(b"b")
    stage.outbox.hold()
    await asyncio.sleep(ACK_DELAY)
    assert stage.writes == [[b"b"]]


@virtual
async def test_a_network_that_takes_nothing_chokes_and_is_given_up():
    stage = Stage()
    stage.link.congested = True
    stage.outbox.add(b"x" * CHOKE_SIZE)
    stage.send()
    assert not stage.outbox.choked
    stage.outbox.add(b"x")
    stage.send()
    assert stage.outbox.choked
    await asyncio.sleep(CHOKE_TIMEOUT)
    assert [str(error) for error in stage.lost] == [
        "the data channel's websocket ended: it took nothing from us"
    ]


@pytest.mark.parametrize("end", [Outbox.unchoke, Outbox.reset])
@virtual
async def test_a_network_that_takes_it_after_all_is_not_given_up(end):
    stage = Stage()
    stage.link.congested = True
    stage.outbox.add(b"x" * (CHOKE_SIZE + 1))
    stage.send()
    end(stage.outbox)
    assert not stage.outbox.choked
    await asyncio.sleep(2 * CHOKE_TIMEOUT)
    assert stage.lost == []


@virtual
async def test_what_a_free_network_takes_does_not_count():
    stage = Stage()
    stage.outbox.add(b"x" * (CHOKE_SIZE + 1))
    stage.send()
    assert not stage.outbox.choked
    await asyncio.sleep(2 * CHOKE_TIMEOUT)
    assert stage.lost == []
