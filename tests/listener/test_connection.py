import asyncio
import socket

import pytest

from ssmtunneld.errors import NoSessionReady, StreamReset
from ssmtunneld.listener.connection import Connection, StreamSource, _open
from ssmtunneld.listener.local import LocalDuplex
from ssmtunneld.listener.relay import ClientClose, ConnectionOutcome, Transfer
from tests.support.conformance import receive_all
from tests.support.memory import memory_pair
from tests.support.sockets import read_all, reset, socket_pair
from tests.support.turns import turns, until

LINGER = 60.0


@pytest.fixture
def ends():
    """A connection that was just accepted, and its client's socket."""
    mine, theirs = socket_pair()
    connection = Connection(mine, "127.0.0.1:40000", 0.0)
    yield connection, theirs
    connection.release()
    theirs.close()


def _none():
    """Return no stream: none is ready."""


async def carry(connection, opening):
    """Do all that a server does for a connection, in one turn as far as that goes."""
    connection.begin(opening)
    await connection.join(opening, LINGER)


class Opening:
    """An ``open_stream`` that waits until the test lets it go on."""

    def __init__(self):
        self.may_go_on = asyncio.Event()
        self.waiting = False
        self.cancelled = False

    async def __call__(self):
        self.waiting = True
        try:
            await self.may_go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        stream, self.server = memory_pair()
        return stream


async def test_a_stream_is_opened_and_joined(ends):
    connection, client = ends
    stream, server = memory_pair()

    async def open_stream():
        return stream

    client.send(b"question")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(carry(connection, StreamSource(_none, open_stream)))
        assert await server.receive() == b"question"
        await server.send(b"answer")
        await server.send_eof()
        assert await read_all(client) == b"answer"
        assert (
            connection.transfer.ending is ConnectionOutcome.CANCELLED
        )  # if it were cut now
        client.close()
    assert connection.transfer.ending is ConnectionOutcome.COMPLETED
    assert (connection.transfer.sent, connection.transfer.received) == (8, 6)
    assert (connection.meter.sent, connection.meter.received) == (8, 6)


def at_once(stream):
    """A source that has ``stream`` without waiting."""

    async def nobody_waits():
        raise AssertionError

    return StreamSource(lambda: stream, nobody_waits)


async def test_what_came_with_the_connect_is_sent_before_anything_else(ends):
    connection, client = ends
    stream, server = memory_pair()
    client.send(b"question")
    await turns(3)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(carry(connection, at_once(stream)))
        await asyncio.sleep(0)
        assert connection.meter.sent == len(b"question")
        assert await server.receive() == b"question"
        client.send(b", and another")
        assert await server.receive() == b", and another"
        await server.send(b"answer")
        await server.send_eof()
        assert await read_all(client) == b"answer"
        client.close()
    assert connection.transfer == Transfer(21, 6, ConnectionOutcome.COMPLETED)


async def test_what_came_with_the_connect_is_sent_in_the_turn_of_the_accept(ends):
    connection, client = ends
    stream, server = memory_pair()
    client.send(b"question")
    connection.begin(at_once(stream))
    assert (server.unread, connection.meter.sent) == (len(b"question"),) * 2
    # If it is ended before its task has run, nothing of it is left.
    connection.release()
    assert stream.aborted
    with pytest.raises(ConnectionResetError):
        await read_all(client)


async def test_a_connection_that_has_begun_is_joined_to_the_stream_that_it_has(ends):
    connection, client = ends
    stream, server = memory_pair()
    connection.begin(at_once(stream))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.join(at_once(None), LINGER))
        client.send(b"question")
        assert await server.receive() == b"question"
        await server.send_eof()
        assert await read_all(client) == b""
        client.close()
    assert connection.transfer == Transfer(8, 0, ConnectionOutcome.COMPLETED)


async def test_a_defect_in_the_turn_of_the_accept_aborts_the_stream(ends):
    connection, client = ends
    stream, _ = memory_pair()
    stream.put = None
    client.send(b"question")
    with pytest.raises(TypeError):
        connection.begin(at_once(stream))
    assert stream.aborted


async def test_a_client_that_waits_to_be_spoken_to_is_joined_at_once_too(ends):
    connection, client = ends
    stream, server = memory_pair()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(carry(connection, at_once(stream)))
        await server.send(b"SSH-2.0-OpenSSH")
        await server.send_eof()
        assert await read_all(client) == b"SSH-2.0-OpenSSH"
        client.close()
    assert connection.transfer == Transfer(0, 15, ConnectionOutcome.COMPLETED)


async def test_a_client_that_has_reset_already_gets_no_stream(ends):
    connection, client = ends
    stream, server = memory_pair()
    reset(client)
    await carry(connection, at_once(stream))
    assert connection.transfer.ending is ConnectionOutcome.LOCAL_RESET
    with pytest.raises(StreamReset):
        await server.receive()


async def test_a_client_that_said_all_it_had_to_say_at_once_is_answered(ends):
    connection, client = ends
    stream, server = memory_pair()
    client.send(b"question")
    client.shutdown(socket.SHUT_WR)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(carry(connection, at_once(stream)))
        assert await server.receive() == b"question"
        await server.send(b"answer")
        await server.send_eof()
        assert await read_all(client) == b"answer"
    assert connection.transfer.ending is ConnectionOutcome.COMPLETED


async def test_a_stream_that_breaks_before_the_first_byte_resets_the_client(ends):
    connection, client = ends
    stream, server = memory_pair()
    client.send(b"question")
    server.abort()
    await carry(connection, at_once(stream))
    assert connection.transfer.ending is ConnectionOutcome.REMOTE_RESET
    with pytest.raises(ConnectionResetError):
        await read_all(client)


async def test_a_cut_before_the_first_byte_resets_both_ends(ends):
    connection, client = ends
    stream, server = memory_pair()
    client.send(b"question")
    async with asyncio.TaskGroup() as tasks:
        joining = tasks.create_task(carry(connection, at_once(stream)))
        await asyncio.sleep(0)
        joining.cancel()
    with pytest.raises(ConnectionResetError):
        await read_all(client)
    with pytest.raises(StreamReset):
        await receive_all(server)
    assert connection.transfer.ending is ConnectionOutcome.CANCELLED


async def test_where_no_stream_is_ready_one_is_waited_for(ends):
    connection, client = ends
    opening = Opening()
    client.send(b"question")
    async with asyncio.TaskGroup() as tasks:
        source = StreamSource(_none, opening)
        tasks.create_task(carry(connection, source))
        await until(lambda: opening.waiting)
        opening.may_go_on.set()
        await until(lambda: hasattr(opening, "server"))
        assert await opening.server.receive() == b"question"
        client.close()


async def test_a_refusal_resets_the_client(ends):
    connection, client = ends

    async def open_stream():
        raise NoSessionReady("no session in 15 s")

    await carry(connection, StreamSource(_none, open_stream))
    assert connection.transfer.ending is ConnectionOutcome.REFUSED
    assert isinstance(connection.transfer.cause, NoSessionReady)
    with pytest.raises(ConnectionResetError):
        await read_all(client)


@pytest.mark.parametrize("error", [ValueError, TimeoutError])
async def test_a_defect_resets_the_client_and_is_passed_on(ends, error):
    connection, client = ends

    async def open_stream():
        raise error

    with pytest.raises(error):
        await carry(connection, StreamSource(_none, open_stream))
    with pytest.raises(ConnectionResetError):
        await read_all(client)


@pytest.mark.parametrize("leave", [reset, socket.socket.close])
async def test_a_client_that_leaves_ends_the_wait_for_a_stream(ends, leave):
    connection, client = ends
    opening = Opening()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(carry(connection, StreamSource(_none, opening)))
        await until(lambda: opening.waiting)
        leave(client)
    assert opening.cancelled
    assert connection.transfer.ending is ConnectionOutcome.LOCAL_RESET


async def test_what_a_client_left_behind_is_delivered(ends):
    connection, client = ends
    opening = Opening()
    client.send(b"a line for the log server")
    client.close()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(carry(connection, StreamSource(_none, opening)))
        await turns(50)
        opening.may_go_on.set()
        await until(lambda: hasattr(opening, "server"))
        assert await receive_all(opening.server) == b"a line for the log server"
    assert connection.transfer.ending is ConnectionOutcome.LOCAL_CLOSED


async def test_a_client_that_left_data_behind_does_not_end_the_wait():
    mine, client = socket_pair()
    local = await LocalDuplex.adopt(mine)
    opening = Opening()
    client.send(b"a line for the log server")
    client.close()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_open(opening, local))
        assert await local.client_left is ClientClose.CLOSED
        await turns(5)
        opening.may_go_on.set()
    assert waiting.result() is not None
    local.abort()


async def test_a_client_that_leaves_just_when_the_stream_is_open_is_no_trouble(ends):
    connection, client = ends
    opening = Opening()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(carry(connection, StreamSource(_none, opening)))
        await until(lambda: opening.waiting)
        opening.may_go_on.set()
        reset(client)
    assert connection.transfer.ending is ConnectionOutcome.LOCAL_RESET


async def test_a_connection_that_never_ran_is_reset():
    mine, client = socket_pair()
    connection = Connection(mine, "peer", 0.0)
    connection.release()
    assert connection.transfer.ending is ConnectionOutcome.CANCELLED
    with client, pytest.raises(ConnectionResetError):
        await read_all(client)


@pytest.mark.parametrize("moment", range(1, 30))
async def test_cancelling_at_any_moment_leaves_nothing(ends, moment):
    connection, client = ends
    stream, server = memory_pair()
    opened = []

    async def open_stream():
        await turns(3)
        opened.append(stream)
        return stream

    client.send(b"question")
    async with asyncio.TaskGroup() as tasks:
        joining = tasks.create_task(carry(connection, StreamSource(_none, open_stream)))
        await turns(moment)
        await server.send(b"answer")
        joining.cancel()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert connection.transfer.ending is ConnectionOutcome.CANCELLED
    if opened:
        assert stream.aborted
    with pytest.raises(ConnectionResetError):
        await read_all(client)


@pytest.mark.parametrize("ready", [True, False])
async def test_it_is_told_once_when_a_connection_has_its_stream(ready):
    mine, client = socket_pair()
    stream, server = memory_pair()
    told = []
    connection = Connection(
        mine, "", 0.0, name="7", opened=lambda c: told.append((c.name, c.remote))
    )

    async def open_stream():
        assert told == []
        return stream

    opening = at_once(stream) if ready else StreamSource(_none, open_stream)
    with client:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(carry(connection, opening))
            await server.send(b"hello")
            await server.send_eof()
            assert await read_all(client) == b"hello"
            client.close()
    assert told == [("7", stream)]
    assert connection.destination is None


@pytest.mark.parametrize("ready", [True, False])
async def test_whoever_is_told_and_breaks_leaves_nothing_open(ready):
    mine, client = socket_pair()
    stream, server = memory_pair()

    def broken(_):
        raise ZeroDivisionError

    async def open_stream():
        return stream

    opening = at_once(stream) if ready else StreamSource(_none, open_stream)
    with client:
        with pytest.raises(ZeroDivisionError):
            await carry(Connection(mine, "", 0.0, opened=broken), opening)
        with pytest.raises(ConnectionResetError):
            await read_all(client)
        with pytest.raises(StreamReset):
            await server.receive()


def test_a_killed_connection_says_so_until_it_has_another_result(ends):
    connection, _ = ends
    connection.killed = True
    assert connection.transfer.ending is ConnectionOutcome.KILLED
    connection.fail()
    assert connection.transfer.ending is ConnectionOutcome.FAILED
