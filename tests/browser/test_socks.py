"""A real browser on private sites that only the target can name and reach."""

import asyncio
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.base.aio import close_server
from tests.integration.world import (
    configuration,
    emulator,
    logging,
    port_of,
    running,
    tunnel,
    use_loopback_aws,
)
from tests.support.chromium import chromium
from tests.support.turns import until

# Ends of names that no resolver has: only the emulated target knows them.
SITES = ("wiki.corp.test", "shop.corp.test")
OUTSIDE = "outside.test"
NAMES = dict.fromkeys((*SITES, OUTSIDE), "127.0.0.1")


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
async def events():
    async with logging() as caught:
        yield caught


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The files of a certificate that nobody has reason to trust, and of its key."""
    program = shutil.which("openssl") or pytest.skip("not installed: openssl")
    directory = tmp_path_factory.mktemp("certificate")
    files = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={SITES[0]}"),
            *("-addext", f"subjectAltName=DNS:{SITES[0]}"),
            *("-out", files[0], "-keyout", files[1]),
        ],
        check=True,
        capture_output=True,
    )
    return files


@asynccontextmanager
async def sites(tls=None):
    """Serve pages that say how they were asked; yields the port, and names asked."""
    serving, asked = {}, set()

    async def serve(reader, writer):
        serving[asyncio.current_task()] = writer
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                path = head.split()[1]
                hosts = [h for h in head.split("\r\n") if h.lower().startswith("host:")]
                name = hosts[0].partition(":")[2].strip().partition(":")[0]
                asked.add(name)
                body = f"<!doctype html><title>{name}</title><p>{path}"
                body += "<link rel=icon href=data:,>"
                body += "".join(f"<img src=/{n}.svg>" for n in range(12) if path == "/")
                if path.endswith(".svg"):
                    body = '<svg xmlns="http://www.w3.org/2000/svg" width="9"/>'
                kind = "image/svg+xml" if path.endswith(".svg") else "text/html"
                fields = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(f"HTTP/1.1 200 OK\r\n{fields}{body}".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # the browser has enough
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        await close_server(server)
    for writer in serving.values():
        writer.transport.abort()
    if serving:
        await asyncio.wait(serving)


@asynccontextmanager
async def proxy(mode):
    """Run a daemon and an emulator; yields the daemon and the local port."""
    async with emulator(host_aliases=NAMES) as service:
        settings = {"mode": mode, "destinations": ["*.corp.test:*"]}
        text = configuration(service.endpoint_url, tunnel("browse", **settings))
        async with running(text) as daemon:
            yield daemon, port_of(daemon, "browse")


async def failure(page, address):
    """Return the browser's word for why it cannot open ``address``."""
    return (await page.call("Page.navigate", url=address)).get("errorText")


async def failed(daemon, kind):
    """Return once a connection to the only tunnel has failed in this way."""
    await until(lambda: daemon.snapshot().tunnels[0].failures.get(kind))


ALL_IMAGES = "[...document.images].filter(i => i.naturalWidth).length === 12"


async def test_two_private_sites_are_browsed_through_socks5(events):
    async with (
        sites() as (port, asked),
        proxy("socks5") as (daemon, ours),
        chromium(f"--proxy-server=socks5://127.0.0.1:{ours}") as browser,
        browser.page() as page,
    ):
        for site in SITES:
            await page.open(f"http://{site}:{port}/")
            assert await page.evaluate("document.title") == site
            assert await page.until(ALL_IMAGES)
            assert await page.evaluate("fetch('/more').then(r => r.text())")
        assert page.complaints == []
        found = daemon.snapshot().tunnels[0].destinations
        assert [d.name for d in found] == [f"{site}:{port}" for site in SITES]

        error = await failure(page, f"http://{OUTSIDE}:{port}/")
        assert error == "net::ERR_SOCKS_CONNECTION_FAILED"
        assert asked == set(SITES)
        # Maybe not ours: browsers call home, too.
        line = await events.wait_for("connection.refused", tunnel="browse")
        assert "is not one of the destinations" in line["reason"]
        await failed(daemon, "forbidden")


async def test_a_private_site_is_browsed_through_http_connect(certificate):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    async with (
        sites(tls) as (port, asked),
        proxy("http-connect") as (daemon, ours),
        chromium(
            f"--proxy-server=http://127.0.0.1:{ours}", "--ignore-certificate-errors"
        ) as browser,
        browser.page() as page,
    ):
        await page.open(f"https://{SITES[0]}:{port}/")
        assert await page.evaluate("document.title") == SITES[0]
        assert await page.until(ALL_IMAGES)

        error = await failure(page, f"https://{OUTSIDE}:{port}/")
        assert error == "net::ERR_TUNNEL_CONNECTION_FAILED"
        assert asked == {SITES[0]}
        await failed(daemon, "forbidden")
        (found,) = daemon.snapshot().tunnels[0].destinations
        assert found.name == f"{SITES[0]}:{port}"


@pytest.mark.parametrize("mode", ["socks5", "http-connect"])
async def test_a_page_cannot_send_requests_through_either(mode):
    """Requests that a foreign page makes a browser send to our port reach nobody."""
    async with (
        sites() as (port, asked),
        proxy(mode) as (daemon, ours),
        chromium() as browser,
        browser.page() as page,
    ):
        await page.open(f"http://127.0.0.1:{port}/quiet")
        answer = await page.evaluate(
            f"fetch('http://127.0.0.1:{ours}/', {{method: 'POST', body: 'CONNECT "
            f"{SITES[0]}:{port} HTTP/1.1\\r\\n\\r\\n'}}).then(() => 1, () => 'failed')"
        )
        assert answer == "failed"
        await failed(daemon, "handshake")
        assert daemon.snapshot().tunnels[0].destinations == ()
        assert asked == {"127.0.0.1"}
