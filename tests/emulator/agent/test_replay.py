"""Recorded sessions that are played to other clients, and to our own."""

import asyncio
import hashlib
import random
from contextlib import suppress

import pytest

from ssmtunneld.api import open_tunnel
from ssmtunneld.emulator.agent.replay import Progress
from ssmtunneld.emulator.settings import Pace
from ssmtunneld.protocol.message import Flag
from tests.emulator.reference import (
    INSTANCE,
    SSH,
    Client,
    connected,
    destination,
    start,
)
from tests.integration import world

QUESTION = b"what is there?\n"
ANSWER = random.Random(5).randbytes(150_000)
FAREWELL = b"that was all"


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


async def serve(reader, writer):
    assert await reader.readexactly(len(QUESTION)) == QUESTION
    writer.write(ANSWER)
    await writer.drain()
    assert await reader.readexactly(2) == b"ok"
    writer.write(FAREWELL)
    await writer.drain()


async def recorded(emulate, path, *faults, document=None, **settings):
    """Record what the reference client and a destination say; return the file."""
    emulator = await emulate(
        *faults, record=path, record_payloads=True, scan_interval=0.01, **settings
    )
    more = {} if document is None else {"document": document}
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port, **more) as client,
    ):
        if client.is_mux:
            await client.open(3, QUESTION[:5])
            for byte in QUESTION[5:]:
                await client.upload(3, bytes([byte]))
            await client.until(lambda: len(client.streams[3]) >= len(ANSWER))
            await client.upload(3, b"ok")
            await client.until(lambda: 3 in client.finished)
        else:
            await client.send(QUESTION)
            await client.until(lambda: len(client.output) >= len(ANSWER))
            await client.send(b"ok")
            await client.until(lambda: client.closed)
    return path


async def ask(port):
    """Say what the recorded client said, in other pieces, and return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(QUESTION)
    found = await reader.readexactly(len(ANSWER))
    writer.write(b"ok")
    found += await reader.read()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return found


@pytest.mark.parametrize(
    "faults",
    [(), ("down:duplicate=0.1", "down:reorder=0.1", "seed=4"), ("down:drop=0.01",)],
    ids=["clean", "disordered", "lossy"],
)
async def test_our_driver_gets_the_bytes_that_another_client_got(
    emulate, tmp_path, faults
):
    path = await recorded(emulate, tmp_path / "sessions.jsonl", *faults)
    emulator = await emulate(replay=path, scan_interval=0.01)
    async with open_tunnel(
        INSTANCE, 1, endpoint_url=emulator.endpoint_url, region="eu-west-1"
    ) as tunnel:
        found = await ask(tunnel.port)
    assert hashlib.sha256(found).digest() == hashlib.sha256(ANSWER + FAREWELL).digest()


async def test_a_basic_session_is_played_by_its_bytes(emulate, tmp_path):
    path = await recorded(emulate, tmp_path / "sessions.jsonl", document=SSH)
    emulator = await emulate(replay=path)
    async with connected(emulator.endpoint_url, 1, SSH) as client:
        for byte in QUESTION:
            await client.send(bytes([byte]))
        await client.until(lambda: len(client.output) == len(ANSWER))
        await client.send(b"ok")
        await client.until(lambda: client.closed)
        assert bytes(client.output) == ANSWER + FAREWELL


async def test_nothing_is_said_before_its_time(emulate, tmp_path):
    path = await recorded(emulate, tmp_path / "sessions.jsonl")
    emulator = await emulate(replay=path, pace=Pace.REAL)
    async with connected(emulator.endpoint_url, 1) as client:
        await client.open(3, QUESTION[:-1])
        await client.until(lambda: not client.unacknowledged)
        assert client.streams[3] == b""
        await client.upload(3, QUESTION[-1:])
        await client.until(lambda: len(client.streams[3]) == len(ANSWER))


async def test_a_client_may_end_before_the_recorded_one_did(emulate, tmp_path):
    path = await recorded(emulate, tmp_path / "sessions.jsonl")
    emulator = await emulate("terminate-ack=before", replay=path)
    async with connected(emulator.endpoint_url, 1) as client:
        await client.send_flag(Flag.TERMINATE_SESSION)
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"] == ""


async def test_services_messages_and_the_end_are_played_too(emulate, tmp_path):
    path = tmp_path / "sessions.jsonl"
    emulator = await emulate("down:pause", record=path, record_payloads=True)
    async with connected(emulator.endpoint_url, 80) as client:
        await client.until(
            lambda: client.messages[-1].message_type == "pause_publication"
        )
        emulator.close_session(client.grant["SessionId"], "gone for lunch")
        await client.until(lambda: client.closed)
    emulator = await emulate(replay=path)
    async with connected(emulator.endpoint_url, 80) as client:
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"] == "gone for lunch"
        assert "pause_publication" in {m.message_type for m in client.messages}


async def test_a_client_that_speaks_nonsense_is_still_acknowledged(emulate, tmp_path):
    path = await recorded(emulate, tmp_path / "sessions.jsonl")
    emulator = await emulate(replay=path)
    async with connected(emulator.endpoint_url, 1) as client:
        await client.send(b"\x09nonsense that is not smux")
        await client.until(lambda: not client.unacknowledged)


async def test_sessions_are_played_in_turns(emulate, tmp_path):
    path = tmp_path / "sessions.jsonl"
    emulator = await emulate(record=path, record_payloads=True)
    for words in ("first", "second"):
        async with connected(emulator.endpoint_url, 80) as client:
            emulator.close_session(client.grant["SessionId"], words)
            await client.until(lambda found=client: found.closed)
    emulator = await emulate(replay=path)
    heard = []
    for _ in range(3):
        client = Client(await start(emulator.endpoint_url, 80))
        async with client.on_link():
            await client.until(lambda found=client: found.closed)
            heard.append(client.closed[1]["Output"])
    assert heard == ["first", "second", "first"]


def test_progress_needs_everything():
    assert Progress(1, 1, 10, 0).reaches(Progress(1, 1, 10, 0))
    assert not Progress(1, 1, 10, 0).reaches(Progress(1, 1, 11, 0))
    assert not Progress(1, 0, 99, 9).reaches(Progress(1, 1, 0, 0))
