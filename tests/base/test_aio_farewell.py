"""Servers that close while somebody comes in."""

import asyncio
import socket
from contextlib import suppress

import pytest
import uvloop
from aiohttp import web

from ssmtunneld.base.aio import close_server
from ssmtunneld.serve.control_socket import serve_control
from tests.integration.world import emulator
from tests.support.turns import turns

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
TURNS = range(8)
"""From before the connection is accepted until after its protocol has it."""


async def come_and_close(number):
    """Connect and close the server ``number`` turns later; say what became of both."""
    made, lost = [], []

    class Guest(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)

        def connection_lost(self, error):
            lost.append(error)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Guest, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        await turns(number)
        await close_server(server)
        await close_server(server)
        assert not server.is_serving()
        client.setblocking(False)
        for transport in made:
            transport.abort()
        await turns(3)
        assert len(lost) == len(made)
        with suppress(ConnectionResetError):  # nobody had accepted it
            assert client.recv(1) == b""
    return len(made)


@pytest.mark.parametrize("name", LOOPS)
def test_whoever_was_accepted_can_be_told_to_go(name):
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        outcomes = [runner.run(come_and_close(number)) for number in TURNS]
    assert outcomes[0] == 0  # nobody had accepted it
    assert outcomes[-1] == 1


@pytest.mark.parametrize("number", TURNS)
async def test_the_control_socket_forgets_nobody(number, tmp_path):
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as client:
        async with serve_control(path, web.Application()):
            client.connect(str(path))
            await turns(number)
        client.setblocking(False)
        await turns(3)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""


@pytest.mark.parametrize("number", TURNS)
async def test_the_emulator_forgets_nobody(number):
    async with emulator() as service:
        port = int(service.endpoint_url.rpartition(":")[2])
        client = socket.create_connection(("127.0.0.1", port))
        await turns(number)
    with client:
        client.setblocking(False)
        await turns(3)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
