"""Make the recordings beside this file: conversations that were seen to fail.

    python -m tests.emulator.recordings.make

Each is written by ``ssmtunneld emulator --record`` from what the reference client and a
destination say. ``test_recorded_conversations.py`` plays them to our own driver.
"""

import asyncio
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import aiohttp

from ssmtunneld.smux.frame import Command, encode_frame
from tests.emulator.reference import (
    FORWARDING,
    SSH,
    Client,
    connected,
    destination,
    start,
)
from tests.interop.programs import Program, environment
from tests.support.ports import free_port

FOLDER = Path(__file__).parent
QUESTION = b"what is there?\n"
ANSWER = Random(14).randbytes(24_000)


async def serve(whole, reader, writer):
    """Answer the question; say the last part only if it is to be a ``whole`` answer."""
    assert await reader.readexactly(len(QUESTION)) == QUESTION
    writer.write(ANSWER if whole else ANSWER[: len(ANSWER) // 2])
    await writer.drain()
    if not whole:
        await reader.read()


@asynccontextmanager
async def recording(name, *options):
    """Run an emulator that writes the recording ``name``; yield its endpoint."""
    words = ("--pace=none", "--record-payloads", "--record", FOLDER / f"{name}.jsonl")
    command = [sys.executable, "-m", "ssmtunneld", "emulator", *words, *options]
    program = Program(*command, env=environment())
    try:
        yield program.wait_for(r"emulator listening on (http://\S+)")[1]
        assert program.stop() == 0, program.log()
    finally:
        program.kill()


async def ask(endpoint):
    """Ask for the whole answer and take it."""
    async with (
        destination(partial(serve, True)) as port,
        connected(endpoint, port) as client,
    ):
        await client.open(3, QUESTION)
        await client.until(lambda: 3 in client.finished)
        assert client.streams[3] == ANSWER


async def make_lost_acks():
    """Record an agent that repeats what was taken, for want of acknowledgements."""
    faults = ("lose-acks=0.4", "down:duplicate=0.3", "down:reorder=0.3", "seed=5")
    options = [f"--fault={fault}" for fault in faults]
    async with recording("lost-acks", *options) as endpoint:
        await ask(endpoint)


async def make_closed_in_the_middle():
    """Record a session that ends in the middle of a download, and a whole one."""
    async with recording("closed-in-the-middle") as endpoint:
        async with (
            destination(partial(serve, False)) as port,
            connected(endpoint, port) as client,
        ):
            await client.open(3, QUESTION)
            await client.until(lambda: len(client.streams[3]) == len(ANSWER) // 2)
            session = client.grant["SessionId"]
            url = f"{endpoint}/_emulator/sessions/{session}/close"
            async with aiohttp.ClientSession() as http, http.post(url) as answer:
                assert answer.status == 200
            await client.until(lambda: client.closed)
        await ask(endpoint)


async def make_refused_document(name, version):
    """Record an SSH document's session to a port where nobody listens."""
    async with recording(name, f"--agent-version={version}") as endpoint:
        client = Client(await start(endpoint, free_port(), SSH))
        client.is_mux = False
        async with client.on_link():
            await client.until(lambda: client.closed)


async def make_smux_error():
    """Record an agent that got a header of another smux: a FIN, and then silence."""
    async with (
        recording("smux-error") as endpoint,
        destination(partial(serve, False)) as port,
        connected(endpoint, port, FORWARDING) as client,
    ):
        await client.open(3, QUESTION)
        await client.until(lambda: len(client.streams[3]) == len(ANSWER) // 2)
        await client.send(b"\x02" + encode_frame(Command.NOP, 0)[1:])
        await client.until(lambda: 3 in client.finished)
        await client.until(lambda: not client.unacknowledged)


async def main():
    """Make all."""
    await make_lost_acks()
    await make_closed_in_the_middle()
    await make_refused_document("refused-document", "3.3.5068.0")
    await make_refused_document("refused-document-with-reason", "3.3.3572.0")
    await make_smux_error()


if __name__ == "__main__":
    asyncio.run(main())
