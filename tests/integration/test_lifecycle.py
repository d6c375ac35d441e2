"""From a configuration to bytes that arrive, and to an end that leaves nothing."""

import asyncio
import socket

import pytest

from ssmtunneld.daemon import tunnel as tunnel_module
from ssmtunneld.emulator.session import StartRequest
from tests.aws.stub import CELL, GRANT, Stub
from tests.integration.world import (
    TARGET,
    ask,
    configuration,
    connection,
    destination,
    echoes,
    emulator,
    has_ipv6,
    port_of,
    running,
    statuses,
    tunnel,
)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_one_tunnel_listens_on_every_kind_of_address(events, tmp_path):
    path = tmp_path / "sockets" / "db.sock"
    async with destination() as port, emulator() as service:
        listen = ["localhost:0", "[::1]:0", f"unix:{path}", "127.0.0.2:0"]
        text = configuration(
            service.endpoint_url, tunnel("db", listen=listen, port=port)
        )
        async with running(text) as daemon:
            four, six, other, _, second = daemon.tunnels[0].server.bound
            assert four.rpartition(":")[2] == six.rpartition(":")[2]
            for bound in (four, six, other, second):
                host, _, number = bound.rpartition(":")
                assert await echoes((host.strip("[]"), int(number)))
            assert await echoes(path)
            assert len(events.find("listener.bound", tunnel="db")) == 5
        assert not path.exists()
        assert set(statuses(service)) == {"Terminated"}


@pytest.mark.parametrize(
    ("version", "document"),
    [
        ("3.3.987.0", "AWS-StartSSHSession"),
        ("3.0.100.0", None),
        ("2.3.700.0", None),
    ],
)
async def test_an_agent_or_a_document_without_mux_carries_one_connection_per_session(
    events, version, document
):
    named = {"document": document} if document else {}
    async with destination() as port, emulator(agent_version=version) as service:
        text = configuration(
            service.endpoint_url, tunnel("ssh", port=port, max_sessions=3, **named)
        )
        async with running(text) as daemon:
            local = port_of(daemon, "ssh")
            async with (
                connection(local) as first,
                connection(local) as second,
            ):
                assert await ask(*first, b"one") == b"one"
                assert await ask(*second, b"two") == b"two"
                busy = [s for s in service.sessions if not s.over]
                assert len(busy) >= 2
            assert await echoes(local, b"three" * 5000)
            assert {e["mode"] for e in events.find("session.ready")} == {"basic"}
        assert set(statuses(service)) == {"Terminated"}


async def test_a_host_behind_the_target_is_reached_by_its_name():
    aliases = {"orders.internal": "127.0.0.1"}
    async with destination() as port, emulator(host_aliases=aliases) as service:
        text = configuration(
            service.endpoint_url, tunnel("orders", port=port, host="orders.internal")
        )
        async with running(text) as daemon:
            assert await echoes(port_of(daemon, "orders"))
        asked = [session.request for session in service.sessions]
        documents = {request.document for request in asked}
        assert documents == {"AWS-StartPortForwardingSessionToRemoteHost"}
        assert {request.properties["host"] for request in asked} == {"orders.internal"}


@pytest.mark.parametrize(
    "target",
    [
        "mi-0123456789abcdef0",
        "ecs:prod_0123456789abcdef0123456789abcdef_0123456789abcdef0123456789abcdef-42",
    ],
)
async def test_managed_nodes_and_tasks_are_targets_like_any_other(target):
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url, tunnel("x", target=target, port=port)
        )
        async with running(text) as daemon:
            assert await echoes(port_of(daemon, "x"))
        assert {s.request.target for s in service.sessions} == {target}


async def test_a_document_of_ones_own_gets_its_parameters():
    content = {
        "sessionType": "Port",
        "parameters": {"where": {"type": "String", "allowedPattern": "^[0-9]+$"}},
        "properties": {"type": "LocalPortForwarding", "portNumber": "{{ where }}"},
    }
    async with destination() as port, emulator(documents={"Ours": content}) as service:
        text = configuration(
            service.endpoint_url,
            tunnel("x", document="Ours"),
            f'parameters = {{ where = "{port}" }}',
        )
        async with running(text) as daemon:
            assert await echoes(port_of(daemon, "x"))


async def test_a_document_that_fixes_the_destination_is_told_none():
    async with destination() as port:
        content = {  # as docs/iam.md recommends it
            "schemaVersion": "1.0",
            "sessionType": "Port",
            "properties": {
                "type": "LocalPortForwarding",
                "host": "orders.example",
                "portNumber": str(port),
                "localPortNumber": "0",
            },
        }
        alias = {"orders.example": "127.0.0.1"}
        async with emulator(documents={"Acme": content}, host_aliases=alias) as service:
            orders = tunnel("x", document="Acme", host="orders.example", port=port)
            text = configuration(service.endpoint_url, orders)
            async with running(text) as daemon:
                assert await echoes(port_of(daemon, "x"))
                (status,) = daemon.status()["tunnels"]
                assert status["destination"] == f"orders.example:{port}"


async def test_a_service_that_checks_signatures_finds_ours_right(events):
    async with destination() as port, emulator(require_signature=True) as service:
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        async with running(text) as daemon:
            assert await echoes(port_of(daemon, "x"))
    assert events.find("emulator.signature_refused") == []
    assert events.find("link.signature_refused") == []


async def test_a_service_that_refuses_the_signature_is_asked_once_without(events):
    async with destination() as port, emulator(faults=("upgrade-error=403*1",)) as aws:
        text = configuration(aws.endpoint_url, tunnel("x", port=port))
        async with running(text) as daemon:
            assert await echoes(port_of(daemon, "x"))
    (line,) = events.find("link.signature_refused")
    assert "ssmmessages:OpenDataChannel" in line["advice"]
    assert events.find("link.lost") == []


async def test_a_token_is_not_sent_to_a_host_that_is_not_the_services(events):
    stub = Stub()
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        url = f"wss://localhost.example:{trap.getsockname()[1]}/v1/data-channel/x"
        stub.answer("StartSession", {**GRANT, "StreamUrl": url + "?role=x" + CELL})
        stub.answer("TerminateSession", {})
        try:
            text = configuration(stub.url, tunnel("x", port=22, max_sessions=1))
            async with running(text, ready=False):
                line = await events.wait_for("session.ended")
        finally:
            stub.close()
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert "is not a data channel of this region's SSM" in line["reason"]
    assert "set ssmmessages_endpoint" in line["advice"]
    # What nobody can use is not left open.
    assert stub.calls("TerminateSession") == [{"SessionId": GRANT["SessionId"]}]


async def test_a_lost_websocket_is_resumed_and_the_connection_goes_on(events):
    async with destination() as port, emulator() as service:
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        async with (
            running(text) as daemon,
            connection(port_of(daemon, "x")) as line,
        ):
            assert await ask(*line, b"before") == b"before"
            service.cut_websockets()
            await events.wait_for("session.resumed")
            assert await ask(*line, b"after") == b"after"
        assert set(statuses(service)) == {"Terminated"}


async def test_a_port_that_becomes_free_is_taken_by_itself(events, monkeypatch):
    monkeypatch.setattr(tunnel_module, "REBIND_INTERVAL", 0.05)
    async with destination() as port, emulator() as service:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            taken = holder.getsockname()[1]
            text = configuration(
                service.endpoint_url,
                tunnel("late", listen=taken, port=port),
                tunnel("good", port=port),
            )
            async with running(text, ready=False) as daemon:
                await events.wait_for("listener.failed", tunnel="late", count=2)
                assert await echoes(port_of(daemon, "good"))
                assert len({s.request.reason for s in service.sessions}) == 1
                holder.close()
                await events.wait_for("listener.bound", tunnel="late")
                await asyncio.wait_for(daemon.ready.wait(), 30)
                assert await echoes(taken)
        assert set(statuses(service)) == {"Terminated"}


async def test_a_connection_to_a_troubled_tunnel_is_reset_and_says_why(events):
    async with emulator(faults=(f"offline={TARGET}",)) as service:
        text = configuration(
            service.endpoint_url, tunnel("dead", port=1, connect_timeout="500ms")
        )
        async with running(text, ready=False) as daemon:
            await events.wait_for("session.ended")
            async with connection(port_of(daemon, "dead")) as (reader, _):
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            line = await events.wait_for(
                "connection.refused", destination="localhost:1"
            )
    assert line["reason"].startswith("no session within 0.5 s: StartSession failed")
    assert line["advice"].startswith(f"check that {TARGET} is right")


async def test_connections_finish_while_the_daemon_drains(events):
    async with destination() as port, emulator() as service:
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        async with running(text) as daemon:
            local = port_of(daemon, "x")
            async with connection(local) as line:
                assert await ask(*line, b"a transfer") == b"a transfer"
                daemon.stop()
                await events.wait_for("daemon.draining")
                with pytest.raises(ConnectionRefusedError):
                    await echoes(local)
                assert await ask(*line, b"goes on" * 9999) == b"goes on" * 9999
                assert not events.find("daemon.stopped")
            await events.wait_for("daemon.stopped")
        assert events.find("connections.cut") == []
        assert set(statuses(service)) == {"Terminated"}


async def test_connections_that_outlast_the_drain_are_reset_and_counted(events):
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url, tunnel("x", port=port), drain_timeout="100ms"
        )
        async with (
            running(text) as daemon,
            connection(port_of(daemon, "x")) as (reader, writer),
        ):
            assert await ask(reader, writer, b"hello") == b"hello"
            daemon.stop()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert (await events.wait_for("connections.cut"))["count"] == 1
        assert set(statuses(service)) == {"Terminated"}


async def test_asked_twice_the_daemon_does_not_wait_for_anybody(events):
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url, tunnel("x", port=port), drain_timeout="300s"
        )
        async with (
            running(text) as daemon,
            connection(port_of(daemon, "x")) as (reader, writer),
        ):
            assert await ask(reader, writer, b"hello") == b"hello"
            daemon.stop()
            # Who pressed Ctrl-C is told what is waited for, and how to end it.
            draining = await events.wait_for("daemon.draining")
            assert (draining["connections"], draining["budget"]) == (1, 300)
            assert "second signal" in draining["advice"]
            daemon.stop()
            await events.wait_for("daemon.stopped")
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert [line["count"] for line in events.find("connections.cut")] == [1]
        assert set(statuses(service)) == {"Terminated"}


async def test_sessions_that_a_killed_daemon_left_behind_are_ended(events):
    async with destination() as port, emulator() as service:
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        forgotten = service.sessions.start(_request(port, "[b00c/x]"))
        foreign = service.sessions.start(_request(port, "[aaaa/x]"))
        async with running(text, instance="b00c"):
            await events.wait_for("session.orphaned", session_id=forgotten.id)
            assert (foreign.over, len(events.find("session.orphaned"))) == (False, 1)
        assert forgotten.over
        assert not foreign.over


def _request(port, reason):
    properties = {"type": "LocalPortForwarding", "portNumber": str(port)}
    document = "AWS-StartPortForwardingSession"
    return StartRequest(TARGET, document, properties, reason)
