"""Sessions in a file: what is written, what never is, and what can be read."""

import json
import stat

import pytest

from ssmtunneld.emulator.faults import Direction
from ssmtunneld.emulator.recording import Recorder, load
from ssmtunneld.errors import ConfigError
from ssmtunneld.protocol.message import Flag, MessageType, PayloadType
from tests.emulator.reference import connected, destination, echo


async def record(emulate, path, **settings):
    """Run a session that sends a secret, and return what was recorded."""
    emulator = await emulate("terminate-ack=before", record=path, **settings)
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port) as client,
    ):
        await client.open(3, b"user-canary")
        await client.until(lambda: client.streams[3] == b"user-canary")
        await client.send_flag(Flag.TERMINATE_SESSION)
        await client.until_lost()
        token = client.grant["TokenValue"]
    text = path.read_text()
    assert token not in text
    return [json.loads(line) for line in text.splitlines()]


async def test_every_message_is_written_without_payloads(emulate, tmp_path):
    path = tmp_path / "sessions.jsonl"
    head, *lines = await record(emulate, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert head == {"format": 1, "payloads": False}
    assert [line["event"] for line in lines if line["event"] != "message"] == [
        "start",
        "open",
        "end",
        "close",
    ]
    assert {line["session"] for line in lines} == {1}
    times = [line["at"] for line in lines]
    assert times == sorted(times)
    messages = [line for line in lines if line["event"] == "message"]
    assert not any("payload" in line for line in messages)
    assert messages[0]["payload_type"] == PayloadType.HANDSHAKE_REQUEST
    assert messages[0]["from"] == "service"
    assert messages[-1]["type"] == MessageType.CHANNEL_CLOSED
    sent = [line for line in messages if line["type"] == MessageType.INPUT]
    assert [line["sequence"] for line in sent] == [0, 1, 2]
    assert sent[-1]["flag"] == Flag.TERMINATE_SESSION
    acknowledged = {
        line["acknowledges"]
        for line in messages
        if line["from"] == "service" and line["type"] == MessageType.ACKNOWLEDGE
    }
    assert acknowledged == {0, 1, 2}
    assert "user-canary" not in path.read_text()
    with pytest.raises(ConfigError, match="without --record-payloads"):
        load(path)


async def test_a_recording_with_payloads_can_be_read_again(emulate, tmp_path):
    path = tmp_path / "sessions.jsonl"
    await record(emulate, path, record_payloads=True)
    (session,) = load(path)
    assert session.document == "AWS-StartPortForwardingSession"
    assert session.properties["type"] == "LocalPortForwarding"
    said = b"".join(
        message.payload
        for direction, message in session.messages
        if direction is Direction.UP and message.payload_type == PayloadType.OUTPUT
    )
    assert b"user-canary" in said


@pytest.mark.parametrize("payloads", [False, True])
def test_what_does_not_decode_is_written_as_it_is(tmp_path, payloads):
    path = tmp_path / "sessions.jsonl"
    recorder = Recorder(path, payloads=payloads, now=lambda: 0.0, failed=pytest.fail)
    session = recorder.start("D", {}, "3.3.987.0")
    session.message(Direction.UP, b"garbage")
    recorder.close()
    session.message(Direction.UP, b"too late")
    line = json.loads(path.read_text().splitlines()[-1])
    assert line["size"] == 7
    assert "no whole header" in line["error"]
    assert ("data" in line) is payloads
    if payloads:
        assert load(path)[0].messages == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a recording"),
        ("nonsense", "not a recording"),
        ("[]", "not a recording"),
        ('{"format": 2}', "unknown format"),
        ('{"format": 1, "payloads": true}', "no session"),
        ('{"format": 1, "payloads": true}\n{"session": 1}', "not a recording"),
        (
            '{"format":1,"payloads":true}\n'
            '{"session":1,"event":"message","from":"client","payload":"x"}',
            "not a recording",
        ),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, text, problem):
    path = tmp_path / "sessions.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        load(path)
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none")


async def test_a_file_that_cannot_be_written_is_a_configuration_error(
    emulate, tmp_path
):
    with pytest.raises(ConfigError, match="Is a directory"):
        await emulate(record=tmp_path)
