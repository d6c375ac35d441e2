"""A port without a driver: what it asks for, and what it sends."""

from ssmtunneld.errors import ChannelClosed, StreamReset
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.transport.ports import Buffers

SMALL = Buffers(stream=1000, session=2500)
LOST = ChannelClosed("the session timed out")


class FakeDriver:
    """Counts what a port asks for."""

    def __init__(self):
        self.woken = 0
        self.looks = 0
        self.settled = True
        self.missing = 0

    def wake(self):
        self.woken += 1

    wake_late = wake

    def reading_changed(self):
        self.looks += 1


def take(port, messages=10**6):
    """Take up to so many messages from ``port``, as a driver does."""
    payloads = []
    while len(payloads) < messages and (payload := port.next_payload()):
        assert len(payload) <= MAX_PAYLOAD
        payloads.append(payload)
    port.after_sending()
    return b"".join(payloads)


async def outcome(awaitable):
    try:
        return await awaitable
    except StreamReset as error:
        return error


def start_waiting(tasks, awaitable):
    return tasks.create_task(outcome(awaitable), name="the one who waits")
