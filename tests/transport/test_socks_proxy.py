"""The way through a SOCKS proxy, whatever it answers."""

import asyncio
import os
import subprocess
import sys

import pytest
from websockets.exceptions import InvalidProxy, ProxyError

from ssmtunneld.transport.socks_proxy import connect_through
from tests.support.forward_proxy import ForwardProxy

PATIENCE = 10.0
HOST = "service.example"


class Line(asyncio.Protocol):
    """Waits for what comes first, and for the end."""

    def __init__(self):
        self.first = asyncio.get_running_loop().create_future()
        self.gone = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        if not self.first.done():
            self.first.set_result(data)

    def connection_lost(self, exc):
        self.gone.set_result(None)


async def through(url, host, port):
    async with asyncio.timeout(PATIENCE):
        return await connect_through(url, host, port)


async def lead(reader, writer, asked):
    """Speak SOCKS5 (RFC 1928, RFC 1929), then send back what comes first."""
    methods = (await reader.readexactly(2))[1]
    await reader.readexactly(methods)
    writer.write(b"\x05\x02")
    await reader.readexactly(1)
    for _ in ("user", "password"):
        asked.append(await reader.readexactly((await reader.readexactly(1))[0]))
    writer.write(b"\x01\x00")
    kind = (await reader.readexactly(4))[3]
    size = 4 if kind == 1 else (await reader.readexactly(1))[0]
    asked.append(await reader.readexactly(size))
    asked.append(int.from_bytes(await reader.readexactly(2), "big"))
    writer.write(b"\x05\x00\x00\x01" + bytes(6))
    writer.write(await reader.read(100))
    await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("scheme", "host", "address"),
    [
        ("socks5h", HOST, HOST.encode()),
        ("socks5", "localhost", bytes([127, 0, 0, 1])),
        ("socks5", "127.1.2.3", bytes([127, 1, 2, 3])),
    ],
)
async def test_it_leads_on(scheme, host, address):
    asked = []
    server = await asyncio.start_server(
        lambda reader, writer: lead(reader, writer, asked), "127.0.0.1", 0
    )
    async with server, asyncio.timeout(PATIENCE):
        port = server.sockets[0].getsockname()[1]
        url = f"{scheme}://me:it%27s%20me@127.0.0.1:{port}"
        transport = await through(url, host, 443)
        line = Line()
        transport.set_protocol(line)
        transport.write(b"hello")
        assert await line.first == b"hello"
        transport.close()
        await line.gone
    assert asked == [b"me", b"it's me", address, 443]


async def test_a_refusal_says_why():
    with ForwardProxy({}, credentials=("me", "it")) as proxy:
        with pytest.raises(ProxyError) as caught:
            await through(proxy.url("socks5h", user="me:canary"), HOST, 443)
        assert "canary" not in f"{caught.value} {caught.value.__cause__}"
        assert "authentication failure" in str(caught.value.__cause__)
        with pytest.raises(ProxyError) as caught:
            await through(proxy.url("socks5h", user="me:it"), HOST, 443)
        assert "unreachable" in str(caught.value.__cause__)


@pytest.mark.parametrize("scheme", ["socks5h", "socks4a"])
async def test_a_proxy_that_hangs_up_is_an_error(scheme):
    async def leave(reader, writer):
        await reader.readexactly(3)
        writer.close()

    server = await asyncio.start_server(leave, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((ProxyError, ConnectionResetError)):
            await through(f"{scheme}://127.0.0.1:{port}", HOST, 443)


async def test_a_proxy_that_is_not_there_is_an_error():
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1 "):
        await through("socks5h://127.0.0.1:1", HOST, 443)


async def test_what_is_no_proxy_is_an_error():
    with pytest.raises(InvalidProxy):
        await through("socks6://127.0.0.1:1", HOST, 443)


async def test_giving_up_closes_the_connection():
    met, gone = asyncio.Event(), asyncio.Event()

    async def wait(reader, writer):
        met.set()
        await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    async with server, asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        url = f"socks5h://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        task = tasks.create_task(connect_through(url, HOST, 443))
        await met.wait()
        task.cancel()
        await gone.wait()


def test_what_speaks_with_proxies_is_imported_by_the_first():
    code = (
        "import sys, asyncio, ssmtunneld.__main__, ssmtunneld.transport.websocket\n"
        "print('python_socks' in sys.modules)\n"
        "from ssmtunneld.transport.socks_proxy import connect_through\n"
        "try: asyncio.run(connect_through('socks5h://127.0.0.1:1', 'x', 1))\n"
        "except OSError: print('python_socks' in sys.modules)"
    )
    output = subprocess.check_output([sys.executable, "-c", code], env={**os.environ})
    assert output.split() == [b"False", b"True"]
