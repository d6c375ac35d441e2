"""Byte streams over smux: waiting, waking, bounds, ends."""

import asyncio

import pytest

from ssmtunneld.errors import (
    ChannelClosed,
    DestinationRefused,
    LocalProtocolError,
    StreamReset,
)
from ssmtunneld.smux.frame import Command, FrameDecoder, encode_frame
from ssmtunneld.smux.mux import MAX_STREAM_ID
from ssmtunneld.smux.stream import PIECE_OVERHEAD
from ssmtunneld.transport.mux_port import MuxPort
from ssmtunneld.transport.ports import Buffers
from ssmtunneld.transport.streams import SEND_BUFFER
from tests.support.clockwork import turns, virtual
from tests.support.conformance import DuplexConformance
from tests.transport.port_rig import LOST, SMALL, FakeDriver, start_waiting, take

SYN, FIN, PSH, NOP = Command.SYN, Command.FIN, Command.PSH, Command.NOP


def _mux_port(buffers=SMALL):
    return MuxPort(FakeDriver(), buffers)


def _frames(port):
    return [tuple(frame) for frame in FrameDecoder().feed(take(port))]


def _arrive(port, *frames):
    port.receive(b"".join(encode_frame(*frame) for frame in frames))


# Opening and sending.


@virtual
async def test_an_opened_stream_wakes_the_driver_and_begins_with_its_data():
    port = _mux_port()
    stream = port.open_stream()
    assert port._driver.woken == 1
    await stream.send(b"hello")
    assert _frames(port) == [(SYN, 3, b""), (PSH, 3, b"hello")]
    assert stream.sent == 5
    assert port.moved_bytes == 2 * 8 + 5
    assert port.streams == 1


@virtual
async def test_a_send_waits_until_half_of_its_buffer_is_free():
    port = _mux_port()
    stream = port.open_stream()
    await stream.send(bytes(SEND_BUFFER))
    async with asyncio.TaskGroup() as tasks:
        waiting = start_waiting(tasks, stream.send(b"x"))
        await turns()
        while port.statistics().pending > SEND_BUFFER // 2:
            assert not waiting.done()
            take(port, 1)
            await turns()
        assert waiting.done()


@virtual
async def test_a_send_that_is_cancelled_still_goes_out():
    port = _mux_port()
    stream = port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        waiting = start_waiting(tasks, stream.send(bytes(2 * SEND_BUFFER)))
        await turns()
        waiting.cancel()
    take(port)
    assert stream.sent == 2 * SEND_BUFFER
    await stream.send(b"more")


@virtual
async def test_a_stream_that_waits_does_not_keep_another_from_sending():
    port = _mux_port()
    stuck, free = port.open_stream(), port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        waiting = start_waiting(tasks, stuck.send(bytes(2 * SEND_BUFFER)))
        await turns()
        await free.send(b"x")
        assert not waiting.done()
        take(port)


@virtual
async def test_a_nop_wakes_the_driver():
    port = _mux_port()
    port.nop()
    assert port._driver.woken == 1
    assert _frames(port) == [(NOP, 0, b"")]


@virtual
async def test_streams_are_available_until_their_ids_run_out():
    port = _mux_port()
    assert port.available
    port._mux._next_id = MAX_STREAM_ID
    port.open_stream()
    assert not port.available
    with pytest.raises(LocalProtocolError):
        port.open_stream()


# Receiving.


@virtual
async def test_what_has_arrived_is_received_at_once():
    port = _mux_port()
    stream = port.open_stream()
    _arrive(port, (PSH, 3, b"ab"), (PSH, 3, b"cd"))
    assert await stream.receive() == b"abcd"
    assert stream.received == 4
    assert port.moved_bytes == 2 * 8 + 4


@virtual
async def test_a_receive_waits_for_data_of_its_own_stream():
    port = _mux_port()
    first, _ = port.open_stream(), port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        waiting = start_waiting(tasks, first.receive())
        await turns()
        _arrive(port, (PSH, 5, b"not yours"))
        await turns()
        assert not waiting.done()
        _arrive(port, (PSH, 3, b"yours"))
    assert waiting.result() == b"yours"


@virtual
async def test_a_receive_that_is_cancelled_loses_nothing():
    port = _mux_port()
    stream = port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        waiting = start_waiting(tasks, stream.receive())
        await turns()
        _arrive(port, (PSH, 3, b"x"))
        _arrive(port, (PSH, 3, b"y"))
        waiting.cancel()
    assert await stream.receive() == b"xy"


@virtual
async def test_the_remote_end_comes_behind_what_had_arrived_and_stays():
    port = _mux_port()
    stream = port.open_stream()
    take(port)
    _arrive(port, (PSH, 3, b"last"), (FIN, 3))
    assert await stream.receive() == b"last"
    assert await stream.receive() == b""
    assert await stream.receive() == b""
    assert _frames(port) == [(FIN, 3, b"")]
    assert port.streams == 0


@virtual
async def test_the_remote_end_wakes_who_waits_for_room_and_drops_what_it_sends():
    port = _mux_port()
    stream = port.open_stream()
    take(port)
    async with asyncio.TaskGroup() as tasks:
        waiting = start_waiting(tasks, stream.send(bytes(2 * SEND_BUFFER)))
        await turns()
        _arrive(port, (FIN, 3))
    assert waiting.result() is None
    await stream.send(b"dropped too")
    _arrive(port, (FIN, 3))
    assert _frames(port) == [(FIN, 3, b"")]


@virtual
async def test_a_refused_destination_is_an_error_not_an_end():
    port = _mux_port()
    stream = port.open_stream()
    port.dial_failed()
    _arrive(port, (FIN, 3))
    for _ in range(2):
        with pytest.raises(DestinationRefused):
            await stream.receive()
    assert port.statistics().refused == 1


@virtual
async def test_refusals_are_counted_until_a_destination_answers():
    port = _mux_port()
    for _ in range(3):
        port.open_stream()
    port.dial_failed()
    port.dial_failed()
    assert port.refusals == 2
    _arrive(port, (FIN, 3), (FIN, 5))
    assert port.refusals == 2
    _arrive(port, (PSH, 7, b"x"))
    assert port.refusals == 0


# Bounds.


@virtual
async def test_a_stream_that_is_not_read_stops_the_session_until_it_is():
    port = _mux_port()
    stream = port.open_stream()
    _arrive(port, (PSH, 3, bytes(SMALL.stream - PIECE_OVERHEAD)))
    assert not port.congested
    _arrive(port, (PSH, 3, b"x"))
    assert port.congested
    looks = port._driver.looks
    await stream.receive()
    assert not port.congested
    assert port._driver.looks == looks + 1


@virtual
async def test_streams_that_are_not_read_stop_the_session_together():
    port = _mux_port()
    streams = [port.open_stream() for _ in range(3)]
    for number in (3, 5, 7):
        assert not port.congested
        _arrive(port, (PSH, number, bytes(900)))
    assert port.congested
    await streams[0].receive()
    assert not port.congested


@pytest.mark.parametrize("how", ["abort", "aclose"])
def test_a_stream_that_goes_away_unread_does_not_stop_the_session(how):
    @virtual
    async def run():
        port = _mux_port()
        stream = port.open_stream()
        take(port)
        _arrive(port, (PSH, 3, bytes(2000)))
        looks = port._driver.looks
        if how == "abort":
            stream.abort()
        else:
            await stream.aclose()
        assert not port.congested
        assert port._driver.looks > looks
        _arrive(port, (PSH, 3, bytes(2000)))
        assert not port.congested
        assert port.statistics().dropped == 2000

    run()


@virtual
async def test_a_stream_that_ended_unread_still_counts():
    port = _mux_port()
    stream = port.open_stream()
    _arrive(port, (PSH, 3, bytes(2000)), (FIN, 3))
    take(port)
    assert port.congested
    assert await stream.receive() == bytes(2000)
    assert not port.congested
    assert await stream.receive() == b""


# Ends.


@virtual
async def test_our_end_follows_what_was_sent():
    port = _mux_port()
    stream = port.open_stream()
    await stream.send(b"bye")
    woken = port._driver.woken
    await stream.send_eof()
    await stream.send_eof()
    assert port._driver.woken > woken
    assert _frames(port) == [(SYN, 3, b""), (PSH, 3, b"bye"), (FIN, 3, b"")]


@virtual
async def test_closing_sends_what_was_sent_and_is_idempotent():
    port = _mux_port()
    stream = port.open_stream()
    await stream.send(b"bye")
    await stream.aclose()
    await stream.aclose()
    assert _frames(port) == [(SYN, 3, b""), (PSH, 3, b"bye"), (FIN, 3, b"")]
    assert port.streams == 0


@virtual
async def test_the_remote_end_of_a_stream_that_was_closed_here_wakes_nobody():
    port = _mux_port()
    stream = port.open_stream()
    take(port)
    await stream.send(bytes(3000))
    await stream.aclose()
    _arrive(port, (FIN, 3))
    assert _frames(port) == [(FIN, 3, b"")]


@virtual
async def test_aborting_drops_what_was_not_sent_and_is_idempotent():
    port = _mux_port()
    stream = port.open_stream()
    await stream.send(b"secret")
    stream.abort()
    stream.abort()
    await stream.aclose()
    assert _frames(port) == [(SYN, 3, b""), (FIN, 3, b"")]


@pytest.mark.parametrize("how", ["abort", "aclose", "fail"])
@pytest.mark.parametrize("who", ["receive", "send"])
def test_whoever_waits_is_woken_by_any_end(how, who):
    @virtual
    async def run():
        port = _mux_port()
        stream = port.open_stream()
        async with asyncio.TaskGroup() as tasks:
            waiting = start_waiting(
                tasks,
                stream.receive()
                if who == "receive"
                else stream.send(bytes(2 * SEND_BUFFER)),
            )
            await turns()
            if how == "abort":
                stream.abort()
            elif how == "fail":
                port.fail(LOST)
            else:
                await stream.aclose()
        assert isinstance(waiting.result(), StreamReset)
        with pytest.raises(StreamReset):
            await stream.receive()
        with pytest.raises(StreamReset):
            await stream.send(b"x")

    run()


@virtual
async def test_a_lost_session_breaks_all_streams_with_its_reason():
    port = _mux_port()
    streams = [port.open_stream() for _ in range(2)]
    port.fail(LOST)
    port.fail(ChannelClosed("again"))
    for stream in streams:
        with pytest.raises(StreamReset, match="timed out"):
            await stream.receive()


@virtual
async def test_a_stream_that_is_opened_after_the_end_is_broken_too():
    port = _mux_port()
    port.fail(LOST)
    with pytest.raises(StreamReset, match="timed out"):
        await port.open_stream().receive()


@virtual
async def test_the_first_reason_of_an_end_counts():
    port = _mux_port()
    assert not port.failed
    port.fail(LOST)
    port.fail(ChannelClosed("again"))
    assert port.failed
    with pytest.raises(StreamReset, match="timed out"):
        await port.open_stream().receive()


@virtual
async def test_a_broken_stream_does_not_wait_to_be_sent():
    port = _mux_port()
    stream = port.open_stream()
    assert port.unsent == [stream]
    port.fail(LOST)
    assert port.unsent == []


@virtual
async def test_what_the_agent_has_not_heard_of_is_rescued_when_its_session_ends():
    other = _mux_port()
    port = MuxPort(
        FakeDriver(), SMALL, rescue=lambda s: other.adopt(s, port.withdraw(s))
    )
    known, probe = port.open_stream(), port.open_stream(counted=False)
    take(port)
    unknown, second_probe = port.open_stream(), port.open_stream(counted=False)
    await unknown.send(b"hello")
    async with asyncio.TaskGroup() as tasks:
        waiting = start_waiting(tasks, unknown.receive())
        await turns()
        port.fail(LOST)
        for stream in (known, probe, second_probe):
            with pytest.raises(StreamReset, match="timed out"):
                await stream.receive()
        assert _frames(other) == [(SYN, 3, b""), (PSH, 3, b"hello")]
        _arrive(other, (PSH, 3, b"welcome"))
    assert waiting.result() == b"welcome"


@virtual
async def test_a_rescue_that_breaks_leaves_no_stream_behind():
    def break_(_stream):
        raise AssertionError

    port = MuxPort(FakeDriver(), SMALL, rescue=break_)
    stream = port.open_stream()
    with pytest.raises(AssertionError):
        port.fail(LOST)
    port.fail(ChannelClosed("again"))
    with pytest.raises(StreamReset, match="timed out"):
        await stream.receive()


@virtual
async def test_what_arrived_before_a_loss_can_still_be_read():
    port = _mux_port()
    stream = port.open_stream()
    _arrive(port, (PSH, 3, b"last"))
    port.fail(LOST)
    assert await stream.receive() == b"last"
    with pytest.raises(StreamReset):
        await stream.receive()


@virtual
async def test_an_end_before_a_loss_is_an_end():
    port = _mux_port()
    stream = port.open_stream()
    _arrive(port, (FIN, 3))
    port.fail(LOST)
    assert await stream.receive() == b""


@virtual
async def test_a_loss_does_not_touch_streams_that_were_given_up():
    port = _mux_port()
    stream = port.open_stream()
    stream.abort()
    port.fail(LOST)
    with pytest.raises(StreamReset, match="aborted here"):
        await stream.receive()


# What every Duplex promises.


class _Far:
    """The far end of a stream, like the agent's: any end is the end of both ways."""

    def __init__(self, port):
        self._port = port
        self._decoder = FrameDecoder()
        self._buffer = b""
        self._ended = self._fin_sent = False
        self._changed = asyncio.Event()

    async def receive(self):
        while not self._buffer and not self._ended:
            self.pump()
            if not self._buffer and not self._ended:
                self._changed.clear()
                await self._changed.wait()
        data, self._buffer = self._buffer, b""
        return data

    def pump(self):
        """Take messages while there is room, as a session with a window does."""
        while len(self._buffer) < SEND_BUFFER and (
            payload := self._port.next_payload()
        ):
            for command, _, data in self._decoder.feed(payload):
                self._buffer += data
                if command is FIN:
                    self._ended = True
                    self._end()
        self._port.after_sending()
        self._changed.set()

    def wake(self):
        asyncio.get_running_loop().call_soon(self.pump)

    wake_late = wake

    def reading_changed(self):
        pass

    async def send(self, data):
        for start in range(0, len(data), 60_000):
            _arrive(self._port, (PSH, 3, data[start : start + 60_000]))
            await turns(1)

    def _end(self):
        if not self._fin_sent:
            self._fin_sent = True
            _arrive(self._port, (FIN, 3))

    async def send_eof(self):
        self._end()

    def abort(self):
        self._end()

    async def aclose(self):
        self._end()


class _FarDriver:
    """Stands between a port and its far end, which needs the port first."""

    far = None

    def wake(self):
        self.far.wake()

    wake_late = wake

    def reading_changed(self):
        pass


class TestMuxStreamDuplex(DuplexConformance):
    half_closes = False
    aborts_visibly = False

    @pytest.fixture
    async def pair(self):
        driver = _FarDriver()
        port = MuxPort(driver, Buffers())
        driver.far = far = _Far(port)
        near = port.open_stream()
        yield near, far
        near.abort()

    async def test_sending_to_a_closed_end_fails_at_last(self, pair):
        """It does not: what the agent would drop is dropped here."""
        near, far = pair
        await far.aclose()
        assert await near.receive() == b""
        await near.send(bytes(2 * SEND_BUFFER))
        assert near.sent == 0


# Streams that do not count.


@virtual
async def test_a_stream_that_does_not_count_is_no_use_of_the_session():
    port = _mux_port()
    probe, stream = port.open_stream(counted=False), port.open_stream()
    assert port.streams == 1
    await probe.send(b"ping")
    take(port)
    assert port.unanswered is None
    await stream.send(b"select 1")
    take(port)
    assert port.unanswered == 5
    probe.abort()
    assert port.streams == 1  # its FIN has still to go
    take(port)
    assert (port.streams, port.statistics().streams) == (1, 1)
    stream.abort()
    take(port)
    assert port.streams == 0


@virtual
async def test_streams_that_did_not_count_are_forgotten():
    port = _mux_port()
    for _ in range(3):
        port.open_stream(counted=False).abort()
        take(port)
    assert len(port._uncounted) == 1
    assert port.streams == 0


@virtual
async def test_an_answer_to_any_stream_ends_a_row_of_refusals():
    port = _mux_port()
    port.dial_failed()
    probe = port.open_stream(counted=False)
    assert port.refusals == 1
    take(port)
    _arrive(port, (PSH, 3, b"+PONG"))
    assert port.refusals == 0
    probe.abort()


@virtual
async def test_the_silence_of_a_stream_means_nothing_while_something_is_stuck():
    port = _mux_port()
    stream = port.open_stream()
    assert not stream.unsettled
    await stream.send(b"a question")
    assert stream.unsettled
    take(port)
    assert not stream.unsettled
    port._driver.settled = False
    assert stream.unsettled


@virtual
async def test_a_stream_tells_the_session_that_carries_it_also_after_a_move():
    one = MuxPort(FakeDriver(), SMALL, "one")
    other = MuxPort(FakeDriver(), SMALL, "other")
    stream = one.open_stream()
    assert stream.session == "one"
    other.adopt(stream, one.withdraw(stream))
    assert stream.session == "other"
    stream.abort()
    assert stream.session == "other"
