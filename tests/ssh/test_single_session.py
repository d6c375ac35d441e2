"""One session for one connection, against the emulator: nothing of it is left."""

import asyncio
import re
import socket
from contextlib import contextmanager

import pytest

from ssmtunneld.base.log import get_log
from ssmtunneld.daemon.session_context import SessionContext
from ssmtunneld.emulator.settings import EmulatorSettings, Node
from ssmtunneld.errors import NoSessionReady, TunnelError
from ssmtunneld.listener.relay import ConnectionOutcome
from ssmtunneld.sessions.node_access import AccessTargetSelector
from ssmtunneld.ssh.settings import settings_for
from ssmtunneld.ssh.single_session import SingleSession, carry_alone
from ssmtunneld.ssh.stdio import Stdio
from ssmtunneld.testing import EmulatorThread
from tests.support.turns import look_again

TARGET = "i-0123456789abcdef0"
PATIENCE = 30
DOCUMENTS = ("AWS-StartSSHSession", "AWS-StartPortForwardingSession")


@pytest.fixture
def emulator(monkeypatch):
    with EmulatorThread() as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator
        # Whatever a test did: the service holds nothing of it afterwards.
        assert {s["status"] for s in emulator.state()["sessions"]} <= {
            "Terminated",
            "Failed",
        }


@contextmanager
def destination():
    """A listener, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        yield server, server.getsockname()[1]


def tunnel_to(port, document=None, target=TARGET):
    return settings_for(target, port, {"document": document}, None, {})


async def accept(server):
    far, _ = await asyncio.to_thread(server.accept)
    far.settimeout(PATIENCE)
    return far


class Client:
    """Both ends of a ProxyCommand's standard streams."""

    def __init__(self):
        self.ours, self._theirs = socket.socketpair()
        self.ours.settimeout(PATIENCE)
        self.stdio = Stdio(self._theirs.fileno(), self._theirs.fileno())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ours.close()
        self._theirs.close()


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_an_answer_comes_back_and_the_session_ends(document, emulator):
    with destination() as (server, port), Client() as client:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            carrying = tasks.create_task(
                carry_alone(tunnel_to(port, document), PATIENCE, client.stdio)
            )
            client.ours.sendall(b"request")
            with await accept(server) as far:
                assert await asyncio.to_thread(far.recv, 100) == b"request"
                far.sendall(b"answer")
            transfer = await carrying
        assert client.ours.recv(100) == b"answer"
        assert transfer.ending is ConnectionOutcome.COMPLETED


async def test_what_was_sent_before_the_client_left_arrives(emulator):
    data = bytes(range(256)) * 400
    with destination() as (server, port), Client() as client:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            carrying = tasks.create_task(
                carry_alone(tunnel_to(port), PATIENCE, client.stdio)
            )
            with await accept(server) as far:
                await asyncio.to_thread(client.ours.sendall, data)
                client.ours.shutdown(socket.SHUT_WR)
                client.ours.close()
                got = b""
                while piece := await asyncio.to_thread(far.recv, 1 << 20):
                    got += piece
            transfer = await carrying
    assert got == data
    assert transfer.ending is ConnectionOutcome.LOCAL_CLOSED


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_a_refused_port_ends_it_with_the_reason(document, emulator):
    with destination() as (_, port):
        pass
    with Client() as client:
        async with asyncio.timeout(PATIENCE):
            transfer = await carry_alone(
                tunnel_to(port, document), PATIENCE, client.stdio
            )
    assert transfer.ending in {
        ConnectionOutcome.REFUSED,
        ConnectionOutcome.REMOTE_RESET,
    }
    assert "connect" in str(transfer.cause)


async def test_a_refusal_of_the_service_is_raised(emulator):
    with Client() as client, pytest.raises(TunnelError, match="Acme-None not found"):
        await carry_alone(tunnel_to(22, "Acme-None"), PATIENCE, client.stdio)


async def test_a_session_that_does_not_get_ready_in_time_is_ended(emulator):
    emulator.set_faults("handshake-stall")
    with Client() as client, pytest.raises(NoSessionReady, match=r"within 0\.5 s"):
        await carry_alone(tunnel_to(22), 0.5, client.stdio)


@pytest.mark.parametrize("target", [TARGET, "name:web"])
async def test_that_an_offline_target_is_awaited_is_told(emulator, target):
    nodes = {TARGET: Node(name="web")}
    told: asyncio.Queue[str] = asyncio.Queue()
    with EmulatorThread(EmulatorSettings(nodes=nodes)) as service, Client() as client:
        service.add_faults(f"offline={TARGET}")
        endpoint = {"endpoint_url": service.endpoint_url}
        tunnel = tunnel_to(22, target=target).model_copy(update=endpoint)
        context = SessionContext(start_rate=1.0, start_burst=1, named=False)
        solo = SingleSession(tunnel, context, get_log(), tell=told.put_nowait)
        try:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
                carrying = tasks.create_task(solo.carry(client.stdio, PATIENCE))
                line = await told.get()
                carrying.cancel()
                await asyncio.wait([carrying])
        finally:
            await context.controls.close()
    assert re.search(rf"{TARGET} .*; trying again for \d+ s", line)
    assert told.empty()


async def test_a_client_that_leaves_before_the_session_is_ready_ends_it(emulator):
    emulator.set_faults("handshake-stall")
    with Client() as client:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            carrying = tasks.create_task(
                carry_alone(tunnel_to(22), PATIENCE, client.stdio)
            )
            while not emulator.state()["sessions"]:
                await look_again()
            client.stdio.leave()
            assert await carrying is None


async def test_a_cancelled_one_leaves_nothing(emulator):
    with destination() as (server, port), Client() as client:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            carrying = tasks.create_task(
                carry_alone(tunnel_to(port), PATIENCE, client.stdio)
            )
            with await accept(server):
                carrying.cancel()
                await asyncio.wait([carrying])


async def test_its_session_goes_to_the_node_that_was_approved(emulator):
    tunnel = tunnel_to(22, target="name:web").model_copy(update={"access": "request"})
    context = SessionContext(start_rate=1.0, start_burst=1, named=False)
    try:
        solo = SingleSession(tunnel, context, get_log())
        assert isinstance(solo._session._selector, AccessTargetSelector)
        assert solo._session._selector._access is context.access(tunnel).node
    finally:
        await context.controls.close()


async def test_a_search_that_finds_nothing_says_so(emulator):
    with Client() as client, pytest.raises(TunnelError):
        await carry_alone(tunnel_to(22, target="ecs:none/none"), 5, client.stdio)
