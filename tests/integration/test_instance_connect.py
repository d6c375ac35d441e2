"""A tunnel with ``instance_connect``: whoever connects finds the instance prepared."""

import asyncio

import pytest

from tests.aws.stub import Stub, error
from tests.integration import world
from tests.integration.world import TARGET, connection, destination, emulator, tunnel

ENDPOINT = "AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT"
OPERATION = "SendSSHPublicKey"
KEY = "ssh-ed25519 " + "A" * 68


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
def stub(monkeypatch):
    stub = Stub()
    monkeypatch.setenv(ENDPOINT, stub.url)
    yield stub
    stub.close()


def bastion(tmp_path, port, **settings):
    key = tmp_path / "key.pub"
    key.write_text(f"{KEY} me\n")
    entry = {
        "instance_connect": True,
        "instance_connect_user": "ubuntu",
        "instance_connect_key": str(key),
    }
    return tunnel("bastion", port=port, **{**entry, **settings})


async def talk(daemon, words):
    async with connection(world.port_of(daemon, "bastion")) as (reader, writer):
        writer.write(words)
        assert await reader.readexactly(len(words)) == words


async def test_the_key_is_there_before_the_first_byte(monkeypatch, tmp_path):
    async with world.logging() as events, emulator() as service, destination() as port:
        monkeypatch.setenv(ENDPOINT, service.endpoint_url)
        text = world.configuration(service.endpoint_url, bastion(tmp_path, port))
        async with asyncio.timeout(world.PATIENCE), world.running(text) as daemon:
            assert not events.find("key.pushed")
            await talk(daemon, b"hello")
            (line,) = events.find("key.pushed", tunnel="bastion")
            assert (line["target"], line["user"]) == (TARGET, "ubuntu")
            await talk(daemon, b"again")
        assert len(events.find("key.pushed")) == 1
        assert not [line for line in events.lines if "A" * 68 in str(line)]


async def test_a_refused_key_is_told_and_the_connection_goes_on(stub, tmp_path):
    stub.answer(OPERATION, error("AccessDeniedException", "no"))
    async with world.logging() as events, emulator() as service, destination() as port:
        text = world.configuration(service.endpoint_url, bastion(tmp_path, port))
        async with asyncio.timeout(world.PATIENCE), world.running(text) as daemon:
            await talk(daemon, b"hello")
    (line,) = events.find("key.push_failed", tunnel="bastion", level="warning")
    assert "ec2-instance-connect:SendSSHPublicKey" in line["advice"]


async def test_a_client_that_leaves_meanwhile_leaves_no_stream(stub, tmp_path):
    stub.answer(OPERATION, {"RequestId": "1", "Success": True})
    stub.held.add(OPERATION)
    async with world.logging() as events, emulator() as service, destination() as port:
        text = world.configuration(service.endpoint_url, bastion(tmp_path, port))
        async with asyncio.timeout(world.PATIENCE), world.running(text) as daemon:
            async with connection(world.port_of(daemon, "bastion")):
                await asyncio.to_thread(stub.arrived.acquire)
            await events.wait_for("connection.ended")
            (only,) = daemon.tunnels
            assert not any(m.view.streams for m in only.pool.snapshot().members)
            stub.release.set()


async def test_without_it_nothing_is_pushed(stub, tmp_path):
    async with world.logging(), emulator() as service, destination() as port:
        text = world.configuration(service.endpoint_url, tunnel("bastion", port=port))
        async with asyncio.timeout(world.PATIENCE), world.running(text) as daemon:
            await talk(daemon, b"hello")
    assert stub.asked == []
