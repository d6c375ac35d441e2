"""The network in between: when each byte arrives, in virtual time and for real."""

import asyncio
import os
import socket
from contextlib import suppress

import pytest

from ssmtunneld.emulator.path import (
    HIGH_WATER,
    OVERHEAD,
    PACKET,
    Flow,
    Link,
    Path,
    PathSettings,
)
from ssmtunneld.errors import ConfigError
from tests.emulator.reference import connected, destination, echo, eventually
from tests.support.clockwork import virtual

SLOW = PathSettings(delay=0.05, rate=1_250_000.0, queue=0.05)
PACKET_TIME = (PACKET + OVERHEAD) / 1_250_000


def test_a_path_is_read_from_text():
    assert PathSettings.parse("delay=50ms,rate=10mbit,queue=50ms") == SLOW
    assert PathSettings.parse("rate=8kbit") == PathSettings(rate=1000.0)
    assert PathSettings.parse("rate=1.5gbit").rate == 187_500_000
    assert PathSettings.parse("delay=1s") == PathSettings(delay=1.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected delay, rate or queue"),
        ("loss=1", "expected delay, rate or queue"),
        ("delay=long", "is not a duration"),
        ("rate=10", "is not a rate"),
        ("rate=0mbit", "is not a rate"),
        ("rate=10MBit", "is not a rate"),
    ],
)
def test_a_mistake_in_it_is_named(text, problem):
    with pytest.raises(ConfigError, match=problem):
        PathSettings.parse(text)


class Arrivals:
    """A flow, and when its packets arrived."""

    def __init__(self, link):
        self.times = []
        self.data = bytearray()
        self.relieved = 0
        self.flow = Flow(link, self._arrive, self._relieve)

    def _arrive(self, packet):
        self.times.append(asyncio.get_running_loop().time())
        self.data += packet

    def _relieve(self):
        self.relieved += 1

    async def all(self):
        done = asyncio.Event()
        self.flow.finish(done.set)
        await done.wait()


@virtual
async def test_a_delay_alone_lets_everything_arrive_at_once():
    arrivals = Arrivals(Link(PathSettings(delay=0.25)))
    arrivals.flow.send(bytes(5 * HIGH_WATER))
    await arrivals.all()
    assert arrivals.times == pytest.approx([0.25] * 5, abs=0.002)


@virtual
async def test_a_rate_spaces_packets_and_their_headers_count():
    arrivals = Arrivals(Link(SLOW))
    arrivals.flow.send(bytes(100 * PACKET))
    await arrivals.all()
    assert len(arrivals.times) == 100
    assert arrivals.times[0] == pytest.approx(PACKET_TIME + 0.05, abs=0.002)
    assert arrivals.times[-1] == pytest.approx(100 * PACKET_TIME + 0.05, abs=0.002)


@virtual
async def test_a_newcomer_waits_for_the_queue_and_not_for_what_senders_hold():
    link = Link(SLOW)
    bulk, small = Arrivals(link), Arrivals(link)
    bulk.flow.send(bytes(1000 * PACKET))
    await asyncio.sleep(0.1)
    begun = asyncio.get_running_loop().time()
    small.flow.send(b"x")
    await small.all()
    waited = small.times[0] - begun
    assert waited == pytest.approx(0.05 + 0.05, abs=0.005)
    await bulk.all()


@virtual
async def test_senders_share_a_link_evenly():
    link = Link(SLOW)
    first, second = Arrivals(link), Arrivals(link)
    first.flow.send(bytes(400 * PACKET))
    second.flow.send(bytes(100 * PACKET))
    await second.all()
    # What was in the queue before the second came is the first one's lead.
    lead = SLOW.queue / PACKET_TIME
    assert len(first.times) == pytest.approx(100 + lead, abs=3)
    await first.all()


@virtual
async def test_a_queue_of_nothing_still_lets_packets_through():
    arrivals = Arrivals(Link(PathSettings(rate=1_000_000.0, queue=0.0)))
    arrivals.flow.send(bytes(10 * PACKET))
    await arrivals.all()
    assert len(arrivals.data) == 10 * PACKET


@virtual
async def test_a_link_that_becomes_faster_is_so_for_what_waits_already():
    link = Link(PathSettings(delay=0.5, rate=PACKET + OVERHEAD, queue=5.0))
    arrivals = Arrivals(link)
    arrivals.flow.send(bytes(100 * PACKET))  # a hundred seconds
    await asyncio.sleep(2.0)
    begun = asyncio.get_running_loop().time()
    link.change(SLOW)
    await arrivals.all()
    assert len(arrivals.data) == 100 * PACKET
    # What was in the queue travels at the old rate, the rest at the new one.
    assert arrivals.times[-1] - begun < 7.0


@virtual
async def test_nothing_overtakes_what_travels_when_a_link_becomes_shorter():
    link = Link(PathSettings(delay=1.0))
    first, second = Arrivals(link), Arrivals(link)
    first.flow.send(b"first")
    link.change(PathSettings(delay=0.01))
    second.flow.send(b"second")
    await second.all()
    assert second.times[0] >= first.times[0] == pytest.approx(1.0, abs=0.002)


async def test_an_emulator_without_a_path_has_none_to_change(emulate):
    emulator = await emulate()
    with pytest.raises(ConfigError, match="without a path"):
        emulator.change_path(SLOW)


@virtual
async def test_a_sender_is_relieved_when_little_waits():
    arrivals = Arrivals(Link(SLOW))
    arrivals.flow.send(bytes(200 * PACKET))
    assert arrivals.relieved == 0
    await arrivals.all()
    assert arrivals.relieved > 0


@virtual
async def test_what_is_held_does_not_travel_and_what_is_dropped_never_does():
    arrivals = Arrivals(Link(SLOW))
    arrivals.flow.hold()
    arrivals.flow.send(b"later")
    await asyncio.sleep(10)
    assert arrivals.data == b""
    arrivals.flow.release()
    await asyncio.sleep(10)
    assert arrivals.data == b"later"
    arrivals.flow.hold()
    arrivals.flow.send(b"never")
    arrivals.flow.drop()
    await arrivals.all()
    assert arrivals.data == b"later"


@virtual
async def test_an_earlier_arrival_moves_the_timer():
    link = Link(PathSettings(delay=1.0))
    arrivals = Arrivals(link)
    arrivals.flow.send(b"a")
    await asyncio.sleep(0.5)
    arrivals.flow.send(b"b")
    await arrivals.all()
    assert arrivals.times == pytest.approx([1.0, 1.5], abs=0.002)


async def test_bytes_survive_a_path_whole(emulate):
    emulator = await emulate(path=PathSettings(delay=0.002, rate=25_000_000.0))
    sent = os.urandom(200_000)
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        assert await client.echoed(3, sent) == sent
        await (await client.ping())


async def test_a_client_that_does_not_read_stops_the_destination_behind_a_path(emulate):
    written = 0

    async def serve(_reader, writer):
        nonlocal written
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            written += 65536

    emulator = await emulate(lane_capacity=64, path=PathSettings(rate=1e9))
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        client.reading.clear()
        await client.open(3)
        session = next(iter(emulator.sessions))
        await eventually(lambda: session.down.full and session.agent.plugin.piped_bytes)
        client.reading.set()
        before = session.agent.reliability.statistics.sent
        await client.until(
            lambda: session.agent.reliability.statistics.sent > before + 200
        )


async def test_a_cut_gets_through_at_once(emulate):
    emulator = await emulate(path=PathSettings(delay=0.01))
    async with connected(emulator.endpoint_url, 80) as client:
        emulator.cut_websockets()
        await client.until_lost()
        assert client.close_code == 1006


class Recorder(asyncio.Protocol):
    """An inner protocol that notes what it is told."""

    def __init__(self, *, stays=False):
        self.events = []
        self.stays = stays
        self.transport = None
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.events.append(data)

    def eof_received(self):
        self.events.append("eof")
        return self.stays

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def connection_lost(self, exc):
        self.events.append(exc)
        self.lost.set()


async def crossing(inner, settings):
    """Return the two ends of a connection over a path."""
    here, there = socket.socketpair()
    loop = asyncio.get_running_loop()
    path = Path(settings)
    await loop.connect_accepted_socket(path.behind(lambda: inner), here)
    reader, writer = await asyncio.open_unix_connection(sock=there)
    return reader, writer


async def test_data_arrives_before_the_end(emulate):
    inner = Recorder()
    reader, writer = await crossing(inner, PathSettings(delay=0.01))
    writer.write(b"last words")
    writer.write_eof()
    assert await reader.read() == b""
    await inner.lost.wait()
    assert inner.events == [b"last words", "eof", None]
    writer.close()


async def test_what_was_written_arrives_although_it_was_closed_at_once():
    inner = Recorder(stays=True)
    reader, writer = await crossing(inner, PathSettings(delay=0.01))
    transport = inner.transport
    assert transport.is_reading()
    assert not transport.can_write_eof()
    assert transport.get_extra_info("nothing", "default") == "default"
    transport.write(b"bye")
    transport.close()
    transport.close()
    transport.write(b"too late")
    assert transport.is_closing()
    assert await reader.read() == b"bye"
    await inner.lost.wait()
    writer.close()


async def test_writing_is_paused_and_goes_on():
    inner = Recorder()
    reader, writer = await crossing(inner, PathSettings(rate=1e6, queue=0.005))
    inner.transport.set_write_buffer_limits(high=10_000)
    inner.transport.write(bytes(40_000))
    assert inner.events == ["pause"]
    assert inner.transport.get_write_buffer_size() > 10_000
    assert len(await reader.readexactly(40_000)) == 40_000
    assert inner.events == ["pause", "resume"]
    inner.transport.abort()
    await inner.lost.wait()
    with suppress(OSError):
        writer.close()
        await writer.wait_closed()


async def test_reading_can_be_paused_and_the_sender_waits():
    inner = Recorder()
    _, writer = await crossing(inner, PathSettings(rate=1e8))
    inner.transport.pause_reading()
    assert not inner.transport.is_reading()
    writer.write(bytes(8 << 20))
    for _ in range(200):
        await asyncio.sleep(0)
    assert inner.events == []
    inner.transport.resume_reading()
    await writer.drain()
    writer.close()
    await inner.lost.wait()
    assert sum(len(e) for e in inner.events if isinstance(e, bytes)) == 8 << 20
