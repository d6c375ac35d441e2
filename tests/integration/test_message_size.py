"""Large messages in a daemon against the emulator, whatever its service takes."""

import asyncio

import pytest

from tests.integration.world import (
    PATIENCE,
    configuration,
    connection,
    destination,
    emulator,
    port_of,
    running,
    tunnel,
)
from tests.support.turns import until

INSTANCE = "0123456789ab"
TRIES = 3072
"""Payloads of 8 KiB: 24 MiB, in which an upload has time to grow."""


async def swallow(reader, writer):
    """Answer with the sum of what came, once as much came as was announced."""
    try:
        expected = int(await reader.readline())
        total = count = 0
        while count < expected:
            data = await reader.read(1 << 16)
            if not data:
                return
            total += sum(data)
            count += len(data)
        writer.write(b"%d\n" % total)
        await writer.drain()
    finally:
        writer.close()


async def upload(port, size):
    """Upload ``size`` bytes; return whether all of them arrived."""
    piece = bytes(range(256)) * 32
    async with connection(port) as (reader, writer):
        writer.write(b"%d\n" % size)
        for _ in range(size // len(piece)):
            writer.write(piece)
            await writer.drain()
        answer = int(await reader.readline())
    return answer == sum(piece) * (size // len(piece))


def sizes(daemon):
    (found,) = daemon.status()["tunnels"]
    return {session["message_size"] for session in found["sessions"]}


def trials(daemon):
    (found,) = daemon.status()["tunnels"]
    return found["counts"]["size_trials"]


def large(service):
    """Return the sessions whose messages were larger than the usual ones on average."""
    means = [s.up.statistics.bytes / s.up.statistics.messages for s in service.sessions]
    return [mean for mean in means if mean > 1144]


async def test_an_upload_is_sent_in_large_messages_and_the_next_daemon_knows(events):
    async with (
        asyncio.timeout(2 * PATIENCE),
        destination(swallow) as port,
        emulator() as service,
    ):
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        async with running(text, instance=INSTANCE) as daemon:
            assert sizes(daemon) == {8192}
            assert trials(daemon) == {"accepted": 2, "lost": 0}
            assert await upload(port_of(daemon, "x"), TRIES * 8192)
            assert large(service)
        async with running(text, instance=INSTANCE) as daemon:
            assert sizes(daemon) == {8192}
            assert trials(daemon) == {"accepted": 0, "lost": 0}


@pytest.mark.parametrize("beyond", ["closed", "1009", "silence"])
async def test_a_service_that_takes_no_large_messages_troubles_nobody(events, beyond):
    async with (
        asyncio.timeout(2 * PATIENCE),
        destination(swallow) as port,
        emulator(faults=[f"max-message=1024:{beyond}"]) as service,
    ):
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        async with running(text, instance=INSTANCE) as daemon:
            await until(lambda: trials(daemon)["lost"] == 1)
            (found,) = daemon.status()["tunnels"]
            assert (found["state"], found["reason"]) == ("ready", "")
            assert sizes(daemon) == {1024}
            assert found["counts"]["ended"] == {"trial": 1}
            assert await upload(port_of(daemon, "x"), 1 << 20)
            assert not large(service)
        assert [e for e in events.lines if e["level"] in {"warning", "error"}] == []
        # The next one does not try again.
        async with running(text, instance=INSTANCE) as daemon:
            assert trials(daemon) == {"accepted": 0, "lost": 0}


async def test_a_limit_of_its_own_is_what_a_tunnel_tries(events):
    async with destination(swallow) as port, emulator() as service:
        tunnels = [
            tunnel("large", port=port, message_size="32KiB"),
            tunnel("small", port=port, message_size=1024),
        ]
        text = configuration(service.endpoint_url, *tunnels)
        async with running(text) as daemon:
            found = {t["name"]: t["sessions"] for t in daemon.status()["tunnels"]}
            got = {name: [s["message_size"] for s in found[name]] for name in found}
            assert got == {"large": [32768], "small": [1024]}
