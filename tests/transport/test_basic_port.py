"""The one stream of a basic session: waiting, bounds, and the session's end."""

import asyncio

import pytest

from ssmtunneld.errors import ChannelClosed, LocalProtocolError, StreamReset
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.smux.stream import PIECE_OVERHEAD
from ssmtunneld.transport.basic_port import BasicPort
from ssmtunneld.transport.streams import SEND_BUFFER
from tests.support.clockwork import turns, virtual
from tests.transport.port_rig import LOST, SMALL, FakeDriver, start_waiting, take


def _basic_port(buffers=SMALL, *, ends_with=True):
    over = []
    port = BasicPort(
        FakeDriver(), buffers, lambda: over.append("over"), ends_with=ends_with
    )
    return port, over


@virtual
async def test_a_basic_session_has_one_stream():
    port, _ = _basic_port()
    assert port.available
    assert port.streams == 0
    port.open_stream()
    assert not port.available
    assert port.streams == 1
    with pytest.raises(LocalProtocolError):
        port.open_stream()


@virtual
async def test_a_basic_stream_is_its_bytes_in_messages():
    port, _ = _basic_port()
    stream = port.open_stream()
    await stream.send(b"")
    assert port._driver.woken == 0
    data = bytes(range(256)) * 9
    await stream.send(data)
    assert port._driver.woken == 1
    assert len(port.next_payload()) == MAX_PAYLOAD
    assert take(port) == data[MAX_PAYLOAD:]
    assert port.moved_bytes == stream.sent == len(data)


@virtual
async def test_a_basic_stream_receives_also_what_came_before_it():
    port, _ = _basic_port()
    port.receive(b"SSH-2.0-")
    stream = port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        assert await stream.receive() == b"SSH-2.0-"
        waiting = start_waiting(tasks, stream.receive())
        await turns()
        port.receive(b"OpenSSH")
    assert waiting.result() == b"OpenSSH"


@virtual
async def test_a_basic_stream_that_is_not_read_stops_its_session():
    port, _ = _basic_port()
    stream = port.open_stream()
    port.receive(bytes(SMALL.stream))
    assert port.congested
    await stream.receive()
    assert not port.congested
    assert port._driver.looks == 1


@virtual
async def test_a_basic_stream_waits_for_room():
    port, _ = _basic_port()
    stream = port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        waiting = start_waiting(tasks, stream.send(bytes(2 * SEND_BUFFER)))
        await turns()
        assert not waiting.done()
        take(port)


@virtual
async def test_a_basic_stream_has_no_end_to_say_but_takes_no_more():
    port, over = _basic_port()
    stream = port.open_stream()
    await stream.send(b"last")
    await stream.send_eof()
    await stream.send(b"too late")
    assert take(port) == b"last"
    assert over == []
    assert port.streams == 1


@virtual
async def test_a_basic_session_is_over_once_all_was_sent_after_a_close():
    port, over = _basic_port()
    stream = port.open_stream()
    await stream.send(bytes(3000))
    await stream.aclose()
    await stream.aclose()
    take(port, 1)
    assert over == []
    assert port.streams == 1, "a session without streams may be ended at any time"
    take(port)
    take(port)
    assert over == ["over"]
    assert port.streams == 0


@virtual
async def test_a_basic_session_is_over_at_once_if_nothing_is_pending():
    port, over = _basic_port()
    stream = port.open_stream()
    port.receive(bytes(2000))
    await stream.aclose()
    assert over == ["over"]
    assert not port.congested
    port.receive(bytes(2000))
    assert not port.congested


@virtual
async def test_a_basic_session_is_over_at_once_after_an_abort():
    port, over = _basic_port()
    stream = port.open_stream()
    await stream.send(bytes(3000))
    await stream.aclose()
    stream.abort()
    stream.abort()
    assert over == ["over"]
    assert take(port) == b""


@virtual
async def test_the_ordinary_end_of_a_basic_session_is_the_end_of_its_stream():
    port, _ = _basic_port()
    stream = port.open_stream()
    port.receive(b"bye")
    port.fail(ChannelClosed())
    assert await stream.receive() == b"bye"
    assert await stream.receive() == b""
    with pytest.raises(StreamReset):
        await stream.send(b"x")


@virtual
async def test_a_basic_stream_that_is_opened_after_the_end_is_broken_too():
    port, _ = _basic_port()
    port.fail(LOST)
    with pytest.raises(StreamReset, match="timed out"):
        await port.open_stream().receive()


@pytest.mark.parametrize(("error", "failed"), [(ChannelClosed(), False), (LOST, True)])
@virtual
async def test_an_end_with_its_destination_is_no_failure(error, failed):
    port, _ = _basic_port()
    assert not port.failed
    port.fail(error)
    assert port.failed == failed


@virtual
async def test_any_other_end_of_a_basic_session_breaks_its_stream():
    port, _ = _basic_port()
    stream = port.open_stream()
    port.fail(LOST)
    with pytest.raises(StreamReset, match="timed out"):
        await stream.receive()


@pytest.mark.parametrize(
    ("ends_with", "missing"),
    [
        pytest.param(False, 0, id="the agent would have connected again"),
        pytest.param(True, 1, id="a message is missing"),
    ],
)
@virtual
async def test_an_end_that_may_not_be_the_destinations_breaks_a_basic_stream(
    ends_with, missing
):
    port, _ = _basic_port(ends_with=ends_with)
    port._driver.missing = missing
    stream = port.open_stream()
    port.receive(b"the first half")
    port.fail(ChannelClosed())
    assert await stream.receive() == b"the first half"
    with pytest.raises(StreamReset):
        await stream.receive()


@virtual
async def test_a_basic_stream_that_was_cut_does_not_end_in_order_after_that():
    port, _ = _basic_port()
    stream = port.open_stream()
    port.fail(LOST)
    port.fail(ChannelClosed())
    with pytest.raises(StreamReset, match="timed out"):
        await stream.receive()


@virtual
async def test_a_basic_session_that_nobody_uses_may_end_too():
    port, over = _basic_port()
    take(port)
    port.fail(LOST)
    assert over == []


@virtual
async def test_a_basic_session_has_no_words_for_nops_and_failed_dials():
    port, _ = _basic_port()
    port.nop()
    port.dial_failed()
    assert port._driver.woken == 0
    assert port.refusals == 0
    assert take(port) == b""


@virtual
async def test_statistics_of_a_basic_session_are_those_of_its_stream():
    port, _ = _basic_port()
    stream = port.open_stream()
    await stream.send(b"abc")
    port.receive(b"x")
    now = port.statistics()
    assert (now.streams, now.opened, now.pending) == (1, 1, 3)
    assert now.unread == 1 + PIECE_OVERHEAD
    assert (now.refused, now.dropped) == (0, 0)


@virtual
async def test_the_only_stream_of_a_session_is_for_use():
    port, _ = _basic_port()
    with pytest.raises(LocalProtocolError):
        port.open_stream(counted=False)
    port.open_stream()


@virtual
async def test_the_silence_of_a_stream_means_nothing_while_something_is_stuck():
    port = _basic_port()[0]
    stream = port.open_stream()
    assert not stream.unsettled
    await stream.send(b"a question")
    assert stream.unsettled
    take(port)
    assert not stream.unsettled
    port._driver.settled = False
    assert stream.unsettled
