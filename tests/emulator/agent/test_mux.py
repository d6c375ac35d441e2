"""The agent in mux mode, over a real websocket: protocol 6.5 to 6.8."""

import asyncio
import os
import time

import pytest

from ssmtunneld.emulator.settings import PACE_INTERVAL, Pace
from ssmtunneld.protocol.message import Flag, PayloadType
from ssmtunneld.smux.frame import Command, Frame, encode_frame
from tests.emulator.reference import (
    TO_REMOTE_HOST,
    Client,
    call,
    connected,
    destination,
    die_or_live,
    echo,
    eventually,
    start,
)
from tests.support.ports import free_port

SYN, FIN, PSH, NOP = Command.SYN, Command.FIN, Command.PSH, Command.NOP


@pytest.mark.parametrize("pace", list(Pace))
async def test_bytes_go_both_ways(emulate, pace):
    emulator = await emulate(pace=pace)
    sent = os.urandom(100_000)
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        assert await client.echoed(3, sent) == sent


async def test_many_streams_do_not_mix(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        ids = range(3, 43, 2)
        for stream_id in ids:
            await client.open(stream_id, b"%d" % stream_id)
        await client.until(lambda: all(client.streams[i] for i in ids))
        assert {i: bytes(client.streams[i]) for i in ids} == {i: b"%d" % i for i in ids}


async def test_frames_are_at_most_32768_bytes_and_messages_1024(emulate):
    async def serve(_reader, writer):
        writer.write(bytes(100_000))
        await writer.drain()

    emulator = await emulate()
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3)
        await client.until(lambda: 3 in client.finished)
        assert len(client.streams[3]) == 100_000  # all of it before the FIN
        assert client.frames[-1] == Frame(FIN, 3)
        sizes = [
            len(message.payload)
            for message in client.messages
            if message.payload_type == PayloadType.OUTPUT
        ]
        assert max(sizes) == 1024
        lengths, position = [], 0
        while position < len(client.output):
            lengths.append(
                int.from_bytes(client.output[position + 2 : position + 4], "little")
            )
            position += 8 + lengths[-1]
        assert max(lengths) <= 32768
        assert sum(lengths) == 100_000


async def test_a_client_fin_closes_the_destination_and_loses_the_answer(emulate):
    events = []
    answered = asyncio.Event()

    async def serve(reader, writer):
        events.append(await reader.read(100))
        events.append(await reader.read(100))
        await client.until(lambda: 3 in client.finished)
        writer.write(b"answer")
        answered.set()

    emulator = await emulate()
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.send(
            encode_frame(SYN, 3) + encode_frame(PSH, 3, b"GET") + encode_frame(FIN, 3)
        )
        await client.until(lambda: 3 in client.finished)
        await answered.wait()
        await client.open(5)  # a later stream, whose end comes after any answer
        await client.send_frame(FIN, 5)
        await client.until(lambda: 5 in client.finished)
        assert events[:2] == [b"GET", b""]
        assert client.streams[3] == b""


async def test_a_half_close_of_the_destination_drops_what_the_client_sends(emulate):
    got = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        writer.write_eof()
        got.set_result(await reader.read())

    emulator = await emulate()
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3)
        await client.until(lambda: 3 in client.finished)
        await client.send_frame(PSH, 3, b"too late")
        assert await got == b""


async def test_a_destination_that_resets_ends_its_stream_only(emulate):
    emulator = await emulate()
    async with (
        destination(die_or_live) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3, b"die")
        await client.open(5, b"live")
        await client.until(lambda: 3 in client.finished and client.streams[5])
        assert 5 not in client.finished


async def test_a_refused_dial_gives_a_flag_and_then_a_fin(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, free_port()) as client:
        await client.open(3, b"x")
        await client.until(lambda: 3 in client.finished)
        assert client.flags == [Flag.CONNECT_TO_PORT_ERROR]
        assert client.frames == ["flag", Frame(FIN, 3)]


async def test_a_name_without_address_looks_healthy_until_it_is_dialled(emulate):
    emulator = await emulate("dns-failure")
    async with connected(
        emulator.endpoint_url, 5432, TO_REMOTE_HOST, host="orders.internal"
    ) as client:
        await client.open(3)
        await client.until(lambda: 3 in client.finished)
        assert client.flags == [Flag.CONNECT_TO_PORT_ERROR]


async def test_an_alias_leads_to_loopback(emulate):
    emulator = await emulate(host_aliases={"orders.internal": "127.0.0.1"})
    async with (
        destination(echo) as port,
        connected(
            emulator.endpoint_url, port, TO_REMOTE_HOST, host="orders.internal"
        ) as client,
    ):
        await client.open(3, b"hello")
        await client.until(lambda: client.streams[3] == b"hello")


async def test_a_stalled_dial_delays_every_later_stream(emulate):
    emulator = await emulate("stall-dial")
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3, b"a")
        await client.open(5, b"b")
        await client.until(lambda: not client.unacknowledged)
        assert client.frames == []
        emulator.faults.clear()
        await client.until(lambda: client.streams[3] and client.streams[5])


async def test_odd_but_legal_frames_are_ignored(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(2)  # parity is not checked
        await client.open(2)  # a second SYN
        await client.send_frame(NOP, 0)
        await client.send_frame(FIN, 99)
        await client.send_frame(PSH, 99, b"nobody")
        await client.send_frame(PSH, 2)
        await client.send_frame(PSH, 2, b"works")
        await client.until(lambda: client.streams[2] == b"works")


async def test_an_id_can_be_used_again_after_both_fins(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        for word in (b"one", b"two"):
            client.streams[3].clear()
            client.finished.clear()
            await client.open(3, word)
            await client.until(lambda expected=word: client.streams[3] == expected)
            await client.send_frame(FIN, 3)
            await client.until(lambda: 3 in client.finished)


async def test_another_smux_version_ends_all_streams_and_then_is_silence(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3, b"x")
        await client.until(lambda: client.streams[3])
        early = client.encoded(client.next_sequence + 1, encode_frame(NOP, 0))
        await client.send_raw(early)
        await client.send(b"\x02" + encode_frame(NOP, 0)[1:])
        await client.until(lambda: 3 in client.finished)
        await client.until(lambda: not client.unacknowledged)
        seen = len(client.frames)
        await client.open(5, b"anybody?")
        await client.until(lambda: not client.unacknowledged)
        await (await client.ping())
        assert client.closed is None
        assert len(client.frames) == seen
        await client.send_flag(Flag.TERMINATE_SESSION)
        await client.until(lambda: client.closed)


async def test_a_client_fin_ends_a_destination_that_talks_without_end(emulate):
    async def serve(_reader, writer):
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    emulator = await emulate(pace=Pace.REAL)  # much is waiting when the FIN comes
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3)
        await client.until(lambda: client.streams[3])
        await client.send_frame(FIN, 3)
        await client.until(lambda: 3 in client.finished)
        assert client.frames[-1] == Frame(FIN, 3)


@pytest.mark.parametrize(
    ("agent", "reconnects"), [("3.3.987.0", True), ("3.2.2303.0", False)]
)
async def test_a_new_agent_that_was_blocked_for_long_reconnects(
    emulate, agent, reconnects
):
    emulator = await emulate(
        "stall-dial",
        agent_version=agent,
        pong_deadline=-1.0,  # any time is too long
        agent_away_time=0.05,
    )
    async with connected(emulator.endpoint_url, 80) as client:
        session = next(iter(emulator.sessions))
        await eventually(lambda: session.agent.plugin)
        client.repeats = False
        for stream_id in range(1025):  # SYNs that nobody accepts block smux as well
            await client.open(2 * stream_id + 3)
        await client.send_frame(NOP, 0)
        await eventually(lambda: session.agent.plugin.blocked)
        emulator.admin.change(["refuse-dial"], replace=True)
        await eventually(lambda: session.agent.away is reconnects)
        client.repeats = True
        await client.until(lambda: not client.unacknowledged)


async def test_a_destination_that_does_not_read_stops_the_whole_session(emulate):
    taken = asyncio.Event()

    async def serve(reader, _writer):
        await taken.wait()
        while await reader.read(65536):
            pass

    emulator = await emulate()
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3)
        session = next(iter(emulator.sessions))
        piece = bytes(1016)
        sent = 0
        while not session.agent.plugin.blocked:
            await client.until(lambda: len(client.unacknowledged) < 64)
            await client.send_frame(PSH, 3, piece)
            sent += len(piece)
        assert sent >= 4_194_304
        # No budget, no reading: not even what would be dropped is acknowledged.
        client.repeats = False
        await client.send_frame(NOP, 0)
        assert emulator.state()["sessions"][0]["blocked"]
        assert client.unacknowledged
        await (await client.ping())  # but the service itself answers
        assert client.unacknowledged
        taken.set()
        await client.until(lambda: not client.unacknowledged)


async def test_a_client_that_does_not_read_stops_the_destination(emulate):
    written = 0

    async def serve(_reader, writer):
        nonlocal written
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            written += 65536

    emulator = await emulate(lane_capacity=64)
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        client.reading.clear()
        await client.open(3)
        session = next(iter(emulator.sessions))
        # The kernel's buffers fill, then the lane, then smux's pipe: all are bounded.
        statistics = session.agent.reliability.statistics
        before, turns = -1, 0
        while turns < 500:
            turns = turns + 1 if statistics.sent == before else 0
            before = statistics.sent
            await asyncio.sleep(0)
        assert session.down.full
        assert len(session.down) <= 64 + 64
        assert session.agent.plugin.piped_bytes >= 200_000
        client.reading.set()
        await client.until(lambda: statistics.sent > before)


async def test_slow_destinations_take_what_they_are_told(emulate):
    emulator = await emulate("slow-destination=0")
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3, b"first")
        await client.until(lambda: client.streams[3] == b"first")
        await client.send_frame(PSH, 3, b"second")
        await client.until(lambda: not client.unacknowledged)
        assert client.streams[3] == b"first"
        emulator.admin.change(["slow-destination=1M"], replace=True)
        await client.until(lambda: client.streams[3] == b"firstsecond")


async def test_the_real_pace_rests_after_every_message(emulate, monkeypatch):
    size = 1 << 20
    gaps = []

    async def serve(_reader, writer):
        writer.write(bytes(size))
        await writer.drain()

    emulator = await emulate(pace=Pace.REAL)
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        agent = next(iter(emulator.sessions)).agent
        send, last = agent.send, time.perf_counter()

        async def timed(payload_type, payload):
            nonlocal last
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
            await send(payload_type, payload)

        monkeypatch.setattr(agent, "send", timed)
        await client.open(3)
        await client.until(lambda: 3 in client.finished)
    # What a real agent rests: protocol.md, appendix E has the gaps.
    assert PACE_INTERVAL == 0.001
    # A slow machine makes gaps longer; nothing makes one shorter than the rest.
    assert len(gaps) > size / 1024
    assert min(gaps[1:]) >= PACE_INTERVAL


async def test_the_last_data_and_the_fin_leave_in_one_message(emulate):
    async def serve(_reader, writer):
        writer.write(b"all there is")

    emulator = await emulate()
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3)
        await client.until(lambda: 3 in client.finished)
        payloads = [
            m.payload for m in client.messages if m.payload_type == PayloadType.OUTPUT
        ]
        expected = encode_frame(PSH, 3, b"all there is") + encode_frame(FIN, 3)
        assert payloads == [expected]


async def test_terminate_session_drains_and_closes_the_channel(emulate):
    emulator = await emulate("terminate-ack=before")
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3, b"x")
        await client.until(lambda: client.streams[3])
        await client.send_flag(Flag.DISCONNECT_TO_PORT)  # means nothing here
        await client.send_flag(Flag.TERMINATE_SESSION)
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"] == ""
        assert client.unacknowledged == {}
        await client.until_lost()
        assert client.close_code == 1000


async def test_draining_ends_although_the_client_acknowledges_nothing(emulate):
    emulator = await emulate(drain_time=0.05)
    async with connected(emulator.endpoint_url, free_port()) as client:
        client.acknowledges = False
        await client.open(3)
        await client.until(lambda: 3 in client.finished)
        await client.send_flag(Flag.TERMINATE_SESSION)
        await client.until(lambda: client.closed)


@pytest.mark.parametrize(
    ("agent", "client_version", "kept_alive"),
    [
        ("3.1.1374.0", "1.2.764.0", True),
        ("3.3.987.0", "1.2.0.0", True),
        ("3.3.987.0", "1.2.764.0", False),
    ],
)
async def test_keepalive_depends_on_both_versions(
    emulate, agent, client_version, kept_alive
):
    emulator = await emulate(
        agent_version=agent, keepalive_interval=0.02, keepalive_timeout=1
    )
    async with connected(emulator.endpoint_url, 80, version=client_version) as client:
        if not kept_alive:
            await client.open(3)
            await client.until(lambda: 3 in client.finished)
            assert Frame(NOP, 0) not in client.frames
            return
        for _ in range(8):
            await client.send_frame(NOP, 0)
            seen = client.frames.count(Frame(NOP, 0))
            await client.until(
                lambda before=seen: client.frames.count(Frame(NOP, 0)) > before
            )
        assert client.closed is None
        await client.until(lambda: client.closed)  # it heard nothing for too long
        assert "timed out" in client.closed[1]["Output"]


@pytest.mark.parametrize(
    "specs",
    [
        ("drop=0.01", "duplicate=0.02", "reorder=0.05", "seed=1"),
        ("delay=5ms", "swap-every=7"),
        ("lose-acks=0.1", "seed=3"),
        ("cut-every=0.25s", "drop=0.005", "seed=4"),
    ],
    ids=" ".join,
)
async def test_nothing_is_lost_through_faults(emulate, specs):
    emulator = await emulate(*specs, scan_interval=0.01)
    sent = os.urandom(300_000)
    async with destination(echo) as port:
        client = Client(await start(emulator.endpoint_url, port))
        async with asyncio.TaskGroup() as tasks:
            linked = tasks.create_task(_stay_linked(emulator, client))
            await client.until_ready()
            await client.open(3)
            await client.upload(3, sent)
            await client.until(lambda: len(client.streams[3]) == len(sent))
            linked.cancel()
    assert bytes(client.streams[3]) == sent


async def _stay_linked(emulator, client):
    while True:
        async with client.on_link():
            await client.until_lost()
        await client.resume(emulator.endpoint_url)


async def test_terminating_over_the_api_closes_destinations_at_once(emulate):
    emulator = await emulate()
    ended = asyncio.Event()

    async def serve(reader, _writer):
        await reader.read()
        ended.set()

    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3)
        session_id = client.grant["SessionId"]
        await client.until(lambda: not client.unacknowledged)
        await call(emulator.endpoint_url, "TerminateSession", SessionId=session_id)
        await client.until(lambda: client.closed)
        await ended.wait()
