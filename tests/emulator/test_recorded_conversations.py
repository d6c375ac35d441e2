"""Recorded conversations that clients were seen to fail in, played to our own driver.

``tests/emulator/recordings/make.py`` has made them.
"""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from ssmtunneld.api import open_tunnel
from ssmtunneld.emulator.faults import Direction
from ssmtunneld.emulator.recording import load
from ssmtunneld.protocol.message import MessageType
from tests.emulator.recordings.make import ANSWER, FOLDER, QUESTION
from tests.emulator.reference import INSTANCE, SSH
from tests.integration import world

HALF = ANSWER[: len(ANSWER) // 2]
RESET = "reset"
EOF = "eof"


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@asynccontextmanager
async def played(emulate, name, **settings):
    """Yield a tunnel whose sessions are those of the recording, and the emulator."""
    emulator = await emulate(replay=FOLDER / f"{name}.jsonl", scan_interval=0.01)
    async with open_tunnel(
        INSTANCE,
        None if "document" in settings else 1,
        endpoint_url=emulator.endpoint_url,
        region="eu-west-1",
        max_sessions=1,
        **settings,
    ) as tunnel:
        yield tunnel, emulator


async def asked(tunnel):
    """Ask the question; return what came, and how the connection ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", tunnel.port)
    found = bytearray()
    try:
        writer.write(QUESTION)
        while data := await reader.read(65536):
            found += data
        return bytes(found), EOF
    except ConnectionResetError:
        return bytes(found), RESET
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def sent(name, kind=MessageType.OUTPUT):
    """Return the numbers of the messages that the recorded service sent."""
    (session,) = load(FOLDER / f"{name}.jsonl")
    return [
        message.sequence
        for direction, message in session.messages
        if direction is Direction.DOWN and message.message_type == kind
    ]


async def test_messages_again_and_out_of_order_give_the_same_bytes(emulate):
    numbers = sent("lost-acks")
    assert len(set(numbers)) < len(numbers)
    assert sorted(numbers) != numbers
    async with played(emulate, "lost-acks") as (tunnel, _):
        assert await asked(tunnel) == (ANSWER, EOF)


async def test_a_session_that_ends_in_the_middle_resets_and_the_next_is_whole(emulate):
    async with played(emulate, "closed-in-the-middle") as (tunnel, emulator):
        # What was cut off must not look like all there was.
        assert await asked(tunnel) == (HALF, RESET)
        assert await asked(tunnel) == (ANSWER, EOF)
        assert len(list(emulator.sessions)) == 2


async def test_a_fin_after_an_error_of_smux_is_the_end_of_what_came(emulate):
    async with played(emulate, "smux-error") as (tunnel, emulator):
        assert await asked(tunnel) == (HALF, EOF)
        # The agent is silent from then on, and the session is not lost for that.
        (session,) = emulator.sessions
        assert not session.over


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        # Nothing tells it from a destination that accepts, and closes without a word.
        ("refused-document", EOF),
        ("refused-document-with-reason", RESET),
    ],
)
async def test_a_refused_ssh_document_ends_its_connection(emulate, name, ending):
    async with played(emulate, name, document=SSH) as (tunnel, _):
        assert await asked(tunnel) == (b"", ending)
