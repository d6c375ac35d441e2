"""The agent's handshake, gates and receiver: protocol 4.3, 4.6 and 5."""

import pytest

from ssmtunneld.protocol.message import (
    Flag,
    MessageType,
    PayloadType,
    decode,
)
from ssmtunneld.protocol.payloads import parse_acknowledgement
from ssmtunneld.smux.frame import Command, encode_frame
from tests.emulator.reference import (
    INSTANCE,
    TO_REMOTE_HOST,
    Client,
    call,
    connected,
    destination,
    echo,
    eventually,
    start,
)

SYN, PSH = Command.SYN, Command.PSH


def acknowledged(client):
    return [
        parse_acknowledgement(message.payload)
        for message in client.messages
        if message.message_type == MessageType.ACKNOWLEDGE
    ]


async def test_the_request_names_version_session_type_and_properties(emulate):
    emulator = await emulate(agent_version="3.2.2303.0")
    async with connected(
        emulator.endpoint_url, 5432, TO_REMOTE_HOST, host="localhost"
    ) as client:
        assert client.request.agent_version == "3.2.2303.0"
        (action,) = client.request.actions
        assert action.action_type == "SessionType"
        assert action.parameters == {
            "SessionType": "Port",
            "Properties": {
                "host": "localhost",
                "portNumber": "5432",
                "localPortNumber": "0",
                "type": "LocalPortForwarding",
            },
        }
        assert [m.payload_type for m in client.messages if m.payload_type] == [
            PayloadType.HANDSHAKE_REQUEST,
            PayloadType.HANDSHAKE_COMPLETE,
        ]


async def test_the_session_fails_without_an_answer(emulate):
    emulator = await emulate(handshake_timeout=0.05)
    client = Client(await start(emulator.endpoint_url, 80))
    client.answers_handshake = False
    async with client.on_link():
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"].startswith(
            "\n----------ERROR-------\nEncountered error while initiating handshake. "
            "Handshake timed out. "
        )
    assert emulator.state()["sessions"][0]["status"] == "Failed"


async def test_the_session_fails_without_a_client(emulate):
    emulator = await emulate(handshake_timeout=0.05)
    await start(emulator.endpoint_url, 80)
    await eventually(lambda: emulator.state()["sessions"][0]["status"] == "Failed")


async def test_an_action_that_failed_on_the_client_ends_the_session(emulate):
    emulator = await emulate()
    client = Client(await start(emulator.endpoint_url, 80))
    client.answers_handshake = False
    async with client.on_link():
        await client.until(lambda: client.request)
        await client.answer_handshake(status=3, error="what is that?")
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"] == (
            "\n----------ERROR-------\nEncountered error while initiating handshake. "
            "SessionType failed on client with status 3 error: what is that?"
        )


async def test_a_stalled_handshake_goes_on_when_the_fault_ends(emulate):
    emulator = await emulate("handshake-stall")
    client = Client(await start(emulator.endpoint_url, 80))
    async with client.on_link():
        await (await client.ping())
        assert client.messages == []
        emulator.faults.clear()
        await client.until_ready()


async def test_what_comes_before_the_handshake_is_acknowledged_and_thrown_away(emulate):
    emulator = await emulate()
    async with destination(echo) as port:
        client = Client(await start(emulator.endpoint_url, port))
        client.answers_handshake = False
        async with client.on_link():
            await client.until(lambda: client.request)
            early = await client.open(3, b"lost")
            await client.until(lambda: early in acknowledged(client))
            await client.answer_handshake()
            await client.answer_handshake()  # a second answer changes nothing
            await client.until_ready()
            await client.open(5, b"kept")
            await client.until(lambda: client.streams[5])
            assert client.streams[3] == b""


async def test_what_comes_before_the_plugin_is_ready_is_left_to_be_repeated(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        agent = next(iter(emulator.sessions)).agent
        await eventually(lambda: agent.plugin is not None)
        plugin, agent.plugin = agent.plugin, None
        client.repeats = False
        sequence = await client.send(encode_frame(SYN, 3) + encode_frame(PSH, 3, b"x"))
        await (await client.ping())
        await (await client.ping())
        assert sequence not in acknowledged(client)
        agent.plugin = plugin
        client.repeats = True
        await client.until(lambda: client.streams[3] == b"x")


async def test_an_agent_that_would_lose_what_comes_too_early_is_given_time(emulate):
    emulator = await emulate("stall-dial", agent_version="2.3.714.0")
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port, is_mux=False) as client,
    ):
        client.repeats = False
        await client.send(b"at once")
        await (await client.ping())
        emulator.faults.clear()
        await client.until(lambda: client.output == b"at once")


async def test_a_repetition_is_acknowledged_again(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        sequence = await client.open(3, b"once")
        data = client.unacknowledged[sequence]
        await client.until(lambda: client.streams[3])
        await client.send_raw(data)
        await client.until(lambda: acknowledged(client).count(sequence) >= 2)
        assert client.streams[3] == b"once"
        assert emulator.state()["sessions"][0]["agent"]["repeated"] >= 1


async def test_messages_that_come_early_are_acknowledged_and_held(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        first, second, third = (
            client.encoded(n, encode_frame(PSH, 3, b"%d" % n)) for n in (2, 3, 4)
        )
        await client.open(3)
        await client.send_raw(third)
        await client.send_raw(second)
        await client.until(lambda: {3, 4} <= set(acknowledged(client)))
        assert client.streams[3] == b""
        assert emulator.state()["sessions"][0]["agent"]["early_waiting"] == 2
        await client.send_raw(first)
        await client.until(lambda: client.streams[3] == b"234")


async def test_a_full_reorder_buffer_drops_silently(emulate):
    emulator = await emulate(agent_buffer=1)
    async with connected(emulator.endpoint_url, 80) as client:
        for sequence in (5, 6):
            await client.send_raw(client.encoded(sequence, b"x"))
        await client.until(lambda: 5 in acknowledged(client))
        await (await client.ping())
        assert 6 not in acknowledged(client)


async def test_the_front_is_repeated_until_it_is_acknowledged(emulate):
    emulator = await emulate(scan_interval=0.01)
    client = Client(await start(emulator.endpoint_url, 80), acknowledges=False)
    client.answers_handshake = False
    async with client.on_link():
        await client.until(lambda: len(client.messages) >= 3)
        assert {message.sequence for message in client.messages} == {0}
        assert len({message.message_id for message in client.messages}) == 1
        client.acknowledges = True
        await client.answer_handshake()
        await client.until_ready()
        agent = next(iter(emulator.sessions)).agent
        await eventually(lambda: not agent.reliability.unacknowledged)


async def test_garbage_is_dropped_without_an_acknowledgement(emulate):
    emulator = await emulate("check-digest")
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.send_raw(b"garbage")
        broken = bytearray(client.encoded(1, b"broken"))
        broken[-1] ^= 1
        await client.send_raw(bytes(broken))
        await client.send_raw(client.encoded(1, b"xx", PayloadType.FLAG))
        await client.send_raw(
            client.encoded(1, b"{}").replace(
                b"input_stream_data ", b"acknowledge       "
            )
        )
        await client.send_raw(
            client.encoded(1, b"{}").replace(
                b"input_stream_data ", b"agent_job         "
            )
        )
        await (await client.ping())
        assert 1 not in acknowledged(client)
        size = await client.send(b'{"cols":1,"rows":1}', PayloadType.SIZE)
        await client.until(lambda: size in acknowledged(client))
        await client.open(3, b"fine")
        await client.until(lambda: client.streams[3] == b"fine")


async def test_a_wrong_digest_is_not_looked_at(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3)
        await client.until(lambda: not client.unacknowledged)
        sequence = client.next_sequence
        data = bytearray(client.encoded(sequence, encode_frame(PSH, 3, b"unsigned")))
        data[80:112] = bytes(32)
        await client.send_raw(bytes(data))
        await client.until(lambda: client.streams[3] == b"unsigned")
        assert sequence in acknowledged(client)


@pytest.mark.parametrize("order", ["before", "after", "never"])
async def test_the_end_may_overtake_its_acknowledgement(emulate, order):
    emulator = await emulate(f"terminate-ack={order}")
    async with connected(emulator.endpoint_url, 80) as client:
        client.repeats = False
        sequence = await client.send_flag(Flag.TERMINATE_SESSION)
        await client.until_lost()
        kinds = [message.message_type for message in client.messages]
        end = kinds.index(MessageType.CHANNEL_CLOSED)
        found = sequence in acknowledged(client)
        assert found is (order != "never")
        assert (kinds[end + 1 :] != []) is (order == "after")


async def test_where_the_last_acknowledgement_comes_is_chance_that_a_seed_repeats(
    emulate,
):
    async def orders(seed):
        emulator = await emulate(f"seed={seed}")
        found = []
        for _ in range(14):
            async with connected(emulator.endpoint_url, 80) as client:
                client.repeats = False
                sequence = await client.send_flag(Flag.TERMINATE_SESSION)
                await client.until_lost()
                kinds = [message.message_type for message in client.messages]
                late = kinds[-1] == MessageType.ACKNOWLEDGE
                found.append((sequence in acknowledged(client), late))
        return found

    first = await orders(1)
    assert await orders(1) == first
    assert set(first) == {(False, False), (True, True), (True, False)}


async def test_a_frozen_agent_says_nothing_while_the_service_answers(emulate):
    emulator = await emulate(freeze_notice=0.0)
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        emulator.admin.change(["agent-freeze"], replace=False)
        await client.open(3, b"hello")
        for _ in range(3):
            await (await client.ping())
        assert client.unacknowledged
        assert client.streams[3] == b""
        status = await call(
            emulator.endpoint_url, "GetConnectionStatus", Target=INSTANCE
        )
        assert status["Status"] == "notconnected"
        emulator.admin.change(["agent-freeze=off"], replace=False)
        await client.until(lambda: client.streams[3] == b"hello")
        status = await call(
            emulator.endpoint_url, "GetConnectionStatus", Target=INSTANCE
        )
        assert status["Status"] == "connected"


async def test_an_agent_that_froze_just_now_still_counts_as_connected(emulate):
    emulator = await emulate("agent-freeze")
    status = await call(emulator.endpoint_url, "GetConnectionStatus", Target=INSTANCE)
    assert status["Status"] == "connected"


async def test_an_agent_that_is_frozen_at_its_end_ends_when_it_thaws(emulate):
    emulator = await emulate(handshake_timeout=0.0)
    client = Client(await start(emulator.endpoint_url, 80))
    client.answers_handshake = False
    emulator.admin.change(["agent-freeze"], replace=False)
    async with client.on_link():
        await (await client.ping())
        assert client.closed is None
        emulator.admin.change(["agent-freeze=off"], replace=False)
        await client.until(lambda: client.closed)


async def test_a_pause_stops_new_data_until_the_client_is_heard(emulate):
    emulator = await emulate()
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3, b"a")
        await client.until(lambda: client.streams[3] == b"a")
        session = next(iter(emulator.sessions))
        await eventually(lambda: not session.agent.reliability.unacknowledged)
        emulator.admin.change(["pause"], replace=False)
        await client.until(
            lambda: client.messages[-1].message_type == MessageType.PAUSE_PUBLICATION
        )
        assert emulator.state()["sessions"][0]["agent"]["paused"]
        await client.send_frame(PSH, 3, b"b")  # any stream data ends the pause
        await client.until(lambda: client.streams[3] == b"ab")
        assert not emulator.state()["sessions"][0]["agent"]["paused"]


async def test_a_start_ends_a_pause(emulate):
    emulator = await emulate("down:pause")
    async with connected(emulator.endpoint_url, 80) as client:
        await client.until(
            lambda: client.messages[-1].message_type == MessageType.PAUSE_PUBLICATION
        )
        session = next(iter(emulator.sessions))
        await eventually(lambda: not session.agent.reliability.unacknowledged)
        assert not session.agent.reliability.paused  # only the client was told
        emulator.admin.change(["up:pause"], replace=False)
        assert session.agent.reliability.paused
        emulator.admin.change(["start"], replace=False)
        assert not session.agent.reliability.paused
        await client.until(
            lambda: client.messages[-1].message_type == MessageType.START_PUBLICATION
        )


async def test_an_agent_before_3_0_732_ignores_pauses(emulate):
    emulator = await emulate(agent_version="3.0.655.0")
    async with connected(emulator.endpoint_url, 80) as client:
        session = next(iter(emulator.sessions))
        emulator.admin.change(["up:pause"], replace=False)
        assert not session.agent.reliability.paused
        del client


async def test_messages_are_lost_while_the_agent_reconnects_and_then_repeated(emulate):
    emulator = await emulate(agent_away_time=0.05, scan_interval=0.01)
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3, b"a")
        await client.until(lambda: client.streams[3])
        emulator.admin.change(["agent-reconnect"], replace=False)
        emulator.admin.change(["agent-reconnect"], replace=False)  # is away already
        await client.send_frame(PSH, 3, b"b")
        await client.until(lambda: client.streams[3] == b"ab")


async def test_an_agent_restart_ends_the_session(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        emulator.admin.change(["agent-restart"], replace=False)
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"] == "The agent was restarted."


async def test_a_forbidden_address_fails_the_session(emulate):
    emulator = await emulate()
    client = Client(
        await start(emulator.endpoint_url, 80, TO_REMOTE_HOST, host="169.254.169.254")
    )
    async with client.on_link():
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"].endswith(
            "Forwarding to IP address 169.254.169.254 is forbidden."
        )


async def test_every_message_decodes(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        assert decode(client.encoded(3, b"x")).sequence == 3
        assert all(m.created_ms > 1_700_000_000_000 for m in client.messages)
