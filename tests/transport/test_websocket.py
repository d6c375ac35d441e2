"""A link over a real websocket on loopback: events are awaited, never times."""

import asyncio
import base64
import contextlib
import datetime as dt
import ipaddress
import logging
import socket
import ssl
import sys
from http import HTTPStatus

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.server import serve
from websockets.frames import Opcode
from websockets.http11 import Response

from ssmtunneld.base.bounded_reads import SIZE
from ssmtunneld.errors import (
    LinkLost,
    LinkRefused,
    LinkUnreachable,
    LinkUntrusted,
    PeerUnresponsive,
)
from ssmtunneld.transport.unsent import UNSENT, WRITE_BUFFER
from ssmtunneld.transport.websocket import (
    MAX_MESSAGE,
    PING_PAYLOAD,
    Liveness,
    dial,
)
from tests.support.turns import turns

TOKEN = "canary-9a0f"
PATH = "/v1/data-channel/s-1?role=publish_subscribe&cell-number=A+k/N=="
CALM = Liveness()
PATIENCE = 10.0
"""Seconds that nothing here takes: only a defect does."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "socks_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Receiver:
    """Notes what a link tells, and lets a test wait for it."""

    def __init__(self):
        self.batches = []
        self.lost = []
        self.writable = 0
        self.on_messages_hook = lambda: None
        self._changed = asyncio.Event()

    @property
    def messages(self):
        return [message for batch in self.batches for message in batch]

    def on_messages(self, messages):
        self.batches.append(list(messages))
        self._changed.set()
        self.on_messages_hook()

    def on_writable(self):
        self.writable += 1
        self._changed.set()

    def on_lost(self, error):
        self.lost.append(error)
        self._changed.set()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_lost(self):
        await self.until(lambda: self.lost)
        return self.lost[0]


class Tap(asyncio.Protocol):
    """Passes on what arrives for a connection, and keeps it."""

    def __init__(self, connection, arrived):
        self._connection = connection
        self._arrived = arrived

    def data_received(self, data):
        self._arrived += data
        self._connection.data_received(data)

    def connection_lost(self, exc):
        self._connection.connection_lost(exc)


class Service:
    """A server of one websocket, and its url."""

    def __init__(self, url, connections, requests):
        self.url = url
        self._connections = connections
        self.requests = requests

    async def connection(self):
        async with asyncio.timeout(PATIENCE):
            return await self._connections.get()


@contextlib.asynccontextmanager
async def serving(*, greet=None, refuse=None, **options):
    """Serve on a free port; ``greet`` talks to a connection, else the test does."""
    connections, over, requests = asyncio.Queue(), asyncio.Event(), []

    async def handler(connection):
        if greet is not None:
            await greet(connection)
        connections.put_nowait(connection)
        await over.wait()

    def process_request(connection, request):
        requests.append(request)
        return None if refuse is None else refuse(connection)

    options = {
        "compression": None,
        "ping_interval": None,
        "close_timeout": 0.1,
    } | options
    async with serve(
        handler, "127.0.0.1", 0, process_request=process_request, **options
    ) as server:
        port = server.sockets[0].getsockname()[1]
        scheme = "wss" if options.get("ssl") else "ws"
        try:
            yield Service(f"{scheme}://127.0.0.1:{port}{PATH}", connections, requests)
        finally:
            over.set()


@contextlib.asynccontextmanager
async def linked(service, *, liveness=CALM, start=True):
    """Yield a link, what receives from it, and the service's end."""
    link = await dial(service.url, {}, liveness=liveness)
    receiver = Receiver()
    if start:
        link.start(receiver)
    try:
        yield link, receiver, await service.connection()
    finally:
        link.abort()


# Opening.


async def test_the_upgrade_is_the_url_byte_for_byte_with_our_headers_only():
    async with serving() as service:
        link = await dial(service.url, {"Authorization": "signed"}, liveness=CALM)
        link.abort()
        (request,) = service.requests
    assert request.path == PATH
    assert request.headers["Authorization"] == "signed"
    assert "User-Agent" not in request.headers
    assert "Sec-WebSocket-Extensions" not in request.headers


@pytest.mark.parametrize("status", [HTTPStatus.FORBIDDEN, HTTPStatus.BAD_GATEWAY])
async def test_an_upgrade_may_be_refused(status):
    def refuse(connection):
        return connection.respond(status, "no\n")

    async with serving(refuse=refuse) as service:
        with pytest.raises(LinkRefused) as caught:
            await dial(service.url, {}, liveness=CALM)
    assert caught.value.status == status
    assert caught.value.host in service.url
    assert "data-channel" not in caught.value.host


async def test_a_redirect_is_refused_because_the_token_must_not_follow_it():
    def refuse(connection):
        response = connection.respond(HTTPStatus.TEMPORARY_REDIRECT, "")
        response.headers["Location"] = "ws://127.0.0.1:1/elsewhere"
        return response

    async with serving(refuse=refuse) as service:
        with pytest.raises(LinkRefused) as caught:
            await dial(service.url, {}, liveness=CALM)
        assert caught.value.status == HTTPStatus.TEMPORARY_REDIRECT
        assert len(service.requests) == 1


async def test_nobody_listening_is_no_link():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(LinkUnreachable, match=r"[Cc]onnect"):
            await dial(url, {}, liveness=CALM)


async def test_a_url_that_is_none_is_no_link():
    with pytest.raises(LinkUnreachable, match="isn't a valid URI"):
        await dial("https://127.0.0.1/", {}, liveness=CALM)


async def test_an_upgrade_that_is_never_answered_is_given_up():
    held = []
    server = await asyncio.start_server(
        lambda reader, writer: held.append(writer), "127.0.0.1", 0
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LinkUnreachable, match="no connection within"):
            await dial(
                f"ws://127.0.0.1:{port}/", {}, liveness=Liveness(open_timeout=0.05)
            )
        for writer in held:
            writer.close()


async def test_an_answer_that_is_no_http_is_no_link():
    async def answer(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LinkUnreachable):
            await dial(f"ws://127.0.0.1:{port}/", {}, liveness=CALM)


async def test_cancelling_drops_a_half_open_connection():
    connected, gone = asyncio.Event(), asyncio.Event()

    async def wait_for_the_end(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        connected.set()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        gone.set()
        writer.close()

    server = await asyncio.start_server(wait_for_the_end, "127.0.0.1", 0)
    async with server, asyncio.timeout(PATIENCE):
        port = server.sockets[0].getsockname()[1]
        async with asyncio.TaskGroup() as tasks:
            dialling = tasks.create_task(
                dial(f"ws://127.0.0.1:{port}/", {}, liveness=CALM)
            )
            await connected.wait()
            dialling.cancel()
        await gone.wait()


# Proxies and certificates.


async def test_an_http_proxy_is_asked_for_the_host():
    asked = []

    async def proxy(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b" ", 2)[1])
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(LinkUnreachable, match="407"):
            await dial("ws://service.example:80/", {}, liveness=CALM, proxy=url)
    assert asked == [b"service.example:80"]


async def test_the_environment_does_not_matter(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving() as service:
        link = await dial(service.url, {}, liveness=CALM)
        link.abort()


async def test_a_proxy_that_cannot_be_one_is_explained_without_its_password():
    url = "ftp://user:canary@127.0.0.1:1"
    with pytest.raises(LinkUnreachable, match=r"proxy cannot be used") as caught:
        await dial("wss://service.example/", {}, liveness=CALM, proxy=url)
    assert "canary" not in f"{caught.value} {caught.value!r}"


async def test_a_socks_proxy_that_cannot_be_used_is_no_link():
    async def refuse(reader, writer):
        await reader.readexactly(3)
        writer.write(b"\x05\xff")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        url = f"socks5h://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(LinkUnreachable, match=r"SOCKS proxy: \S"):
            await dial("wss://service.example/", {}, liveness=CALM, proxy=url)


async def test_a_proxy_may_be_encrypted_itself(certificate):
    context, chain = certificate
    trust = ssl.create_default_context(cafile=str(chain))
    asked = []

    async def proxy(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0, ssl=context)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(LinkUnreachable, match="502"):
            await dial(
                "wss://service.example/",
                {},
                liveness=CALM,
                ssl_context=trust,
                proxy=url,
            )
    assert asked[0].startswith(b"CONNECT service.example:443 ")


@pytest.fixture
def certificate(tmp_path):
    """Return a server context whose certificate nobody has signed, and its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    alternative = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = tmp_path / "chain.pem"
    chain.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context, chain


async def test_a_certificate_that_nobody_signed_is_explained(certificate):
    context, _ = certificate
    async with serving(ssl=context) as service:
        with pytest.raises(LinkUntrusted, match="certificate is not trusted") as caught:
            await dial(service.url, {}, liveness=CALM)
    assert "AWS_CA_BUNDLE" in caught.value.advice


async def test_a_certificate_of_our_own_authority_is_accepted(certificate):
    context, chain = certificate
    trust = ssl.create_default_context(cafile=str(chain))
    async with serving(ssl=context) as service:
        link = await dial(service.url, {}, liveness=CALM, ssl_context=trust)
        receiver = Receiver()
        link.start(receiver)
        connection = await service.connection()
        await connection.send(b"secret")
        await receiver.until(lambda: receiver.messages)
        link.abort()


async def _relay(reader, writer):
    """Be an HTTP proxy that connects to whatever it is asked for."""
    head = await reader.readuntil(b"\r\n\r\n")
    host, _, port = head.split()[1].decode().rpartition(":")
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async def pump(source, sink):
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 14):
                sink.write(data)
                await sink.drain()
        sink.close()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pump(reader, far_writer))
        tasks.create_task(pump(far_reader, writer))


@pytest.mark.skipif(sys.platform != "linux", reason="reads an option of Linux")
@pytest.mark.parametrize("through", ["nothing", "a proxy"])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_little_waits_behind_a_link_whatever_it_goes_through(
    certificate, through, encrypted
):
    context, chain = certificate
    trust = ssl.create_default_context(cafile=str(chain)) if encrypted else None
    async with contextlib.AsyncExitStack() as stack:
        options = {"ssl": context} if encrypted else {}
        service = await stack.enter_async_context(serving(max_size=None, **options))
        proxy = None
        if through == "a proxy":
            server = await asyncio.start_server(_relay, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        link = await dial(
            service.url, {}, liveness=CALM, ssl_context=trust, proxy=proxy
        )
        transport = link._connection.transport
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT
        link.start(Receiver())
        service_end = await service.connection()
        service_end.transport.pause_reading()
        sent = 0
        while not link.congested:
            link.send([bytes(1024)] * 16)
            sent += 16
            assert transport.get_write_buffer_size() < 2 * WRITE_BUFFER
        service_end.transport.resume_reading()
        for _ in range(sent):
            await service_end.recv()
        link.abort()


# Messages.


async def test_text_and_messages_go_out_in_order():
    async with serving() as service, linked(service) as (link, _, service_end):
        link.send_text("introduction")
        link.send([b"a", b"b"])
        assert [await service_end.recv() for _ in range(3)] == [
            "introduction",
            b"a",
            b"b",
        ]


async def test_messages_arrive_in_order_binary_and_text_alike():
    async with serving() as service, linked(service) as (_, receiver, service_end):
        await service_end.send(b"a")
        await service_end.send("b")
        await receiver.until(lambda: len(receiver.messages) == 2)
        assert receiver.messages == [b"a", b"b"]
        assert all(type(message) is bytes for message in receiver.messages)


async def test_messages_of_one_read_are_handed_over_together():
    async with serving() as service, linked(service) as (_, receiver, service_end):
        for number in range(5):
            service_end.protocol.send_binary(b"%d" % number)
        service_end.transport.write(b"".join(service_end.protocol.data_to_send()))
        await receiver.until(lambda: receiver.batches)
        assert receiver.batches == [[b"0", b"1", b"2", b"3", b"4"]]


async def test_a_message_in_fragments_is_put_together():
    async with serving() as service, linked(service) as (_, receiver, service_end):
        await service_end.send([b"", b"one ", b"two ", b"three"])
        await service_end.send(b"whole")
        await receiver.until(lambda: len(receiver.messages) == 2)
        assert receiver.messages == [b"one two three", b"whole"]


async def test_a_ping_between_fragments_is_answered_and_no_message():
    async with serving() as service, linked(service) as (_, receiver, service_end):
        protocol = service_end.protocol
        protocol.send_binary(b"one ", fin=False)
        service_end.send_data()
        pong = await service_end.ping(b"hello")
        protocol.send_continuation(b"two", fin=True)
        service_end.send_data()
        async with asyncio.timeout(PATIENCE):
            await pong
        await receiver.until(lambda: receiver.messages)
        assert receiver.messages == [b"one two"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
async def test_a_message_arrives_whole_whatever_length_field_it_needs(size):
    async with serving() as service, linked(service) as (link, _, service_end):
        message = bytes(range(256)) * (size // 256 + 1)
        link.send([message[:size], b"next"])
        assert await service_end.recv() == message[:size]
        assert await service_end.recv() == b"next"


async def test_no_two_frames_have_the_same_mask():
    arrived = bytearray()
    async with serving() as service, linked(service) as (link, _, service_end):
        service_end.transport.set_protocol(Tap(service_end, arrived))
        link.send([bytes(8), bytes(8)])
        for _ in range(2):
            assert await service_end.recv() == bytes(8)
    # Two bytes of header, four of mask, eight of data, and the same again.
    assert len({bytes(arrived[2:6]), bytes(arrived[16:20]), bytes(4)}) == 3


async def test_a_large_message_is_no_problem():
    async with (
        serving(max_size=None) as service,
        linked(service) as (link, receiver, service_end),
    ):
        large = bytes(MAX_MESSAGE)
        await service_end.send(large)
        await receiver.until(lambda: receiver.messages)
        assert receiver.messages == [large]
        link.send([large])
        assert await service_end.recv() == large


async def test_what_arrives_before_the_start_is_delivered_first():
    async def greet(connection):
        await connection.send(b"first")

    async with (
        serving(greet=greet) as service,
        linked(service, start=False) as (link, receiver, service_end),
    ):
        link.start(receiver)
        await service_end.send(b"second")
        await receiver.until(lambda: len(receiver.messages) == 2)
        assert receiver.messages == [b"first", b"second"]


async def test_what_arrives_before_the_start_holds_nobody_up():
    count = 2_000
    sent = asyncio.Event()

    async def greet(connection):
        # Past all that the library does for each of them, and in one go.
        message = b"\x82\x7e\x04\x00" + bytes(1024)
        connection.transport.write(message * count)
        sent.set()

    async with serving(greet=greet) as service:
        link = await dial(service.url, {}, liveness=CALM)
        try:
            await asyncio.wait_for(sent.wait(), PATIENCE)
            await turns(50)
            receiver = Receiver()
            link.start(receiver)
            assert len(receiver.messages) <= SIZE // 1024
            await receiver.until(lambda: len(receiver.messages) == count)
            assert max(map(len, receiver.batches)) <= SIZE // 1024 + 1
        finally:
            link.abort()


# The end.


async def test_a_close_frame_ends_the_link_with_its_code_and_reason():
    async with serving() as service, linked(service) as (_, receiver, service_end):
        await service_end.send(b"last")
        await service_end.close(1000, "Bye")
        error = await receiver.until_lost()
        assert receiver.messages == [b"last"]
        assert isinstance(error, LinkLost)
        assert (error.code, error.reason) == (1000, "Bye")


async def test_a_close_frame_without_a_reason_is_explained():
    async with serving() as service, linked(service) as (_, receiver, service_end):
        await service_end.close(1001)
        error = await receiver.until_lost()
        assert (error.code, error.reason) == (1001, "closed by the service")


async def test_a_connection_that_is_cut_ends_the_link_without_a_code():
    async with serving() as service, linked(service) as (_, receiver, service_end):
        service_end.transport.close()
        error = await receiver.until_lost()
        assert error.code is None
        assert "cut" in str(error)


async def test_a_connection_that_is_reset_ends_the_link():
    async with serving() as service, linked(service) as (_, receiver, service_end):
        raw = service_end.transport.get_extra_info("socket")
        # Linger for no time: the kernel sends a reset.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + [0] * 7))
        service_end.transport.abort()
        error = await receiver.until_lost()
        assert error.code is None


@pytest.mark.parametrize("how", ["close", "cut"])
async def test_an_end_before_the_start_is_told_after_it(how):
    over = asyncio.Event()

    async def greet(connection):
        await connection.send(b"first")
        if how == "close":
            connection.protocol.send_close(1008, "token refused")
            connection.send_data()
        else:
            connection.transport.close()
        over.set()

    async with serving(greet=greet) as service:
        link = await dial(service.url, {}, liveness=CALM)
        await asyncio.wait_for(over.wait(), PATIENCE)
        receiver = Receiver()
        link.start(receiver)
        error = await receiver.until_lost()
        assert receiver.messages == [b"first"]
        assert error.code == (1008 if how == "close" else None)


async def test_the_end_is_told_once():
    async with serving() as service, linked(service) as (link, receiver, service_end):
        await service_end.close()
        await receiver.until_lost()
        await link._connection.wait_closed()
        assert len(receiver.lost) == 1


def _write_raw(connection, data):
    connection.transport.write(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x8f\x00", "invalid opcode"),
        (b"\x82\x7f" + (MAX_MESSAGE + 1).to_bytes(8), "limit"),
        (b"\x80\x00", "unexpected continuation"),
    ],
    ids=["opcode", "size", "continuation"],
)
async def test_a_peer_that_breaks_the_websocket_protocol_is_left_at_once(data, reason):
    """Also if it does not close the connection, and goes on to send."""
    async with serving() as service, linked(service) as (link, receiver, service_end):
        # The server's own protocol would answer our close frame: it never sees it.
        service_end.transport.pause_reading()
        service_end.protocol.send_binary(b"before")
        service_end.transport.write(
            b"".join(service_end.protocol.data_to_send()) + data
        )
        error = await receiver.until_lost()
        assert receiver.messages == [b"before"]
        assert reason in str(error)
        link.send([b"to nobody"])
        service_end.transport.abort()


async def test_what_is_sent_after_the_end_is_dropped():
    async with serving() as service, linked(service) as (link, receiver, service_end):
        await service_end.close()
        await receiver.until_lost()
        link.send_text("x")
        link.send([b"x"])
        link.pause()
        link.resume()
        link.check(0.0)
        assert receiver.messages == []


async def test_aborting_is_silent_and_idempotent_and_the_service_notices():
    async with serving() as service, linked(service) as (link, receiver, service_end):
        link.abort()
        link.abort()
        async with asyncio.timeout(PATIENCE):
            await service_end.wait_closed()
        link.flush()
        link.on_writable()
        assert receiver.lost == []
        assert receiver.messages == []


async def test_aborting_inside_a_callback_ends_the_deliveries():
    async with serving() as service, linked(service) as (link, receiver, service_end):
        receiver.on_messages_hook = link.abort
        await service_end.send(b"a")
        await receiver.until(lambda: receiver.messages)
        async with asyncio.timeout(PATIENCE):
            await service_end.wait_closed()
        assert receiver.messages == [b"a"]
        assert receiver.lost == []


async def test_aborting_inside_a_callback_of_the_start():
    async def greet(connection):
        connection.protocol.send_binary(b"first")
        connection.protocol.send_close(1000, "Bye")
        connection.send_data()

    async with serving(greet=greet) as service:
        link = await dial(service.url, {}, liveness=CALM)
        receiver = Receiver()
        receiver.on_messages_hook = link.abort
        link.start(receiver)
        async with asyncio.timeout(PATIENCE):
            await link._connection.wait_closed()
        assert receiver.messages == [b"first"]
        assert receiver.lost == []


async def test_aborting_inside_a_callback_that_a_close_frame_follows():
    async with serving() as service, linked(service) as (link, receiver, service_end):
        receiver.on_messages_hook = link.abort
        service_end.protocol.send_binary(b"a")
        service_end.protocol.send_close(1000, "Bye")
        service_end.transport.write(b"".join(service_end.protocol.data_to_send()))
        async with asyncio.timeout(PATIENCE):
            await link._connection.wait_closed()
        assert receiver.messages == [b"a"]
        assert receiver.lost == []


# Backpressure.


async def test_a_link_is_congested_until_the_network_has_taken_what_was_sent():
    async with (
        serving(max_size=None) as service,
        linked(service) as (link, receiver, service_end),
    ):
        service_end.transport.pause_reading()
        assert not link.congested
        pieces = 0
        while not link.congested:
            link.send([bytes(WRITE_BUFFER)] * 8)
            pieces += 8
        service_end.transport.resume_reading()
        for _ in range(pieces):
            await service_end.recv()
        await receiver.until(lambda: receiver.writable)
        assert not link.congested


async def test_a_paused_link_delivers_nothing_until_it_is_resumed():
    async with serving() as service, linked(service) as (link, receiver, service_end):
        link.pause()
        link.pause()
        await service_end.send(b"later")
        link.send([b"still works"])
        assert await service_end.recv() == b"still works"
        assert receiver.messages == []
        link.resume()
        link.resume()
        await receiver.until(lambda: receiver.messages)
        assert receiver.messages == [b"later"]


async def test_pausing_inside_a_callback_and_resuming_later():
    async with serving() as service, linked(service) as (link, receiver, service_end):
        receiver.on_messages_hook = link.pause
        await service_end.send(b"a")
        await receiver.until(lambda: receiver.messages)
        await service_end.send(b"b")
        link.resume()
        await receiver.until(lambda: len(receiver.messages) == 2)
        assert receiver.messages == [b"a", b"b"]


# Liveness.


def _pings(connection):
    """Return a queue of the payloads of pings that arrive at ``connection``."""
    pings = asyncio.Queue()
    recv_frame = connection.protocol.recv_frame

    def noting(frame):
        if frame.opcode is Opcode.PING:
            pings.put_nowait(bytes(frame.data))
        recv_frame(frame)

    connection.protocol.recv_frame = noting
    return pings


async def _take(pings, count):
    async with asyncio.timeout(PATIENCE):
        return [await pings.get() for _ in range(count)]


async def test_a_link_pings_as_long_as_it_lives():
    liveness = Liveness(ping_interval=0.005, dead_peer_timeout=PATIENCE)
    async with (
        serving() as service,
        linked(service, liveness=liveness) as (_, receiver, service_end),
    ):
        assert await _take(_pings(service_end), 3) == [PING_PAYLOAD] * 3
        assert receiver.lost == []


async def test_pongs_alone_keep_a_link_alive():
    liveness = Liveness(ping_interval=0.1, dead_peer_timeout=1.0)
    async with (
        serving() as service,
        linked(service, liveness=liveness) as (_, receiver, service_end),
    ):
        await _take(_pings(service_end), 15)
        assert receiver.lost == []


async def test_a_silent_peer_is_dead():
    liveness = Liveness(ping_interval=0.01, dead_peer_timeout=0.03)
    async with (
        serving() as service,
        linked(service, liveness=liveness) as (_, receiver, service_end),
    ):
        service_end.transport.pause_reading()
        error = await receiver.until_lost()
        assert isinstance(error, PeerUnresponsive)
        assert error.waited > 0
        service_end.transport.abort()


async def test_a_peer_that_talks_and_takes_nothing_is_left():
    """Answers to it, and our own pings, would pile up as long as it talks."""
    liveness = Liveness(ping_interval=0.01, dead_peer_timeout=0.2)
    async with (
        serving(max_size=None) as service,
        linked(service, liveness=liveness) as (link, receiver, service_end),
    ):
        service_end.transport.pause_reading()
        async with asyncio.timeout(PATIENCE):
            while not receiver.lost:
                if not link.congested:  # the kernels still have room
                    link.send([bytes(WRITE_BUFFER)] * 8)
                await service_end.send(b"talk")
                await asyncio.sleep(0)
        assert "took nothing" in str(receiver.lost[0])


async def test_silence_says_nothing_while_we_do_not_listen():
    liveness = Liveness(ping_interval=0.002, dead_peer_timeout=0.01)
    async with (
        serving() as service,
        linked(service, liveness=liveness) as (link, receiver, service_end),
    ):
        link.pause()
        await _take(_pings(service_end), 30)
        assert receiver.lost == []
        service_end.transport.pause_reading()
        link.resume()
        assert isinstance(await receiver.until_lost(), PeerUnresponsive)
        service_end.transport.abort()


async def test_a_check_finds_a_dead_peer_long_before_the_usual_time():
    async with serving() as service, linked(service) as (link, receiver, service_end):
        service_end.transport.pause_reading()
        link.check(0.02)
        link.check(600.0)
        assert isinstance(await receiver.until_lost(), PeerUnresponsive)
        service_end.transport.abort()


async def test_a_check_is_passed_by_any_sign_of_life():
    async with serving() as service, linked(service) as (link, receiver, service_end):
        pings = _pings(service_end)
        link.check(PATIENCE)
        await _take(pings, 1)
        await service_end.send(b"alive")
        await receiver.until(lambda: receiver.messages)
        # Passed: the next one is a check of its own.
        service_end.transport.pause_reading()
        link.check(0.02)
        assert isinstance(await receiver.until_lost(), PeerUnresponsive)
        service_end.transport.abort()


async def test_a_check_is_forgotten_when_we_stop_listening():
    liveness = Liveness(ping_interval=0.002, dead_peer_timeout=PATIENCE)
    async with (
        serving() as service,
        linked(service, liveness=liveness) as (link, receiver, service_end),
    ):
        link.check(0.01)
        link.pause()
        link.check(0.01)
        await _take(_pings(service_end), 30)
        assert receiver.lost == []


# Secrets.


async def test_no_log_at_any_level_shows_the_token_or_what_is_sent(caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("websockets", "websockets.client", "ssmtunneld", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    async with serving(logger=logging.getLogger("quiet")) as service:
        logging.getLogger("quiet").setLevel(logging.WARNING)
        link = await dial(service.url, {"Authorization": TOKEN}, liveness=CALM)
        receiver = Receiver()
        link.start(receiver)
        service_end = await service.connection()
        link.send_text(TOKEN)
        link.send([TOKEN.encode()])
        assert await service_end.recv() == TOKEN
        await service_end.send(TOKEN)
        await receiver.until(lambda: receiver.messages)
        await service_end.close(1000, "Bye")
        await receiver.until_lost()
    hidden = {TOKEN, TOKEN.encode().hex(), base64.b64encode(TOKEN.encode()).decode()}
    assert not [word for word in hidden if word in caplog.text]
    assert TOKEN not in repr(link)
    assert "websocket" not in {record.name for record in caplog.records}


async def test_a_refusal_shows_neither_headers_nor_the_path():
    def refuse(connection):
        return Response(
            HTTPStatus.FORBIDDEN, "Forbidden", connection.respond(403, "").headers
        )

    async with serving(refuse=refuse) as service:
        with pytest.raises(LinkRefused) as caught:
            await dial(service.url, {"Authorization": TOKEN}, liveness=CALM)
    assert TOKEN not in f"{caught.value} {caught.value!r}"
    assert "cell-number" not in f"{caught.value} {caught.value!r}"
