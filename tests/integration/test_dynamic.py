"""Tunnels whose clients name the destination: a daemon, an emulator, and real curl."""

import asyncio
import shutil
import subprocess
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.ops.status import MappingState
from tests.integration.world import (
    PATIENCE,
    ask,
    configuration,
    connection,
    destination,
    echo,
    echoes,
    emulator,
    port_of,
    running,
    tunnel,
)

NAMES = {
    name: "127.0.0.1" for name in ("one.corp.test", "two.corp.test", "outside.test")
}
SUCCESS = b"\x05\x00\x00\x01" + bytes(6)


@asynccontextmanager
async def dynamic(mode="socks5", **settings):
    """Run a daemon with one dynamic tunnel; yields the emulator, daemon and port."""
    settings = {"destinations": ["*.corp.test:*"], "mode": mode, **settings}
    async with emulator(host_aliases=NAMES) as service:
        text = configuration(service.endpoint_url, tunnel("web", **settings))
        async with running(text) as daemon:
            yield service, daemon, port_of(daemon, "web")


def status_of(daemon):
    """Return the status of the only mapping."""
    return daemon.snapshot().mappings[0]


async def until(condition):
    """Return once ``condition`` holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


def request(host, port):
    """Return what a SOCKS 5 client says, all at once."""
    name = host.encode()
    address = bytes([3, len(name)]) + name
    return b"\x05\x01\x00\x05\x01\x00" + address + port.to_bytes(2)


async def answer_to(port, said):
    """Return all that a proxy answers to ``said`` until it ends the connection."""
    async with connection(port) as (reader, writer), asyncio.timeout(PATIENCE):
        writer.write(said)
        return await reader.read()


@asynccontextmanager
async def connected(port, host, its_port):
    """Connect through a SOCKS 5 proxy."""
    async with connection(port) as (reader, writer), asyncio.timeout(PATIENCE):
        writer.write(request(host, its_port))
        assert await reader.readexactly(2) == b"\x05\x00"
        assert await reader.readexactly(10) == SUCCESS
        yield reader, writer


async def website(reader, writer):
    """Answer one HTTP request with the name that it was sent to."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    host = next(h for h in head.split("\r\n") if h.lower().startswith("host:"))
    body = f"this is {host[5:].strip().partition(':')[0]}"
    fields = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(f"HTTP/1.1 200 OK\r\n{fields}{body}".encode())
    writer.close()


async def curl(*arguments):
    """Run curl; return its exit code and output."""
    program = shutil.which("curl") or pytest.skip("not installed: curl")
    process = await asyncio.create_subprocess_exec(
        program,
        *("--silent", "--show-error", "--noproxy", "", "--max-time", "60"),
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_curl_reaches_names_that_only_the_target_knows_through_socks5():
    async with destination(website) as site, dynamic() as (service, daemon, port):
        for name in ("one", "two"):
            code, output = await curl(
                *("--socks5-hostname", f"127.0.0.1:{port}"),
                f"http://{name}.corp.test:{site}/",
            )
            assert (code, output) == (0, f"this is {name}.corp.test")
        hosts = {s.request.parameters["host"][0] for s in service.sessions}
        assert hosts == {"one.corp.test", "two.corp.test"}
        status = status_of(daemon)
        assert status.mode == "socks5"
        assert status.state is MappingState.READY
        assert [(d.name, d.accepted, d.sessions > 0) for d in status.destinations] == [
            (f"one.corp.test:{site}", 1, True),
            (f"two.corp.test:{site}", 1, True),
        ]


async def test_curl_reaches_a_site_through_http_connect():
    async with (
        destination(website) as site,
        dynamic("http-connect") as (_, _, port),
    ):
        code, output = await curl(
            *("--proxytunnel", "--proxy", f"http://127.0.0.1:{port}"),
            f"http://one.corp.test:{site}/",
        )
        assert (code, output) == (0, "this is one.corp.test")
