"""Messages that mean nothing: sent before all else, and thrown away by the agent."""

import asyncio

from ssmtunneld.doctor.throughput_data import FILLING, FillingPort
from ssmtunneld.errors import SessionError
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.smux.frame import Command, FrameDecoder
from ssmtunneld.transport.ports import Buffers


class Driver:
    """Counts how often it was woken."""

    woken = 0
    settled = True
    missing = 0

    def wake(self):
        self.woken += 1

    wake_late = reading_changed = wake


def new_port():
    driver = Driver()
    return FillingPort(driver, Buffers()), driver


def test_the_filling_is_a_full_message_of_frames_without_meaning():
    assert len(FILLING) == MAX_PAYLOAD
    frames = FrameDecoder().feed(FILLING)
    assert {(frame.command, frame.payload) for frame in frames} == {(Command.NOP, b"")}


def test_so_many_are_sent_as_were_asked_for_and_then_what_streams_have():
    port, driver = new_port()
    assert port.next_payload() == b""
    port.fill(2)
    assert driver.woken == 1
    assert [port.next_payload() for _ in range(3)] == [FILLING, FILLING, b""]
    assert port.left == 0


async def test_whoever_waits_learns_of_each_turn_and_of_the_end():
    port, _ = new_port()
    for happen in (port.after_sending, lambda: port.fail(SessionError("over"))):
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(port.turn(), name="w") for _ in range(2)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            happen()
