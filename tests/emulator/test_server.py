"""The emulator as one object: addresses, TLS, start and stop."""

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ssmtunneld.emulator.server import Emulator
from ssmtunneld.emulator.settings import EmulatorSettings
from ssmtunneld.errors import AddressInUse, ConfigError
from tests.emulator.reference import connected, destination, echo, start


@pytest.fixture
def certificate(tmp_path):
    """Paths of a certificate for 127.0.0.1 and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "emulator")])
    now = dt.datetime.now(tz=dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return tmp_path / "cert.pem", tmp_path / "key.pem"


async def test_everything_is_on_one_port():
    async with Emulator() as emulator:
        assert emulator.endpoint_url.startswith("http://127.0.0.1:")
        grant = await start(emulator.endpoint_url, 80)
        assert grant["StreamUrl"].startswith(
            emulator.endpoint_url.replace("http", "ws")
        )


async def test_tls_covers_api_and_websocket(emulate, certificate):
    cert, key = certificate
    emulator = await emulate(tls_certificate=cert, tls_key=key)
    assert emulator.endpoint_url.startswith("https://")
    trust = ssl.create_default_context(cafile=cert)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as http,
        http.get(f"{emulator.endpoint_url}/_emulator/state") as response,
    ):
        assert response.status == 200
    assert emulator._stream_url().startswith("wss://127.0.0.1:")


async def test_sessions_may_have_the_public_name_of_the_data_channel(emulate):
    name = "wss://ssmmessages.eu-west-1.amazonaws.com"
    emulator = await emulate(stream_endpoint=name)
    grant = await start(emulator.endpoint_url, 80)
    begin = f"{name}/v1/data-channel/{grant['SessionId']}?role=publish_subscribe&"
    assert grant["StreamUrl"].startswith(begin)


async def test_a_taken_port_is_named():
    async with Emulator() as emulator:
        port = int(emulator.endpoint_url.rpartition(":")[2])
        with pytest.raises(AddressInUse, match=str(port)):
            async with Emulator(EmulatorSettings(port=port)):
                pass


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "example.com"])
def test_an_address_that_others_can_reach_must_be_allowed(host):
    with pytest.raises(ConfigError, match="is not loopback"):
        Emulator(EmulatorSettings(host=host))


async def test_every_address_can_be_allowed():
    async with Emulator(
        EmulatorSettings(host="0.0.0.0", allow_remote=True)
    ) as emulator:
        assert emulator.endpoint_url.startswith("http://0.0.0.0:")


@pytest.mark.parametrize("host", ["localhost", "::1"])
async def test_other_loopback_addresses_will_do(host):
    async with Emulator(EmulatorSettings(host=host)) as emulator:
        assert host in emulator.endpoint_url


async def test_stopping_ends_sessions_streams_and_black_holes():
    ended = asyncio.Event()

    async def serve(reader, _writer):
        await reader.read()
        ended.set()

    async with destination(serve) as port:
        async with (
            Emulator() as emulator,
            connected(emulator.endpoint_url, port) as client,
        ):
            await client.open(3)
            await client.until(lambda: not client.unacknowledged)
            emulator.admin.change(["blackhole"], replace=False)
        await ended.wait()


async def test_the_emulator_survives_a_client_that_vanishes(emulate):
    emulator = await emulate()
    async with destination(echo) as port:
        async with connected(emulator.endpoint_url, port) as client:
            await client.open(3, b"x")
            client._link.transport.abort()
            await client.until_lost()
        async with connected(emulator.endpoint_url, port) as client:
            await client.open(3, b"x")
            await client.until(lambda: client.streams[3] == b"x")


async def test_the_kernel_takes_little_ahead():
    """Megabytes at once would be a burst that holds up all other sessions."""
    async with Emulator() as emulator:
        (sock,) = emulator._server.sockets
        ahead = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert 0 < ahead <= 32 << 10
