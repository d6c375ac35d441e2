"""The agent's smux by itself: budget, backlog, order of frames."""

import asyncio

from ssmtunneld.emulator.agent.smux import (
    ACCEPT_BACKLOG,
    PIPE_CAPACITY,
    RECEIVE_BUDGET,
    SmuxServer,
)
from ssmtunneld.smux.frame import Command, Frame, FrameDecoder, encode_frame

SYN, FIN, PSH = Command.SYN, Command.FIN, Command.PSH


async def opened(server, stream_id):
    server.feed(encode_frame(SYN, stream_id))
    return await server.accept()


def filling(server, stream):
    """Feed ``stream`` more than the budget and return the size."""
    piece = encode_frame(PSH, stream.view.stream_id, bytes(65535))
    count = RECEIVE_BUDGET // 65535 + 1
    for _ in range(count):
        server.feed(piece)
    return count * 65535


async def frames_of(server):
    decoder, frames = FrameDecoder(), []
    data = await server.take(10_000_000)
    frames += decoder.feed(data)
    return frames


async def test_reading_stops_without_budget_and_goes_on_when_bytes_are_taken():
    server = SmuxServer()
    stream = await opened(server, 3)
    size = filling(server, stream)
    assert server.blocked
    assert not server.has_budget
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(server.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        taken = 0
        while taken < size:
            taken += len(await stream.read())
    assert server.has_budget


async def test_closing_a_stream_returns_what_it_held():
    server = SmuxServer()
    stream = await opened(server, 3)
    filling(server, stream)
    stream.close()
    stream.close()
    assert not server.blocked
    assert await stream.read() == b""
    assert await frames_of(server) == [Frame(FIN, 3)]


async def test_data_for_a_forgotten_stream_costs_nothing():
    server = SmuxServer()
    stream = await opened(server, 3)
    stream.close()
    filling(server, stream)
    assert not server.blocked


async def test_too_many_streams_that_nobody_accepts_stop_the_reader():
    server = SmuxServer()
    for stream_id in range(ACCEPT_BACKLOG):
        server.feed(encode_frame(SYN, stream_id))
    assert server.blocked
    await server.accept()
    assert not server.blocked


async def test_small_chunks_are_read_together_up_to_the_copy_buffer():
    server = SmuxServer()
    stream = await opened(server, 3)
    for _ in range(100):
        server.feed(encode_frame(PSH, 3, bytes(1000)))
    sizes = [len(await stream.read()) for _ in range(4)]
    assert sum(sizes) == 100_000
    assert max(sizes) <= 33_000


async def test_what_was_sent_before_a_fin_is_read_before_the_end():
    server = SmuxServer()
    stream = await opened(server, 3)
    server.feed(encode_frame(PSH, 3, b"last") + encode_frame(FIN, 3))
    assert [await stream.read(), await stream.read()] == [b"last", b""]


async def test_a_reader_that_waits_is_woken_by_a_close():
    server = SmuxServer()
    stream = await opened(server, 3)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(stream.read())
        await asyncio.sleep(0)
        stream.close()
    assert reading.result() == b""


async def test_a_write_waits_until_its_frame_is_in_the_pipe():
    server = SmuxServer()
    stream = await opened(server, 3)
    for _ in range(PIPE_CAPACITY // 32768 + 1):
        await stream.write(bytes(32768))
    assert server.piped_bytes >= PIPE_CAPACITY
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(stream.write(b"next"))
        await asyncio.sleep(0)
        assert not waiting.done()
        await server.take(65536)


async def test_a_fresh_stream_overtakes_one_that_has_sent_much():
    server = SmuxServer()
    bulk, fresh = await opened(server, 3), await opened(server, 5)
    for _ in range(PIPE_CAPACITY // 32768 + 1):
        await bulk.write(bytes(32768))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(bulk.write(b"later"))
        tasks.create_task(fresh.write(b"sooner"))
        await asyncio.sleep(0)
        server.send_nop()
        first = await frames_of(server)
        second = await frames_of(server)
    assert [frame.payload for frame in (first + second)[-3:]] == [
        b"sooner",
        b"",
        b"later",
    ]


async def test_writing_to_a_closed_stream_does_nothing():
    server = SmuxServer()
    stream = await opened(server, 3)
    stream.close()
    await stream.write(b"x")
    assert await frames_of(server) == [Frame(FIN, 3)]


async def test_a_writer_that_was_cancelled_does_not_hold_up_the_others():
    server = SmuxServer()
    stream = await opened(server, 3)
    for _ in range(PIPE_CAPACITY // 32768 + 1):
        await stream.write(bytes(32768))
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(stream.write(b"in the heap"))
        await asyncio.sleep(0)
        writing.cancel()
    await frames_of(server)
    assert (await frames_of(server))[-1].payload == b"in the heap"
