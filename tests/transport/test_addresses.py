"""Connections to names: by any of their addresses, and never behind other names."""

import asyncio
import contextlib
import socket

import pytest
from websockets.exceptions import ProxyError

from ssmtunneld.base import lookups
from ssmtunneld.transport.addresses import addresses_of, connect_tcp
from ssmtunneld.transport.http_proxy import connect_through as through_http
from ssmtunneld.transport.socks_proxy import connect_through as through_socks
from ssmtunneld.transport.websocket import Liveness, dial
from tests.support.name_server import NameServer

PATIENCE = 30.0


@pytest.fixture
def names(monkeypatch):
    monkeypatch.setattr(lookups, "_process", lookups.Lookups())
    with NameServer(monkeypatch) as server:
        yield server


@contextlib.asynccontextmanager
async def serving(host="127.0.0.1"):
    """Greet whoever comes; yield the port."""

    async def greet(reader, writer):
        writer.write(b"hello")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, host, 0)
    async with server, asyncio.timeout(PATIENCE):
        yield server.sockets[0].getsockname()[1]


class Line(asyncio.Protocol):
    def __init__(self):
        self.heard = asyncio.get_running_loop().create_future()
        self.gone = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.heard.set_result(data)

    def connection_lost(self, exc):
        self.gone.set_result(None)


async def test_the_first_address_that_takes_it_is_used(names):
    names.known["two.example"] = ["127.0.0.2", "127.0.0.1"]
    async with serving("127.0.0.1") as port:
        transport, line = await connect_tcp(Line, "two.example", port)
        assert await line.heard == b"hello"
        transport.close()
        await line.gone


async def test_where_none_takes_it_the_last_one_says_why(names):
    names.known["two.example"] = ["127.0.0.2", "127.0.0.1"]
    with pytest.raises(ConnectionRefusedError):
        await connect_tcp(Line, "two.example", 1)
    with pytest.raises(socket.gaierror):
        await connect_tcp(Line, "no.such.invalid", 1)


async def test_addresses_have_their_families(names):
    names.known["six.example"] = ["::1", "127.0.0.1"]
    assert await addresses_of("six.example", 1) == [
        (socket.AF_INET6, "::1"),
        (socket.AF_INET, "127.0.0.1"),
    ]


WAYS = {
    "straight": lambda name: dial(f"ws://{name}:1/", {}, liveness=Liveness()),
    "encrypted": lambda name: dial(f"wss://{name}:1/", {}, liveness=Liveness()),
    "an HTTP proxy": lambda name: through_http(f"http://{name}:1", "x", 1, None),
    "a SOCKS proxy": lambda name: through_socks(f"socks5h://{name}:1", "x", 1),
    "by a SOCKS proxy": lambda name: through_socks("socks5://127.0.0.1:1", name, 1),
}


@pytest.mark.parametrize("way", WAYS)
async def test_whoever_waits_for_a_silent_name_holds_up_no_other(names, way):
    """An event loop's own threads would all wait: it has between four and 32."""
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        waiting = [
            tasks.create_task(WAYS[way](f"silent{number}.example"))
            for number in range(40)
        ]
        for number in range(40):
            await asyncio.to_thread(names.await_asked, f"silent{number}.example")
        async with serving() as port:
            names.known["good.example"] = ["127.0.0.1"]
            transport, line = await connect_tcp(Line, "good.example", port)
            assert await line.heard == b"hello"
            transport.close()
            await line.gone
        for task in waiting:
            task.cancel()


async def test_a_socks4_proxy_takes_no_ipv6(names):
    names.known["six.example"] = ["::1"]
    with pytest.raises(ProxyError, match="IPv4 addresses only"):
        await through_socks("socks4://127.0.0.1:1", "six.example", 1)
