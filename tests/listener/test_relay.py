import asyncio
from contextlib import suppress

import pytest

from ssmtunneld.errors import DestinationRefused, StreamReset
from ssmtunneld.listener.relay import ClientClose, ConnectionOutcome, Meter, relay
from tests.support.clockwork import run_virtual
from tests.support.conformance import receive_all, receive_exactly
from tests.support.memory import MemoryDuplex, memory_pair
from tests.support.turns import elapse, turns

LINGER = 60.0


class Scene:
    """A relay between a client and a server, both played by the test."""

    def __init__(
        self,
        *,
        capacity=1000,
        watched=True,
        local=MemoryDuplex,
        remote=MemoryDuplex,
    ):
        self.client, self.local = memory_pair(capacity)
        self.remote, self.server = memory_pair(capacity, half_close=False)
        self.local.__class__ = local
        self.remote.__class__ = remote
        self.meter = Meter()
        self.client_left = (
            asyncio.get_running_loop().create_future() if watched else None
        )

    def run(self):
        return relay(
            self.local,
            self.remote,
            linger=LINGER,
            meter=self.meter,
            client_left=self.client_left,
        )


class Stuck(MemoryDuplex):
    """Comes from a session that is away for five lingers, and knows it."""

    sent = 0

    @property
    def unsettled(self):
        return now() <= 5 * LINGER


class Deaf(MemoryDuplex):
    """Takes no data, and does not say why."""

    async def send(self, data):
        raise StreamReset("deaf")


class Refused(MemoryDuplex):
    async def receive(self):
        raise DestinationRefused("connection refused")


class Collapsing(MemoryDuplex):
    async def aclose(self):
        raise StreamReset("the session broke")


class Slow(MemoryDuplex):
    async def aclose(self):
        await asyncio.get_running_loop().create_future()


def play(scenario, **options):
    """Run ``scenario(scene)`` beside the relay; return the relay's transfer."""

    async def main():
        scene = Scene(**options)
        async with asyncio.TaskGroup() as tasks:
            relaying = tasks.create_task(scene.run())
            await scenario(scene)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return relaying.result()

    return run_virtual(main())


def now():
    return asyncio.get_running_loop().time()


def test_an_answer_arrives_though_the_client_has_ended():
    async def scenario(scene):
        await scene.client.send(b"GET /")
        await scene.client.send_eof()
        assert await receive_exactly(scene.server, 5) == b"GET /"
        await asyncio.wait_for(turns(100), LINGER)
        await scene.server.send(b"page")
        await scene.server.send_eof()
        assert await receive_all(scene.client) == b"page"
        assert scene.local.closed
        assert scene.remote.closed

    transfer = play(scenario)
    assert transfer.ending is ConnectionOutcome.COMPLETED
    assert (transfer.sent, transfer.received, transfer.cause) == (5, 4, None)


def test_a_silent_remote_is_given_linger_seconds_after_the_client_has_ended():
    async def scenario(scene):
        await scene.client.send_eof()
        assert await receive_all(scene.server) == b""
        assert now() == LINGER

    assert play(scenario).ending is ConnectionOutcome.LINGERED


def test_a_remote_whose_way_is_out_is_not_taken_for_silent():
    async def scenario(scene):
        await scene.client.send_eof()
        assert await receive_all(scene.server) == b""
        assert now() == 6 * LINGER

    assert play(scenario, remote=Stuck).ending is ConnectionOutcome.LINGERED


def test_what_a_departed_client_sent_is_given_up_once_it_does_not_move():
    async def scenario(scene):
        await scene.client.send(b"never delivered")
        scene.client_left.set_result(ClientClose.CLOSED)
        assert await scene.server.receive() == b"never delivered"
        with pytest.raises(StreamReset):
            await scene.server.receive()
        assert now() == 2 * LINGER

    assert play(scenario, remote=Stuck).ending is ConnectionOutcome.LOCAL_RESET


def test_any_data_starts_the_wait_again():
    async def scenario(scene):
        await scene.client.send_eof()
        for _ in range(3):
            await elapse(LINGER - 1)
            await scene.server.send(b"x")
            assert await scene.client.receive() == b"x"
        assert await scene.client.receive() == b""
        assert now() == 3 * (LINGER - 1) + LINGER

    transfer = play(scenario)
    assert (transfer.ending, transfer.received) == (ConnectionOutcome.LINGERED, 3)


def test_a_client_that_reads_slowly_does_not_make_the_remote_silent():
    async def scenario(scene):
        await scene.client.send_eof()
        await scene.server.send(bytes(500))
        await scene.server.send(bytes(501))  # more than fits: the relay has to wait
        await elapse(10.5 * LINGER)
        await receive_exactly(scene.client, 1001)
        assert await scene.client.receive() == b""
        # Looked at every LINGER seconds, and then given LINGER seconds.
        assert 10.5 * LINGER + LINGER <= now() <= 10.5 * LINGER + 2 * LINGER

    assert play(scenario).ending is ConnectionOutcome.LINGERED


def test_a_client_that_has_not_ended_may_wait_for_ever():
    async def scenario(scene):
        await elapse(1_000_000)
        await scene.server.send_eof()
        await receive_all(scene.client)

    assert play(scenario).ending is ConnectionOutcome.COMPLETED


def test_a_reset_client_ends_the_stream_at_once():
    async def scenario(scene):
        scene.client.abort()
        with pytest.raises(StreamReset):
            await scene.server.receive()
        assert now() == 0

    transfer = play(scenario)
    assert transfer.ending is ConnectionOutcome.LOCAL_RESET
    assert isinstance(transfer.cause, StreamReset)


def test_a_broken_stream_resets_the_client():
    async def scenario(scene):
        await scene.server.send(b"half an answ")
        scene.server.abort()
        with pytest.raises(StreamReset):
            await receive_all(scene.client)
        assert scene.local.aborted
        assert scene.remote.aborted

    assert play(scenario).ending is ConnectionOutcome.REMOTE_RESET


def test_a_refused_destination_resets_the_client_and_is_told_apart():
    async def scenario(scene):
        with pytest.raises(StreamReset):
            await receive_all(scene.client)

    transfer = play(scenario, remote=Refused)
    assert transfer.ending is ConnectionOutcome.REFUSED
    assert str(transfer.cause) == "connection refused"


def test_the_last_words_of_a_remote_arrive_though_it_takes_no_more():
    async def scenario(scene):
        for _ in range(3):
            await scene.server.send(bytes(400))  # more than the client has room for
        await scene.server.send_eof()
        await scene.client.send(b"more")
        await turns(10)
        await scene.client.send(b"and more")
        assert len(await receive_all(scene.client)) == 1200

    assert play(scenario).ending is ConnectionOutcome.COMPLETED


def test_a_remote_that_takes_no_data_and_is_silent_is_given_up():
    async def scenario(scene):
        await scene.client.send(b"anybody there?")
        with pytest.raises(StreamReset):
            await scene.client.receive()
        assert now() == LINGER

    transfer = play(scenario, remote=Deaf)
    assert transfer.ending is ConnectionOutcome.REMOTE_RESET
    assert str(transfer.cause) == "deaf"


def test_a_client_that_reads_no_more_is_still_heard_to_its_end():
    async def scenario(scene):
        await scene.server.send(b"lost")
        await turns(10)
        for _ in range(5):
            await scene.server.send(bytes(900))  # drained: it would stall the session
        await scene.client.send(b"last words")
        await scene.client.send_eof()
        assert await receive_all(scene.server) == b"last words"

    transfer = play(scenario, local=Deaf)
    assert transfer.ending is ConnectionOutcome.LOCAL_CLOSED
    assert (transfer.sent, transfer.received) == (10, 4)


def test_a_client_that_reads_no_more_and_says_no_more_is_given_up():
    async def scenario(scene):
        await scene.server.send(b"lost")
        await elapse(LINGER - 1)
        await scene.client.send(b"a word")
        with pytest.raises(StreamReset):
            await scene.client.receive()
        assert now() == LINGER - 1 + LINGER

    assert play(scenario, local=Deaf).ending is ConnectionOutcome.LOCAL_RESET


def test_a_client_that_reads_no_more_and_has_closed_is_heard_to_its_end():
    async def scenario(scene):
        await scene.server.send(b"lost")
        await turns(5)
        scene.client_left.set_result(ClientClose.CLOSED)
        await turns(5)
        await scene.client.send_eof()
        assert await receive_all(scene.server) == b""
        assert now() == 0

    assert play(scenario, local=Deaf).ending is ConnectionOutcome.LOCAL_CLOSED


def test_a_client_that_reads_no_more_after_its_end_has_left():
    async def scenario(scene):
        await scene.client.send_eof()
        await turns(10)
        await scene.server.send(b"lost")
        assert await receive_all(scene.server) == b""
        assert now() == 0

    assert play(scenario, local=Deaf).ending is ConnectionOutcome.LOCAL_CLOSED


def test_a_remote_that_ends_is_the_end_of_a_client_that_reads_no_more():
    async def scenario(scene):
        await scene.server.send(b"lost")
        await scene.server.send_eof()

    transfer = play(scenario, local=Deaf)
    assert transfer.ending is ConnectionOutcome.LOCAL_RESET
    assert str(transfer.cause) == "deaf"


def test_two_deaf_ends_are_given_up_at_once():
    async def scenario(scene):
        await scene.server.send(b"x")
        await turns(5)
        await scene.client.send(b"x")
        with pytest.raises(StreamReset):
            await scene.client.receive()
        assert now() == 0

    transfer = play(scenario, local=Deaf, remote=Deaf)
    assert transfer.ending is ConnectionOutcome.REMOTE_RESET


def test_two_deaf_ends_are_given_up_in_the_other_order_too():
    async def scenario(scene):
        await scene.client.send(b"x")
        await turns(5)
        await scene.server.send(b"x")
        with pytest.raises(StreamReset):
            await scene.client.receive()
        assert now() == 0

    transfer = play(scenario, local=Deaf, remote=Deaf)
    assert transfer.ending is ConnectionOutcome.REMOTE_RESET


@pytest.mark.parametrize(
    ("departure", "ending"),
    [
        (ClientClose.CLOSED, ConnectionOutcome.LOCAL_CLOSED),
        (ClientClose.RESET, ConnectionOutcome.LOCAL_RESET),
    ],
)
def test_a_client_that_is_gone_ends_a_wait_for_the_remote(departure, ending):
    async def scenario(scene):
        await scene.client.send(b"all I had to say")
        await scene.client.send_eof()
        await turns(10)
        scene.client_left.set_result(departure)
        await turns(10)
        assert now() == 0
        assert scene.remote.closed is (departure is ClientClose.CLOSED)
        assert scene.remote.aborted is (departure is ClientClose.RESET)

    assert play(scenario).ending is ending


def test_a_reset_client_ends_the_stream_even_while_the_remote_has_no_room():
    async def scenario(scene):
        await scene.client.send(bytes(1000))
        await scene.client.send(bytes(1000))
        await turns(10)
        scene.client_left.set_result(ClientClose.RESET)
        await turns(10)
        assert scene.remote.aborted
        assert now() == 0

    assert play(scenario).ending is ConnectionOutcome.LOCAL_RESET


def test_the_first_reason_to_end_stands():
    async def scenario(scene):
        await scene.server.send_eof()
        scene.client_left.set_result(ClientClose.RESET)
        await turns(10)

    assert play(scenario).ending is ConnectionOutcome.COMPLETED


def test_what_a_client_sent_before_it_closed_is_delivered():
    async def scenario(scene):
        scene.client_left.set_result(ClientClose.CLOSED)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_send(scene.client, [bytes(99)] * 50))
            await turns(10)
            await scene.server.send(b"nobody reads this")
            assert len(await receive_all(scene.server)) == 99 * 50

    transfer = play(scenario, capacity=100)
    assert transfer.ending is ConnectionOutcome.LOCAL_CLOSED
    assert (transfer.sent, transfer.received) == (99 * 50, 0)


def test_a_closed_client_and_a_deaf_remote_have_nothing_left_to_wait_for():
    async def scenario(scene):
        await scene.client.send(b"x")
        await turns(5)
        scene.client_left.set_result(ClientClose.CLOSED)
        await turns(5)
        assert now() == 0

    assert play(scenario, remote=Deaf).ending is ConnectionOutcome.REMOTE_RESET


def test_last_words_that_the_remote_does_not_take_are_not_called_delivered():
    async def scenario(scene):
        await scene.client.send(b"x")
        await scene.client.send_eof()

    transfer = play(scenario, remote=Collapsing)
    assert transfer.ending is ConnectionOutcome.REMOTE_RESET
    assert str(transfer.cause) == "the session broke"


def test_a_remote_that_breaks_after_its_end_takes_nothing_from_the_client():
    async def scenario(scene):
        await scene.server.send(b"all")
        await scene.server.send_eof()
        assert await receive_all(scene.client) == b"all"

    assert play(scenario, remote=Collapsing).ending is ConnectionOutcome.COMPLETED


def test_nobody_has_to_watch_the_client():
    async def scenario(scene):
        await scene.server.send_eof()

    assert play(scenario, watched=False).ending is ConnectionOutcome.COMPLETED


def test_the_meter_moves_while_the_relay_runs():
    async def scenario(scene):
        await scene.client.send(b"12345")
        await scene.server.send(b"123")
        await turns(20)
        assert (scene.meter.sent, scene.meter.received) == (5, 3)
        await scene.server.send_eof()

    play(scenario)


@pytest.mark.parametrize("moment", range(1, 40))
def test_cancelling_at_any_moment_aborts_both_and_leaves_nothing(moment):
    async def main():
        scene = Scene(capacity=10)
        async with asyncio.TaskGroup() as tasks:
            relaying = tasks.create_task(scene.run())
            for chunk in (b"some", b"more", b"than enough"):
                tasks.create_task(_ignore(scene.client.send(chunk)))
                tasks.create_task(_ignore(scene.server.send(chunk)))
            tasks.create_task(_ignore(receive_all(scene.client)))
            await turns(moment)
            if moment > 20:
                await scene.client.send_eof()
            relaying.cancel()
        assert relaying.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert scene.local.aborted
        assert scene.remote.aborted

    run_virtual(main())


def test_cancelling_while_the_client_is_slow_to_take_the_rest_aborts_it():
    async def main():
        scene = Scene(local=Slow)
        async with asyncio.TaskGroup() as tasks:
            relaying = tasks.create_task(scene.run())
            await scene.server.send_eof()
            await turns(20)
            assert scene.remote.closed  # not kept waiting by the client
            relaying.cancel()
        assert scene.local.aborted

    run_virtual(main())


async def _send(stream, chunks):
    for chunk in chunks:
        await stream.send(chunk)
    await stream.send_eof()


async def _ignore(awaitable):
    with suppress(StreamReset):
        await awaitable
