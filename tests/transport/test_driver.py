"""One channel on the loop: feeding, carrying out, timers, links that come and go."""

import asyncio
import contextlib
import json

import pytest

from ssmtunneld.base.secret import Secret
from ssmtunneld.errors import (
    ChannelClosed,
    HandshakeFailed,
    LinkLost,
    RemoteProtocolError,
)
from ssmtunneld.protocol.channel import HANDSHAKE_TIMEOUT
from ssmtunneld.protocol.message import MAX_PAYLOAD, Flag, PayloadType
from ssmtunneld.protocol.outbound import MAX_MESSAGE
from ssmtunneld.protocol.states import State
from ssmtunneld.protocol.window import INITIAL_WINDOW
from ssmtunneld.transport.channel_timing import Pauses
from ssmtunneld.transport.driver import (
    BURST,
    BURST_SIZE,
    OPENING_TURNS,
    Driver,
)
from ssmtunneld.transport.outbox import (
    ACK_BATCH,
    ACK_DELAY,
    CHOKE_SIZE,
    CHOKE_TIMEOUT,
)
from ssmtunneld.transport.peer_recovery import SCAN_INTERVAL
from ssmtunneld.transport.read_scheduler import MAX_DELAY, MIN_DURATION
from tests.support.bench import (
    Acked,
    Sent,
    ack,
    channel_closed,
    complete,
    flag,
    new_channel,
    output,
    pause,
    request,
    sent,
)
from tests.support.clockwork import turns, virtual
from tests.support.memory_link import MemoryLink

LOST = LinkLost("cut by the test")
TOKEN = Secret("token")


class FakePort:
    """A port of bytes: what is queued goes out, what arrives is noted."""

    def __init__(self):
        self.congested = False
        self.queue = []
        self.received = []
        self.failed_dials = 0
        self.errors = []
        self.rounds = 0
        self.on_receive = lambda payload: None
        self.on_round = lambda: None
        self.on_fail = lambda: None

    def next_payload(self, limit):
        return self.queue.pop(0) if self.queue else b""

    def after_sending(self):
        self.rounds += 1
        self.on_round()

    def receive(self, payload):
        self.received.append(payload)
        self.on_receive(payload)

    def dial_failed(self):
        self.failed_dials += 1

    def fail(self, error):
        self.errors.append(error)
        self.on_fail()


class Stage:
    """A driver, its port, and the link it runs on."""

    def __init__(self):
        self.port = FakePort()
        self.terms = []
        self.channel = new_channel()
        self.driver = Driver(self.channel, self.open_port)
        self.link = MemoryLink()
        self.on_open = lambda: None

    def open_port(self, terms):
        self.terms.append(terms)
        self.on_open()
        return self.port

    @contextlib.asynccontextmanager
    async def running(self, *, link=None):
        """Run on a new link; cancel it in the end, unless it has ended."""
        self.link = link or MemoryLink()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._catch(self.link), name="driver")
            await turns()
            yield task
            if not task.done():
                task.cancel()

    async def _catch(self, link):
        try:
            await self.driver.run(link, TOKEN)
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            return error

    @contextlib.asynccontextmanager
    async def open(self):
        """Run on a new link with the handshake behind it."""
        async with self.running() as task:
            self.link.arrive(request())
            self.link.arrive(ack(0), complete())
            self.link.sent()
            yield task


# The beginning.


@virtual
async def test_the_introduction_comes_first_and_the_handshake_is_answered():
    stage = Stage()
    async with stage.running():
        assert json.loads(stage.link.texts[0])["TokenValue"] == "token"
        stage.link.arrive(request())
        acked, response = stage.link.sent()
        assert acked == Acked(0)
        assert response.payload_type == PayloadType.HANDSHAKE_RESPONSE


@virtual
async def test_each_introduction_has_its_own_request_id():
    stage = Stage()
    ids = []
    for _ in range(2):
        async with stage.running():
            ids.append(json.loads(stage.link.texts[0])["RequestId"])
    assert len(set(ids)) == 2


@virtual
async def test_the_port_is_opened_once_with_the_terms():
    stage = Stage()
    async with stage.open():
        stage.link.arrive(complete(sequence=2))
        assert [terms.mux for terms in stage.terms] == [True]
    async with stage.running():
        assert len(stage.terms) == 1


@virtual
async def test_a_link_that_is_lost_before_it_starts_ends_the_run():
    stage = Stage()
    link = MemoryLink()
    link.lose(LOST)
    async with stage.running(link=link) as task:
        assert task.result() is LOST


@virtual
async def test_the_service_cannot_have_our_token_shown_by_a_close_frame():
    stage, token = Stage(), "canary-0123456789"
    error = LinkLost(f"token {token}", 1008)
    link = MemoryLink()
    link.lose(error)
    with pytest.raises(LinkLost) as caught:
        await stage.driver.run(link, Secret(token))
    assert caught.value.code == 1008
    assert token not in f"{caught.value} {caught.value!r}"


@virtual
async def test_what_arrived_before_the_start_is_taken():
    stage = Stage()
    link = MemoryLink()
    link.arrive(request(), complete())
    async with stage.running(link=link):
        assert len(stage.terms) == 1


@virtual
async def test_one_link_at_a_time():
    stage = Stage()
    async with stage.running():
        with pytest.raises(AssertionError, match="one link"):
            await stage.driver.run(MemoryLink(), TOKEN)


# Data.


@virtual
async def test_what_arrives_together_is_acknowledged_in_one_write():
    stage = Stage()
    async with stage.open():
        stage.link.arrive(output(2, b"a"), output(3, b"b"))
        assert stage.port.received == [b"a", b"b"]
        await asyncio.sleep(ACK_DELAY)
        assert len(stage.link.writes) == 1
        assert stage.link.sent() == [Acked(2), Acked(3)]


@virtual
async def test_what_is_sent_meanwhile_goes_with_the_acknowledgements():
    stage = Stage()
    async with stage.open():
        stage.link.arrive(output(2, b"question"))
        assert stage.link.writes == []  # the local side has its turn first
        stage.port.queue.append(b"answer")
        stage.driver.wake()
        await turns()
        assert len(stage.link.writes) == 1
        assert stage.link.sent() == [Acked(2), Sent(1, b"answer")]
        await asyncio.sleep(10 * ACK_DELAY)
        assert stage.link.sent() == []


@virtual
async def test_many_acknowledgements_do_not_wait():
    stage = Stage()
    async with stage.open():
        stage.link.arrive(*(output(2 + n, b"x") for n in range(ACK_BATCH)))
        assert stage.link.sent() == [Acked(2 + n) for n in range(ACK_BATCH)]


@virtual
async def test_a_download_that_lasts_is_read_less_often_and_acknowledged_at_once():
    stage = Stage()
    async with stage.open():
        for number in range(2, 2000):  # one each millisecond
            await asyncio.sleep(0.001)
            stage.link.arrive(output(number, b"x" * 1024))
            if number == 2 + round(MIN_DURATION / 2 / 0.001):
                assert not stage.link.delays
        assert stage.link.delays[-1] == MAX_DELAY
        stage.link.sent()
        stage.link.arrive(output(2000, b"x"))
        assert stage.link.sent() == [Acked(2000)]


@virtual
async def test_what_is_sent_meanwhile_makes_it_be_read_as_ever():
    stage = Stage()
    async with stage.open():
        for number in range(2, 1000):
            await asyncio.sleep(0.001)
            if number == 900:
                assert stage.link.delays
                stage.port.queue.append(b"question")
                stage.driver.wake()
                await turns()
                stage.link.delays.clear()
            stage.link.arrive(output(number, b"x" * 1024))
        assert not stage.link.delays


@virtual
async def test_acknowledgements_that_wait_are_not_for_the_next_websocket():
    stage = Stage()
    async with stage.open():
        stage.link.arrive(output(2, b"a"))
    async with stage.running():
        await asyncio.sleep(1)
        assert stage.link.sent() == []
        stage.link.arrive(output(2, b"a"))  # again: that is how the agent finds out
        await asyncio.sleep(ACK_DELAY)
        assert stage.link.sent() == [Acked(2)]
        assert stage.port.received == [b"a"]


@virtual
async def test_what_the_port_has_goes_out_at_the_end_of_the_turn():
    stage = Stage()
    async with stage.open():
        rounds = stage.port.rounds
        for payload in (b"a", b"b"):
            stage.port.queue.append(payload)
            stage.driver.wake()
        assert stage.link.writes == []
        await turns()
        assert stage.link.sent() == [Sent(1, b"a"), Sent(2, b"b")]
        assert stage.port.rounds == rounds + 1


@virtual
async def test_an_answer_travels_with_the_acknowledgement_of_its_question():
    stage = Stage()
    async with stage.open():
        stage.port.on_receive = lambda payload: stage.port.queue.append(b"answer")
        stage.link.arrive(output(2, b"question"))
        assert len(stage.link.writes) == 1
        assert stage.link.sent() == [Acked(2), Sent(1, b"answer")]


@virtual
async def test_no_more_is_taken_from_the_port_than_the_window_holds():
    stage = Stage()
    async with stage.open():
        full = -(-INITIAL_WINDOW // MAX_MESSAGE)
        stage.port.queue = [bytes(MAX_PAYLOAD)] * (full + 5)
        stage.driver.wake()
        await turns(5)
        assert len(stage.port.queue) == 5
        stage.link.arrive(ack(1), ack(2))
        # Two are acknowledged, and the window has grown by as many.
        assert len(stage.port.queue) == 1


@virtual
async def test_others_have_their_turn_after_a_burst():
    stage = Stage()
    async with stage.open():
        stage.port.queue = [b"x"] * (BURST + 1)
        stage.driver.wake()
        await turns(5)
        assert [len(write) for write in stage.link.writes] == [BURST, 1]


@virtual
async def test_a_late_wake_sends_by_itself_after_some_turns():
    stage = Stage()
    async with stage.open():
        stage.port.queue.append(b"x")
        stage.driver.wake_late()
        await turns()
        assert stage.link.writes == []
        await turns(OPENING_TURNS + 1)
        assert stage.link.sent() == [Sent(1, b"x")]


@virtual
async def test_a_late_wake_shares_its_message_with_an_early_one():
    stage = Stage()
    async with stage.open():
        rounds = stage.port.rounds
        stage.port.queue.append(b"x")
        stage.driver.wake_late()
        await turns()
        stage.port.queue.append(b"y")
        stage.driver.wake()
        await turns()
        assert stage.link.sent() == [Sent(1, b"x"), Sent(2, b"y")]
        assert stage.port.rounds == rounds + 1


@virtual
async def test_without_a_link_everything_waits_for_the_next_one():
    stage = Stage()
    async with stage.open():
        pass
    stage.port.queue.append(b"x")
    stage.driver.wake()
    await turns()
    async with stage.running():
        assert stage.link.sent() == [Sent(1, b"x")]


@virtual
async def test_a_wake_that_comes_too_late_for_its_link_does_nothing():
    stage = Stage()
    async with stage.open() as task:
        stage.port.queue.append(b"x")
        task.cancel()
        await turns(1)
        stage.driver.wake()
        await turns()
    assert stage.port.queue == [b"x"]


@virtual
async def test_a_failed_dial_reaches_the_port():
    stage = Stage()
    async with stage.open():
        stage.link.arrive(flag(2, Flag.CONNECT_TO_PORT_ERROR))
        assert stage.port.failed_dials == 1


@virtual
async def test_a_flag_goes_behind_what_was_sent():
    stage = Stage()
    async with stage.open():
        stage.port.queue.append(b"last words")
        stage.driver.wake()
        await turns()
        stage.driver.send_flag(Flag.TERMINATE_SESSION)
        flagged = Sent(2, b"\0\0\0\2", PayloadType.FLAG)
        assert stage.link.sent() == [Sent(1, b"last words"), flagged]


@virtual
async def test_statistics_are_those_of_the_channel():
    stage = Stage()
    async with stage.open():
        assert stage.driver.statistics().state is State.OPEN


@virtual
async def test_it_is_settled_while_nothing_is_stuck_and_there_is_a_link():
    stage = Stage()
    assert not stage.driver.settled
    async with stage.open():
        assert stage.driver.settled
        stage.port.queue.append(b"x")
        stage.driver.wake()
        await turns()
        assert not stage.driver.settled
        stage.link.arrive(ack(1))
        assert stage.driver.settled
        stage.link.arrive(output(3, b"early"))
        assert not stage.driver.settled
        stage.link.arrive(output(2, b"late"))
        assert stage.driver.settled
    assert not stage.driver.settled


@virtual
async def test_a_check_is_passed_to_the_link_if_there_is_one():
    stage = Stage()
    async with stage.open():
        stage.driver.check(3.0)
        assert stage.link.checks == [3.0]
    stage.driver.check(3.0)
    assert stage.link.checks == [3.0]


# Congestion of the link.


@virtual
async def test_a_congested_link_gets_no_new_data_until_it_is_writable():
    stage = Stage()
    async with stage.open():
        stage.link.congested = True
        stage.port.queue.append(b"x")
        stage.driver.wake()
        await turns()
        assert stage.link.sent() == []
        stage.link.relieve()
        assert stage.link.sent() == [Sent(1, b"x")]


@virtual
async def test_a_congested_link_still_gets_acknowledgements():
    stage = Stage()
    async with stage.open():
        stage.link.congested = True
        stage.link.arrive(output(2, b"x"))
        await asyncio.sleep(ACK_DELAY)
        assert stage.link.sent() == [Acked(2)]


@virtual
async def test_nothing_is_repeated_behind_a_congestion():
    """The first copy is still queued here: each repetition would only add to that."""
    stage = Stage()
    async with stage.open():
        stage.port.queue = [b"x"] * 10
        stage.driver.wake()
        await turns()
        stage.link.sent()
        stage.link.congested = True
        await asyncio.sleep(600)
        assert stage.link.sent() == []
        stage.link.relieve()
        await asyncio.sleep(1)
        assert stage.link.sent()[:10] == sent(1, [b"x"] * 10)


@virtual
async def test_a_link_that_takes_no_acknowledgements_is_read_no_more_until_it_does():
    stage = Stage()
    async with stage.open():
        stage.link.congested = True
        sequence = 2
        while stage.link.reading:
            stage.link.arrive(output(sequence, b"x" * 1024))
            sequence += 1
        assert stage.driver.reading_stopped
        size = sum(len(data) for write in stage.link.writes for data in write)
        assert CHOKE_SIZE < size < CHOKE_SIZE + ACK_BATCH * 1024
        stage.link.relieve()
        assert stage.link.reading
        assert not stage.driver.reading_stopped


@virtual
async def test_a_link_that_takes_nothing_of_what_must_be_sent_for_long_is_lost():
    stage = Stage()
    async with stage.open() as task:
        stage.link.congested = True
        stage.link.arrive(output(2, b"x"))
        await asyncio.sleep(CHOKE_TIMEOUT - 1)
        stage.link.relieve()
        stage.link.congested = True
        await asyncio.sleep(CHOKE_TIMEOUT)
        assert not task.done()
        stage.link.arrive(output(3, b"x"))
        await asyncio.sleep(CHOKE_TIMEOUT + 1)
        assert str(task.result()) == str(LinkLost("it took nothing from us"))


# What has been heard, and said.


@virtual
async def test_it_is_behind_by_what_has_to_be_repeated():
    stage = Stage()
    async with stage.open():
        stage.link.arrive(output(2, b"a"))
        assert (stage.driver.delivered, stage.driver.behind) == (1, 0)
        stage.link.arrive(output(53, b"b"))
        assert stage.driver.missing == 50
        assert stage.driver.behind == pytest.approx(50 * SCAN_INTERVAL)
        await asyncio.sleep(60)
        assert stage.driver.behind == pytest.approx(60)
        stage.link.arrive(*(output(n, b"c") for n in range(3, 53)))
        assert (stage.driver.delivered, stage.driver.behind) == (52, 0)


@virtual
async def test_a_new_link_of_an_open_channel_is_in_doubt_for_a_moment():
    stage = Stage()
    async with stage.open():
        assert stage.driver.behind == 0
    async with stage.running():
        await asyncio.sleep(0.5)
        assert stage.driver.behind == pytest.approx(0.5, abs=0.1)
        await asyncio.sleep(0.5)
        assert stage.driver.behind == 0


@virtual
async def test_pauses_are_those_of_what_the_service_takes_for_input():
    stage = Stage()
    async with stage.open():
        await asyncio.sleep(100)
        stage.link.arrive(output(2, b"an answer is no input"))
        stage.port.queue.append(b"x")
        stage.driver.wake()
        await turns()
        stage.link.arrive(ack(1))
        await asyncio.sleep(30)
        assert stage.driver.pauses == pytest.approx(Pauses(30.0, 100.0), abs=0.1)
    await asyncio.sleep(170)
    async with stage.running():
        assert stage.driver.pauses == pytest.approx(Pauses(0.0, 200.0), abs=0.1)


# Congestion of the port.


@virtual
async def test_the_link_is_not_read_while_the_port_is_congested():
    stage = Stage()
    async with stage.open():
        stage.port.congested = True
        stage.link.arrive(output(2, b"a"))
        assert not stage.link.reading
        assert stage.driver.reading_stopped
        stage.link.arrive(output(3, b"b"))
        stage.driver.reading_changed()
        assert stage.port.received == [b"a"]
        stage.port.congested = False
        stage.driver.reading_changed()
        stage.driver.reading_changed()
        assert stage.port.received == [b"a", b"b"]
        assert not stage.driver.reading_stopped


@virtual
async def test_a_congested_port_keeps_also_the_next_link_from_being_read():
    stage = Stage()
    async with stage.open():
        stage.port.congested = True
        stage.link.arrive(output(2, b"a"))
    stage.driver.reading_changed()
    async with stage.running():
        assert not stage.link.reading
        stage.port.congested = False
        stage.driver.reading_changed()
        assert stage.link.reading


@virtual
async def test_a_port_that_was_read_between_two_links_does_not_stop_the_second():
    stage = Stage()
    async with stage.open():
        stage.port.congested = True
        stage.link.arrive(output(2, b"a"))
    stage.port.congested = False
    async with stage.running():
        assert stage.link.reading
        assert not stage.driver.reading_stopped


@virtual
async def test_before_the_channel_is_open_nothing_is_congested():
    stage = Stage()
    async with stage.running():
        stage.driver.reading_changed()
        assert stage.link.reading


# Time.


@virtual
async def test_a_handshake_that_takes_too_long_ends_the_session():
    stage = Stage()
    async with stage.running() as task:
        error = await task
        assert isinstance(error, HandshakeFailed)
        assert asyncio.get_running_loop().time() == pytest.approx(HANDSHAKE_TIMEOUT)


@virtual
async def test_what_is_not_acknowledged_is_repeated():
    stage = Stage()
    async with stage.open():
        stage.port.queue.append(b"x")
        stage.driver.wake()
        await turns()
        stage.link.sent()
        await asyncio.sleep(0.9)
        assert stage.link.sent() != []


@virtual
async def test_a_timer_that_comes_too_early_only_looks_again():
    stage = Stage()
    async with stage.open():
        for sequence in range(1, 4):
            stage.port.queue.append(b"x")
            stage.driver.wake()
            await asyncio.sleep(0.1)
            stage.link.arrive(ack(sequence))
        stage.link.sent()
        stage.port.queue.append(b"y")
        stage.driver.wake()
        timeout = stage.channel.statistics().rtt * 2
        await asyncio.sleep(timeout)
        assert stage.link.sent() == [Sent(4, b"y")]
        await asyncio.sleep(10 * timeout)
        assert stage.link.sent()[0] == Sent(4, b"y")


@virtual
async def test_a_pause_is_over_after_its_time():
    stage = Stage()
    async with stage.open():
        stage.link.arrive(pause())
        stage.port.queue.append(b"x")
        stage.driver.wake()
        await asyncio.sleep(1.9)
        assert stage.link.sent() == []
        await asyncio.sleep(0.2)
        assert stage.link.sent() == [Sent(1, b"x")]


@virtual
async def test_without_a_link_no_timer_runs():
    stage = Stage()
    async with stage.open():
        stage.port.queue.append(b"x")
        stage.driver.wake()
        await turns()
    await asyncio.sleep(60)
    assert stage.channel.statistics().retransmitted == 0


# Links that come and go.


@virtual
async def test_a_lost_link_ends_the_run_and_the_next_one_goes_on():
    stage = Stage()
    async with stage.open() as task:
        stage.port.queue.append(b"x")
        stage.driver.wake()
        await turns()
        stage.link.lose(LOST)
        stage.link.lose(LinkLost("again"))
        assert await task is LOST
        assert stage.link.aborted
    assert stage.driver.statistics().state is State.SUSPENDED
    assert stage.port.errors == []
    async with stage.running():
        assert len(stage.link.texts) == 1
        assert stage.link.sent() == [Sent(1, b"x")]
        stage.link.arrive(output(2, b"y"))
        assert stage.port.received == [b"y"]


@virtual
async def test_a_cancelled_run_drops_its_link_and_the_next_one_goes_on():
    stage = Stage()
    async with stage.open() as task:
        task.cancel()
        await turns()
        assert stage.link.aborted
    async with stage.running():
        stage.link.arrive(output(2, b"y"))
        assert stage.port.received == [b"y"]


@virtual
async def test_a_handshake_that_a_lost_link_interrupts_goes_on_with_the_next():
    stage = Stage()
    async with stage.running() as task:
        stage.link.arrive(request())
        stage.link.lose(LOST)
        await task
    async with stage.running():
        assert len(stage.link.sent()) == 1
        stage.link.arrive(ack(0), complete())
        assert len(stage.terms) == 1


# The end.


@virtual
async def test_the_services_end_ends_the_run_and_fails_the_port():
    stage = Stage()
    async with stage.open() as task:
        stage.link.arrive(output(2, b"bye"), channel_closed("idle"))
        error = await task
    assert isinstance(error, ChannelClosed)
    assert stage.port.received == [b"bye"]
    assert stage.port.errors == [error]
    assert stage.link.sent() == [Acked(2)]


@virtual
async def test_a_refusal_is_still_sent_to_the_agent():
    stage = Stage()
    async with stage.running() as task:
        stage.link.arrive(request(kms=True))
        assert isinstance(await task, HandshakeFailed)
        assert len(stage.link.sent()) == 2


@virtual
async def test_closing_ends_the_run_with_its_error():
    stage = Stage()
    error = ChannelClosed("stopped")
    async with stage.open() as task:
        stage.driver.close(error)
        stage.driver.close(ChannelClosed("again"))
        assert await task is error
    assert stage.port.errors == [error]


@virtual
async def test_closing_without_a_link_fails_the_port():
    stage = Stage()
    async with stage.open():
        pass
    error = ChannelClosed("stopped")
    stage.driver.close(error)
    assert stage.port.errors == [error]


@virtual
async def test_a_closed_channel_does_not_run_and_drops_the_link():
    stage = Stage()
    error = ChannelClosed("stopped")
    stage.driver.close(error)
    async with stage.running() as task:
        assert task.result() is error
        assert stage.link.aborted


@virtual
async def test_what_is_closed_in_the_turn_of_a_loss_is_over():
    stage = Stage()
    error = ChannelClosed("stopped")
    async with stage.open() as task:
        stage.driver.on_lost(LinkLost("reset"))
        stage.driver.close(error)
        assert await task is error


@virtual
async def test_a_lost_link_after_the_end_changes_nothing():
    stage = Stage()
    async with stage.open() as task:
        stage.link.arrive(channel_closed())
        stage.link.lose(LOST)
        assert isinstance(await task, ChannelClosed)


@virtual
async def test_a_peer_that_breaks_the_protocol_ends_the_session():
    stage = Stage()
    async with stage.running() as task:
        stage.link.arrive(output(0, b"data before the handshake"))
        assert isinstance(await task, RemoteProtocolError)


def _not_understood(payload):
    raise RemoteProtocolError(f"what is {payload!r}")


@virtual
async def test_bytes_that_the_port_does_not_understand_end_the_session():
    stage = Stage()
    async with stage.open() as task:
        stage.port.on_receive = _not_understood
        stage.link.arrive(output(2, b"a"), output(3, b"b"))
        error = await task
    assert str(error) == "what is b'a'"
    assert stage.port.received == [b"a"]
    assert stage.port.errors[0] is error


@virtual
async def test_such_bytes_end_the_session_also_if_its_end_comes_with_them():
    stage = Stage()
    async with stage.open() as task:
        stage.port.on_receive = _not_understood
        stage.link.arrive(output(2, b"a"), channel_closed())
        await turns()
        assert task.done()
        assert isinstance(task.result(), RemoteProtocolError)


# Callbacks that call back.


@virtual
async def test_a_port_that_closes_the_channel_while_it_is_given_data():
    stage = Stage()
    error = ChannelClosed("enough")
    async with stage.open() as task:
        stage.port.on_receive = lambda payload: stage.driver.close(error)
        stage.link.arrive(output(2, b"a"), output(3, b"b"))
        assert await task is error
    assert stage.port.errors == [error]


@virtual
async def test_a_port_that_sends_a_flag_after_its_last_payload():
    stage = Stage()

    def terminate():
        if not stage.port.queue and stage.port.received:
            stage.port.received.clear()
            stage.driver.send_flag(Flag.TERMINATE_SESSION)

    async with stage.open():
        stage.port.on_round = terminate
        stage.port.queue.append(b"last")
        stage.link.arrive(output(2, b"bye"))
        acked, data, flagged = stage.link.sent()
        assert (acked, data) == (Acked(2), Sent(1, b"last"))
        assert flagged.payload_type == PayloadType.FLAG


@virtual
async def test_an_opening_that_has_something_to_send_at_once():
    stage = Stage()
    stage.port.queue.append(b"first")
    stage.on_open = stage.driver.wake
    async with stage.running():
        stage.link.arrive(request(), complete())
        *_, last = stage.link.sent()
        assert last == Sent(1, b"first")
        await turns()
        assert stage.link.sent() == []


@virtual
async def test_an_opening_that_closes_the_channel():
    stage = Stage()
    error = ChannelClosed("not what was wanted")
    stage.on_open = lambda: stage.driver.close(error)
    async with stage.running() as task:
        stage.link.arrive(request(), complete(), output(2, b"x"))
        assert await task is error


@virtual
async def test_a_failing_port_that_closes_the_channel_once_more():
    stage = Stage()
    stage.port.on_fail = lambda: stage.driver.close(ChannelClosed("again"))
    async with stage.open() as task:
        stage.link.arrive(channel_closed("first"))
        error = await task
    assert error.output == "first"


# Large messages (design D22).


@virtual
async def test_one_learns_when_a_certain_message_is_acknowledged():
    stage = Stage()
    arrived = []
    async with stage.open():
        stage.port.queue.append(b"before")
        stage.driver.wake()
        await turns()
        assert stage.driver.send_awaited(b"n" * 4096, lambda: arrived.append(True))
        await turns()
        assert stage.link.sent() == [Sent(1, b"before"), Sent(2, b"n" * 4096)]
        stage.link.arrive(ack(1))
        assert arrived == []
        stage.link.arrive(ack(2))
        assert arrived == [True]
        stage.link.arrive(ack(2))
        assert arrived == [True]


@virtual
async def test_nothing_is_awaited_where_nothing_can_be_sent():
    stage = Stage()
    assert not stage.driver.send_awaited(b"n", pytest.fail)
    async with stage.open():
        stage.link.arrive(pause())
        assert not stage.driver.send_awaited(b"n", pytest.fail)
        await turns()
        assert stage.link.sent() == []


@virtual
async def test_what_was_awaited_on_a_lost_link_is_not_announced():
    stage = Stage()
    async with stage.open() as task:
        assert stage.driver.send_awaited(b"n", lambda: pytest.fail("announced"))
        stage.link.lose(LinkLost("gone"))
        await task
    async with stage.running():
        stage.link.arrive(ack(1))


@virtual
async def test_what_was_awaited_is_not_announced_if_the_end_comes_with_it():
    stage = Stage()
    async with stage.open() as task:
        assert stage.driver.send_awaited(b"n", lambda: pytest.fail("announced"))
        await turns()
        stage.link.arrive(ack(1), channel_closed("killed"))
        assert isinstance(await task, ChannelClosed)


@virtual
async def test_a_port_is_asked_for_as_much_as_the_channel_sends():
    stage = Stage()
    assert stage.driver.message_limit == 1024
    async with stage.open():
        stage.driver.message_limit = 8192
        stage.channel._outbound.window.rate = 100e6
        stage.port.queue += [bytes(8192)] * 30
        asked = []
        stage.port.next_payload = lambda limit: (
            asked.append(limit) or stage.port.queue.pop(0)
        )
        stage.driver._carry_out()
        # No more in one turn than a link takes at once.
        assert asked == [8192] * (BURST_SIZE // 8192)
        assert stage.channel.statistics().message_size == 8192
