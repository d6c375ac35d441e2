"""Byte streams over a channel: waiting, waking, bounds, ends."""

import asyncio

import pytest

from ssmtunneld.errors import (
    ChannelClosed,
    DestinationRefused,
    LocalProtocolError,
    StreamReset,
)
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.smux.frame import Command, FrameDecoder, encode_frame
from ssmtunneld.smux.mux import MAX_STREAM_ID
from ssmtunneld.smux.stream import PIECE_OVERHEAD
from ssmtunneld.transport.ports import Buffers, MuxPort, SinglePort
from ssmtunneld.transport.streams import SEND_BUFFER
from tests.support.clockwork import turns, virtual
from tests.support.conformance import DuplexConformance

SYN, FIN, PSH, NOP = Command.SYN, Command.FIN, Command.PSH, Command.NOP
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


def _mux_port(buffers=SMALL):
    return MuxPort(FakeDriver(), buffers)


def _single_port(buffers=SMALL, *, ends_with=True):
    over = []
    port = SinglePort(
        FakeDriver(), buffers, lambda: over.append("over"), ends_with=ends_with
    )
    return port, over


def _round(port, messages=10**6):
    """Take up to so many messages from ``port``, as a driver does."""
    payloads = []
    while len(payloads) < messages and (payload := port.next_payload()):
        assert len(payload) <= MAX_PAYLOAD
        payloads.append(payload)
    port.after_sending()
    return b"".join(payloads)


def _frames(port):
    return [tuple(frame) for frame in FrameDecoder().feed(_round(port))]


def _arrive(port, *frames):
    port.receive(b"".join(encode_frame(*frame) for frame in frames))


async def _outcome(awaitable):
    try:
        return await awaitable
    except StreamReset as error:
        return error


def _start(tasks, awaitable):
    return tasks.create_task(_outcome(awaitable), name="the one who waits")


# Mux: opening and sending.


@virtual
async def test_an_opened_stream_wakes_the_driver_and_begins_with_its_data():
    port = _mux_port()
    stream = port.open_stream()
    assert port._driver.woken == 1
    await stream.send(b"hello")
    assert _frames(port) == [(SYN, 3, b""), (PSH, 3, b"hello")]
    assert stream.sent == 5
    assert port.traffic == 2 * 8 + 5
    assert port.streams == 1


@virtual
async def test_a_send_waits_until_half_of_its_buffer_is_free():
    port = _mux_port()
    stream = port.open_stream()
    await stream.send(bytes(SEND_BUFFER))
    async with asyncio.TaskGroup() as tasks:
        waiting = _start(tasks, stream.send(b"x"))
        await turns()
        while port.statistics().pending > SEND_BUFFER // 2:
            assert not waiting.done()
            _round(port, 1)
            await turns()
        assert waiting.done()


@virtual
async def test_a_send_that_is_cancelled_still_goes_out():
    port = _mux_port()
    stream = port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        waiting = _start(tasks, stream.send(bytes(2 * SEND_BUFFER)))
        await turns()
        waiting.cancel()
    _round(port)
    assert stream.sent == 2 * SEND_BUFFER
    await stream.send(b"more")


@virtual
async def test_a_stream_that_waits_does_not_keep_another_from_sending():
    port = _mux_port()
    stuck, free = port.open_stream(), port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        waiting = _start(tasks, stuck.send(bytes(2 * SEND_BUFFER)))
        await turns()
        await free.send(b"x")
        assert not waiting.done()
        _round(port)


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


# Mux: receiving.


@virtual
async def test_what_has_arrived_is_received_at_once():
    port = _mux_port()
    stream = port.open_stream()
    _arrive(port, (PSH, 3, b"ab"), (PSH, 3, b"cd"))
    assert await stream.receive() == b"abcd"
    assert stream.received == 4
    assert port.traffic == 2 * 8 + 4


@virtual
async def test_a_receive_waits_for_data_of_its_own_stream():
    port = _mux_port()
    first, _ = port.open_stream(), port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        waiting = _start(tasks, first.receive())
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
        waiting = _start(tasks, stream.receive())
        await turns()
        _arrive(port, (PSH, 3, b"x"))
        _arrive(port, (PSH, 3, b"y"))
        waiting.cancel()
    assert await stream.receive() == b"xy"


@virtual
async def test_the_remote_end_comes_behind_what_had_arrived_and_stays():
    port = _mux_port()
    stream = port.open_stream()
    _round(port)
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
    _round(port)
    async with asyncio.TaskGroup() as tasks:
        waiting = _start(tasks, stream.send(bytes(2 * SEND_BUFFER)))
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


# Mux: bounds.


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
        _round(port)
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
    _round(port)
    assert port.congested
    assert await stream.receive() == bytes(2000)
    assert not port.congested
    assert await stream.receive() == b""


# Mux: ends.


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
    _round(port)
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
            waiting = _start(
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


# A session that is one stream.


@virtual
async def test_a_single_session_has_one_stream():
    port, _ = _single_port()
    assert port.available
    assert port.streams == 0
    port.open_stream()
    assert not port.available
    assert port.streams == 1
    with pytest.raises(LocalProtocolError):
        port.open_stream()


@virtual
async def test_a_single_stream_is_its_bytes_in_messages():
    port, _ = _single_port()
    stream = port.open_stream()
    await stream.send(b"")
    assert port._driver.woken == 0
    data = bytes(range(256)) * 9
    await stream.send(data)
    assert port._driver.woken == 1
    assert len(port.next_payload()) == MAX_PAYLOAD
    assert _round(port) == data[MAX_PAYLOAD:]
    assert port.traffic == stream.sent == len(data)


@virtual
async def test_a_single_stream_receives_also_what_came_before_it():
    port, _ = _single_port()
    port.receive(b"SSH-2.0-")
    stream = port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        assert await stream.receive() == b"SSH-2.0-"
        waiting = _start(tasks, stream.receive())
        await turns()
        port.receive(b"OpenSSH")
    assert waiting.result() == b"OpenSSH"


@virtual
async def test_a_single_stream_that_is_not_read_stops_its_session():
    port, _ = _single_port()
    stream = port.open_stream()
    port.receive(bytes(SMALL.stream))
    assert port.congested
    await stream.receive()
    assert not port.congested
    assert port._driver.looks == 1


@virtual
async def test_a_single_stream_waits_for_room():
    port, _ = _single_port()
    stream = port.open_stream()
    async with asyncio.TaskGroup() as tasks:
        waiting = _start(tasks, stream.send(bytes(2 * SEND_BUFFER)))
        await turns()
        assert not waiting.done()
        _round(port)


@virtual
async def test_a_single_stream_has_no_end_to_say_but_takes_no_more():
    port, over = _single_port()
    stream = port.open_stream()
    await stream.send(b"last")
    await stream.send_eof()
    await stream.send(b"too late")
    assert _round(port) == b"last"
    assert over == []
    assert port.streams == 1


@virtual
async def test_a_single_session_is_over_once_all_was_sent_after_a_close():
    port, over = _single_port()
    stream = port.open_stream()
    await stream.send(bytes(3000))
    await stream.aclose()
    await stream.aclose()
    _round(port, 1)
    assert over == []
    assert port.streams == 1, "a session without streams may be ended at any time"
    _round(port)
    _round(port)
    assert over == ["over"]
    assert port.streams == 0


@virtual
async def test_a_single_session_is_over_at_once_if_nothing_is_pending():
    port, over = _single_port()
    stream = port.open_stream()
    port.receive(bytes(2000))
    await stream.aclose()
    assert over == ["over"]
    assert not port.congested
    port.receive(bytes(2000))
    assert not port.congested


@virtual
async def test_a_single_session_is_over_at_once_after_an_abort():
    port, over = _single_port()
    stream = port.open_stream()
    await stream.send(bytes(3000))
    await stream.aclose()
    stream.abort()
    stream.abort()
    assert over == ["over"]
    assert _round(port) == b""


@virtual
async def test_the_ordinary_end_of_a_single_session_is_the_end_of_its_stream():
    port, _ = _single_port()
    stream = port.open_stream()
    port.receive(b"bye")
    port.fail(ChannelClosed())
    assert await stream.receive() == b"bye"
    assert await stream.receive() == b""
    with pytest.raises(StreamReset):
        await stream.send(b"x")


@virtual
async def test_a_single_stream_that_is_opened_after_the_end_is_broken_too():
    port, _ = _single_port()
    port.fail(LOST)
    with pytest.raises(StreamReset, match="timed out"):
        await port.open_stream().receive()


@virtual
async def test_any_other_end_of_a_single_session_breaks_its_stream():
    port, _ = _single_port()
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
async def test_an_end_that_may_not_be_the_destinations_breaks_a_single_stream(
    ends_with, missing
):
    port, _ = _single_port(ends_with=ends_with)
    port._driver.missing = missing
    stream = port.open_stream()
    port.receive(b"the first half")
    port.fail(ChannelClosed())
    assert await stream.receive() == b"the first half"
    with pytest.raises(StreamReset):
        await stream.receive()


@virtual
async def test_a_single_stream_that_was_cut_does_not_end_in_order_after_that():
    port, _ = _single_port()
    stream = port.open_stream()
    port.fail(LOST)
    port.fail(ChannelClosed())
    with pytest.raises(StreamReset, match="timed out"):
        await stream.receive()


@virtual
async def test_a_single_session_that_nobody_uses_may_end_too():
    port, over = _single_port()
    _round(port)
    port.fail(LOST)
    assert over == []


@virtual
async def test_a_single_session_has_no_words_for_nops_and_failed_dials():
    port, _ = _single_port()
    port.nop()
    port.dial_failed()
    assert port._driver.woken == 0
    assert port.refusals == 0
    assert _round(port) == b""


@virtual
async def test_statistics_of_a_single_session_are_those_of_its_stream():
    port, _ = _single_port()
    stream = port.open_stream()
    await stream.send(b"abc")
    port.receive(b"x")
    now = port.statistics()
    assert (now.streams, now.opened, now.pending) == (1, 1, 3)
    assert now.unread == 1 + PIECE_OVERHEAD
    assert (now.refused, now.dropped) == (0, 0)


@pytest.mark.parametrize("single", [False, True])
async def test_the_silence_of_a_stream_means_nothing_while_something_is_stuck(single):
    port = _single_port()[0] if single else _mux_port()
    stream = port.open_stream()
    assert not stream.unsettled
    await stream.send(b"a question")
    assert stream.unsettled
    _round(port)
    assert not stream.unsettled
    port._driver.settled = False
    assert stream.unsettled


# Mux: streams that do not count.


@virtual
async def test_a_stream_that_does_not_count_is_no_use_of_the_session():
    port = _mux_port()
    probe, stream = port.open_stream(counted=False), port.open_stream()
    assert port.streams == 1
    await probe.send(b"ping")
    _round(port)
    assert port.unanswered is None
    await stream.send(b"select 1")
    _round(port)
    assert port.unanswered == 5
    probe.abort()
    assert port.streams == 1  # its FIN has still to go
    _round(port)
    assert (port.streams, port.statistics().streams) == (1, 1)
    stream.abort()
    _round(port)
    assert port.streams == 0


@virtual
async def test_streams_that_did_not_count_are_forgotten():
    port = _mux_port()
    for _ in range(3):
        port.open_stream(counted=False).abort()
        _round(port)
    assert len(port._uncounted) == 1
    assert port.streams == 0


@virtual
async def test_an_answer_to_any_stream_ends_a_row_of_refusals():
    port = _mux_port()
    port.dial_failed()
    probe = port.open_stream(counted=False)
    assert port.refusals == 1
    _round(port)
    _arrive(port, (PSH, 3, b"+PONG"))
    assert port.refusals == 0
    probe.abort()


@virtual
async def test_the_only_stream_of_a_session_is_for_use():
    port, _ = _single_port()
    with pytest.raises(LocalProtocolError):
        port.open_stream(counted=False)
    port.open_stream()
