"""The agent in basic mode: one connection at a time (protocol 6.4)."""

import os

import pytest

from ssmtunneld.emulator.settings import Pace
from ssmtunneld.protocol.message import Flag
from tests.emulator.reference import (
    FORWARDING,
    SSH,
    TO_REMOTE_HOST,
    Client,
    connected,
    destination,
    die_or_live,
    echo,
    eventually,
    reset,
    start,
)
from tests.support.ports import free_port


def forwarding(emulator, port):
    """A session that is basic because its client is old."""
    return connected(emulator.endpoint_url, port, FORWARDING, "1.1.60.0", is_mux=False)


async def hung_up(emulator):
    """Wait until the only session's first connection was made and has ended.

    The destination may have been reached, and so much as left, before the agent has its
    end of the connection: "no connection" alone is true of that moment too.
    """
    await eventually(lambda: emulator.state()["sessions"][0]["ready"])
    await eventually(lambda: not emulator.state()["sessions"][0]["streams"])


@pytest.mark.parametrize("pace", list(Pace))
async def test_bytes_go_both_ways_without_any_framing(emulate, pace):
    emulator = await emulate(pace=pace)
    sent = os.urandom(20_000)
    async with (
        destination(echo) as port,
        connected(emulator.endpoint_url, port, SSH) as client,
    ):
        for offset in range(0, len(sent), 1024):
            await client.send(sent[offset : offset + 1024])
        await client.until(lambda: len(client.output) == len(sent))
        assert bytes(client.output) == sent
        (view,) = emulator.state()["sessions"][0]["streams"]
        assert view == {
            "stream_id": 0,
            "bytes_up": len(sent),
            "bytes_down": len(sent),
        }


async def test_an_ssh_session_ends_with_its_destination(emulate):
    async def serve(_reader, writer):
        writer.write(b"bye")

    emulator = await emulate()
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port, SSH) as client,
    ):
        await client.until(lambda: client.closed)
        assert bytes(client.output) == b"bye"
        assert client.closed[1]["Output"] == ""


async def test_a_reset_ends_an_ssh_session_with_an_error(emulate):
    async def serve(reader, writer):
        await reader.read(1)
        reset(writer)

    emulator = await emulate()
    async with (
        destination(serve) as port,
        connected(emulator.endpoint_url, port, SSH) as client,
    ):
        await client.send(b"x")
        await client.until(lambda: client.closed)
        assert "reset" in client.closed[1]["Output"].lower()


async def refused_output(emulator, document, **client):
    port = free_port()
    client = Client(await start(emulator.endpoint_url, port, document), **client)
    client.is_mux = False
    async with client.on_link():
        await client.until(lambda: client.closed)
    return client.closed[1]["Output"].replace(str(port), "PORT")


async def test_an_agent_panics_when_the_destination_of_an_ssh_session_refuses(emulate):
    assert await refused_output(await emulate(), SSH) == ""


async def test_an_older_agent_says_why_an_ssh_session_fails(emulate):
    emulator = await emulate(agent_version="3.3.987.0")
    assert await refused_output(emulator, SSH) == (
        "\n----------ERROR-------\ndial tcp 127.0.0.1:PORT: connect: connection refused"
    )


async def test_a_destination_that_cannot_be_dialled_fails_the_session(emulate):
    emulator = await emulate()
    assert await refused_output(emulator, FORWARDING, version="1.1.60.0") == (
        "\n----------ERROR-------\nUnable to connect to specified port: "
        "dial tcp 127.0.0.1:PORT: connect: connection refused"
    )


async def test_a_name_without_address_fails_it_in_the_same_way(emulate):
    emulator = await emulate("dns-failure")
    grant = await start(emulator.endpoint_url, 80, TO_REMOTE_HOST, host="db.internal")
    client = Client(grant, version="1.1.60.0")
    client.is_mux = False
    async with client.on_link():
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"].endswith("port: missing address")


async def test_forwarding_redials_when_there_is_something_to_say(emulate):
    count = 0

    async def serve(reader, writer):
        nonlocal count
        count += 1
        writer.write(await reader.read(100))

    emulator = await emulate()
    async with destination(serve) as port, forwarding(emulator, port) as client:
        await client.send(b"one")
        await client.until(lambda: client.output == b"one")
        await hung_up(emulator)
        assert client.closed is None
        await client.send(b"two")
        await client.until(lambda: client.output == b"onetwo")
        assert count == 2


async def test_forwarding_survives_a_reset(emulate):
    emulator = await emulate()
    async with destination(die_or_live) as port, forwarding(emulator, port) as client:
        await client.send(b"die")
        await hung_up(emulator)
        await client.send(b"live")
        await client.until(lambda: client.output == b"alive")


async def test_a_redial_that_fails_ends_the_session(emulate):
    async def serve(_reader, _writer):
        emulator.admin.change(["refuse-dial"], replace=False)

    emulator = await emulate()
    async with destination(serve) as port, forwarding(emulator, port) as client:
        await eventually(lambda: emulator.faults.knobs.refuse_dial)
        await hung_up(emulator)
        await client.send(b"again")
        await client.until(lambda: client.closed)
        assert "Unable to connect" in client.closed[1]["Output"]


async def test_disconnect_to_port_closes_the_connection_after_what_came_before(emulate):
    received = []

    async def serve(reader, _writer):
        received.append(await reader.read())

    emulator = await emulate()
    async with destination(serve) as port, forwarding(emulator, port) as client:
        for word in (b"first", b"second"):
            for part in (word, b" ", word):
                await client.send(part)
            for _ in range(3):  # the second finds nothing to close
                await client.send_flag(Flag.DISCONNECT_TO_PORT)
        await eventually(lambda: len(received) == 2)
        assert received == [b"first first", b"second second"]
        assert client.closed is None


async def test_a_session_without_connection_can_be_terminated(emulate):
    async def serve(_reader, _writer):
        pass

    emulator = await emulate()
    async with destination(serve) as port, forwarding(emulator, port) as client:
        await hung_up(emulator)
        await client.send_flag(Flag.DISCONNECT_TO_PORT)
        await client.send_flag(Flag.TERMINATE_SESSION)
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"] == ""


async def test_an_agent_before_2_3_714_does_not_know_disconnect_to_port(emulate):
    emulator = await emulate(agent_version="2.3.672.0")
    async with destination(echo) as port, forwarding(emulator, port) as client:
        await client.send_flag(Flag.DISCONNECT_TO_PORT)
        await client.send_flag(Flag.TERMINATE_SESSION)  # nor this
        await client.send(b"still here")
        await client.until(lambda: client.output == b"still here")


async def test_terminate_session_ends_it(emulate):
    emulator = await emulate()
    async with destination(echo) as port, forwarding(emulator, port) as client:
        await client.send_flag(Flag.TERMINATE_SESSION)
        await client.until(lambda: client.closed)
        assert client.closed[1]["Output"] == ""


async def test_a_destination_that_does_not_read_blocks_the_agent(emulate):
    emulator = await emulate("slow-destination=0")
    async with destination(echo) as port, forwarding(emulator, port) as client:
        await eventually(lambda: emulator.state()["sessions"][0]["ready"])
        for _ in range(80):
            await client.send(b"x" * 1024)
        await client.until(lambda: emulator.state()["sessions"][0]["blocked"])
        assert client.unacknowledged
        emulator.faults.clear()
        await client.until(lambda: len(client.output) == 80 * 1024)
