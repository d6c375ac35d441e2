import asyncio
import socket
from contextlib import suppress

import pytest

from ssmtunneld.errors import StreamReset
from ssmtunneld.listener import local as local_module
from ssmtunneld.listener.local import RECEIVE_MARK, LocalDuplex
from ssmtunneld.listener.relay import ClientClose
from tests.support.conformance import DuplexConformance, receive_all
from tests.support.sockets import read_all, reset, socket_pair
from tests.support.turns import turns, until

LARGE = 16 * 1024 * 1024


class _OverSockets(DuplexConformance):
    family = ""

    @pytest.fixture
    async def pair(self):
        near, far = socket_pair(self.family)
        ends = await LocalDuplex.adopt(near), await LocalDuplex.adopt(far)
        yield ends
        for end in ends:
            end.abort()
        await turns(5)


class TestTcp4(_OverSockets):
    family = "tcp4"


class TestTcp6(_OverSockets):
    family = "tcp6"


class TestUnix(_OverSockets):
    family = "unix"
    aborts_visibly = False


@pytest.fixture(params=["tcp4", "unix"])
async def ends(request):
    """A ``LocalDuplex`` and the plain socket of its client."""
    mine, theirs = socket_pair(request.param)
    local = await LocalDuplex.adopt(mine)
    yield local, theirs
    local.abort()
    theirs.close()
    await turns(5)


@pytest.fixture
async def tcp():
    mine, theirs = socket_pair()
    local = await LocalDuplex.adopt(mine)
    yield local, theirs
    local.abort()
    theirs.close()
    await turns(5)


async def test_small_pieces_leave_at_once(tcp):
    local, _ = tcp
    sock = local._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_what_waits_is_received_in_one_piece(ends):
    local, client = ends
    for piece in (b"one ", b"two ", b"three"):
        before = local.buffered
        client.send(piece)
        await until(lambda before=before: local.buffered > before)
    assert await local.receive() == b"one two three"
    assert local.buffered == 0


async def test_reading_stops_while_enough_waits_and_goes_on_later(ends):
    local, client = ends
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(loop.sock_sendall(client, bytes(LARGE)))
        await until(lambda: local.buffered >= RECEIVE_MARK)
        held = local.buffered
        await turns(200)
        assert local.buffered == held <= RECEIVE_MARK + 256 * 1024
        assert not sending.done()
        received = 0
        while received < LARGE:
            received += len(await local.receive())
    assert received == LARGE


async def test_nothing_more_is_read_before_it_is_wanted(ends):
    local, client = ends
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(loop.sock_sendall(client, bytes(LARGE)))
        await until(lambda: local.buffered >= RECEIVE_MARK)
        received = len(await local.receive())
        await turns(200)
        assert local.buffered == 0  # what was taken is held elsewhere as long
        assert not sending.done()
        while received < LARGE:
            received += len(await local.receive())
    assert received == LARGE


async def test_while_a_connection_is_being_lost_it_is_left_alone(ends):
    local, client = ends
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(loop.sock_sendall(client, bytes(LARGE)))
        await until(lambda: local.buffered >= RECEIVE_MARK)
        sending.cancel()
    local._transport.abort()  # as loops do when writing fails
    local._look(1.0)
    assert len(await local.receive()) >= RECEIVE_MARK
    with pytest.raises(StreamReset):
        await local.receive()


async def test_a_client_whose_events_would_come_is_not_watched(ends):
    local, _ = ends
    local._look(1.0)
    assert local._watch is None


async def test_a_reset_before_the_end_is_an_error_and_a_departure(tcp):
    local, client = tcp
    reset(client)
    with pytest.raises(StreamReset, match="local connection broke"):
        await local.receive()
    with pytest.raises(StreamReset):
        await local.send(b"too late")
    assert await local.client_left is ClientClose.RESET


async def test_a_reset_is_noticed_while_nobody_reads(tcp):
    local, client = tcp
    client.send(b"half a sente")
    await until(lambda: local.buffered)
    reset(client)
    assert await local.client_left is ClientClose.RESET
    assert local.buffered == 0


async def test_a_reset_is_noticed_while_reading_has_stopped(tcp):
    local, client = tcp
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(loop.sock_sendall(client, bytes(LARGE)))
        await until(lambda: local.buffered >= RECEIVE_MARK)
        sending.cancel()
    reset(client)
    assert await local.client_left is ClientClose.RESET


async def test_a_client_that_only_ended_is_not_gone(ends):
    local, client = ends
    client.shutdown(socket.SHUT_WR)
    assert await local.receive() == b""
    local._look(local_module.LAST_LOOK)
    assert not local.client_left.done()
    await local.send(b"answer")
    assert await asyncio.get_running_loop().sock_recv(client, 100) == b"answer"


async def test_a_client_that_closed_is_gone_though_nothing_is_written(ends):
    local, client = ends
    client.send(b"bye")
    client.close()
    assert await local.client_left is ClientClose.CLOSED
    assert await receive_all(local) == b"bye"


async def test_a_client_that_closed_behind_more_than_there_is_room_for_is_gone(tcp):
    local, client = tcp
    client.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            client.send(bytes(LARGE))
            await turns()
    client.close()
    assert await local.client_left is ClientClose.CLOSED


async def test_what_was_sent_before_an_end_outlives_a_reset(tcp):
    local, client = tcp
    client.send(b"complete")
    client.shutdown(socket.SHUT_WR)
    await until(lambda: local._inbound is local_module._Inbound.ENDED)
    reset(client)
    assert await local.client_left is ClientClose.CLOSED
    while not await _raises_reset(local.send(b"x")):
        await turns()
    assert await receive_all(local) == b"complete"


async def test_an_abort_is_a_reset_for_the_client(tcp):
    local, client = tcp
    await local.send(b"half an ans")
    local.abort()
    with pytest.raises(ConnectionResetError):
        await read_all(client)


async def test_a_clean_end_is_none(ends):
    local, client = ends
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(local.aclose())
        assert await read_all(client) == b""
        client.close()


async def test_closing_waits_until_a_slow_client_has_taken_everything(ends):
    local, client = ends
    sent = bytes(range(256)) * (LARGE // 256)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(local.send(sent))
        await turns(100)
        assert not sending.done()
        sending.cancel()
        closing = tasks.create_task(local.aclose())
        await turns(100)
        assert not closing.done()
        assert await read_all(client) == sent
        client.close()


async def test_a_client_that_goes_on_sending_still_gets_everything(tcp):
    """A plain close would reset: see ``LocalDuplex.aclose``."""
    local, client = tcp
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(loop.sock_sendall(client, bytes(LARGE)))
        await until(lambda: local.buffered >= RECEIVE_MARK)
        await local.send(b"that is enough")
        tasks.create_task(local.aclose())
        assert await read_all(client) == b"that is enough"
        await sending  # discarded, not blocked
        client.close()


async def test_closing_wakes_who_receives(ends):
    local, client = ends
    async with asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(_raises_reset(local.receive()))
        await turns(2)
        closing = tasks.create_task(local.aclose())
        await read_all(client)
        client.close()
        await closing
    assert receiving.result()


async def test_a_client_that_takes_nothing_in_time_is_reset(tcp):
    local, client = tcp
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(local.send(bytes(LARGE)))
        await turns(10)
        sending.cancel()
    await local.aclose(timeout=0.01)
    with pytest.raises(ConnectionResetError):
        await read_all(client)


async def test_a_cancelled_close_is_a_reset(tcp):
    local, client = tcp
    async with asyncio.TaskGroup() as tasks:
        closing = tasks.create_task(local.aclose())
        await turns(5)
        closing.cancel()
    await until(lambda: local._transport is None)
    assert await read_all(client) == b""  # its end of file came before the reset
    with pytest.raises(BrokenPipeError):
        client.send(b"x")


async def test_closing_a_connection_that_breaks_meanwhile_returns(tcp):
    local, client = tcp
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(_raises_reset(local.send(bytes(LARGE))))
        await turns(10)
        closing = tasks.create_task(local.aclose())
        await turns(10)
        reset(client)
        await closing
    assert sending.result()


async def test_a_send_that_waits_fails_when_the_client_resets(tcp):
    local, client = tcp
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(_raises_reset(local.send(bytes(LARGE))))
        await turns(10)
        reset(client)
    assert sending.result()


async def test_it_is_no_stream_before_it_is_connected():
    local = LocalDuplex()
    with pytest.raises(StreamReset, match="not connected"):
        await local.send(b"x")
    await local.send_eof()
    local.abort()
    await local.aclose()


@pytest.mark.parametrize("moment", range(6))
async def test_cancelling_an_adoption_resets_the_connection(moment):
    mine, theirs = socket_pair()
    adopted = []

    async def adopt():
        adopted.append(await LocalDuplex.adopt(mine))

    async with asyncio.TaskGroup() as tasks:
        adopting = tasks.create_task(adopt())
        await turns(moment)
        adopting.cancel()
    if not moment:  # it never began: the socket is still ours
        reset(mine)
    for local in adopted:
        local.abort()
    with pytest.raises(ConnectionResetError):
        await read_all(theirs)
    await until(lambda: mine.fileno() == -1)
    theirs.close()


async def _raises_reset(awaitable):
    try:
        await awaitable
    except StreamReset:
        return True
    return False
