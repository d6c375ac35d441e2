"""One session's clocks, end and actions: protocol 1.8 and 3.4."""

import asyncio
import json
import struct

import pytest

from ssmtunneld.emulator.faults import Action
from ssmtunneld.protocol.message import decode
from tests.emulator.reference import (
    Client,
    call,
    connected,
    eventually,
    start,
)


def status(emulator):
    return emulator.state()["sessions"][0]["status"]


async def test_channel_closed_has_the_short_header_padded_with_nuls(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        emulator.close_session(client.grant["SessionId"], "go away")
        await client.until(lambda: client.closed)
    data, document = client.closed
    assert struct.unpack(">I", data[:4]) == (112,)
    assert data[4:36] == b"channel_closed".ljust(32, b"\0")
    assert struct.unpack(">I", data[36:40]) == (1,)
    (length,) = struct.unpack(">I", data[112:116])
    assert length == len(data) - 116
    assert json.loads(data[116:]) == document
    assert document == {
        "MessageType": "channel_closed",
        "MessageId": "",
        "DestinationId": "",
        "SessionId": client.grant["SessionId"],
        "SchemaVersion": 1,
        "CreatedDate": document["CreatedDate"],
        "Output": "go away",
    }
    assert decode(data).created_ms == int(document["CreatedDate"])


async def test_the_websocket_is_closed_after_channel_closed(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        emulator.close_session(client.grant["SessionId"])
        await client.until_lost()
        assert client.closed is not None
        assert client.close_code == 1000


async def test_an_idle_session_ends(emulate):
    emulator = await emulate(idle_timeout=1)
    async with connected(emulator.endpoint_url, 80) as client:
        await client.until(lambda: client.closed)
        assert "timed out" in client.closed[1]["Output"]
    assert status(emulator) == "Terminated"


async def test_stream_data_and_resume_reset_the_idle_timer(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        session = next(iter(emulator.sessions))
        session._last_input = -1.0
        await client.send(b"\1\3\0\0\0\0\0\0")
        await eventually(lambda: session._last_input > 0)
        session._last_input = -1.0
        await client.resume(emulator.endpoint_url)
        await eventually(lambda: session._last_input > 0)
        session._last_input = -1.0
        await client.acknowledge(client.messages[0])  # acknowledgements do not
        await (await client.ping())
        assert session._last_input == -1.0


async def test_the_longest_duration_ends_even_a_busy_session(emulate):
    emulator = await emulate(max_duration=0.2)
    async with connected(emulator.endpoint_url, 80) as client:
        await client.until(lambda: client.closed)
        assert "maximum duration" in client.closed[1]["Output"]


async def test_terminate_session_ends_it_at_once(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        session_id = client.grant["SessionId"]
        for _ in range(2):  # twice is as good as once
            await call(emulator.endpoint_url, "TerminateSession", SessionId=session_id)
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"] == ""


async def test_a_session_goes_through_its_states(emulate):
    emulator = await emulate()
    client = Client(await start(emulator.endpoint_url, 80))
    assert status(emulator) == "Connecting"
    async with client.on_link():
        await client.until_ready()
        assert status(emulator) == "Connected"
    await eventually(lambda: status(emulator) == "Disconnected")
    emulator.close_session(client.grant["SessionId"])
    await eventually(lambda: status(emulator) == "Terminated")


@pytest.mark.parametrize("action", [Action.CUT, Action.BYE])
async def test_without_a_websocket_there_is_nothing_to_cut(emulate, action):
    emulator = await emulate()
    await start(emulator.endpoint_url, 80)
    emulator.sessions.do(action)
    assert status(emulator) == "Connecting"


async def test_nothing_is_done_to_a_session_that_is_over(emulate):
    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80)
    emulator.close_session(grant["SessionId"])
    session = emulator.sessions.get(grant["SessionId"])
    session.do(Action.CLOSE)
    session.do(Action.PAUSE)
    await eventually(lambda: status(emulator) == "Terminated")


async def test_close_is_an_action(emulate):
    emulator = await emulate("close")  # done to each session as it becomes ready
    client = Client(await start(emulator.endpoint_url, 80))
    async with client.on_link():
        await client.until(lambda: client.closed)


async def test_an_ended_session_holds_no_messages(emulate):
    emulator = await emulate()
    async with connected(emulator.endpoint_url, 80) as client:
        client.acknowledges = False
        session = next(iter(emulator.sessions))
        await client.send_raw(client.encoded(9, b"early"))
        await client.open(3)
        await client.until(lambda: 3 in client.finished)
        assert session.agent.reliability.unacknowledged
        assert session.agent.reliability.early
        session.end()
        await eventually(lambda: not session.agent.reliability.unacknowledged)
        assert not session.agent.reliability.early
        assert len(session.up) == 0


async def test_the_token_is_in_no_representation(emulate):
    emulator = await emulate()
    grant = await start(emulator.endpoint_url, 80)
    session = emulator.sessions.get(grant["SessionId"])
    await asyncio.sleep(0)
    assert grant["TokenValue"] not in json.dumps(emulator.state()) + repr(vars(session))
