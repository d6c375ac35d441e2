"""Tunnels that come, change and go while others run."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.config import parse_config
from ssmtunneld.config.reload import Changes
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.tunnels import Tunnels
from ssmtunneld.errors import InheritedSocketRefused, TunnelDisabled, UnknownTunnel
from ssmtunneld.observe.status import TunnelState
from tests.integration import world
from tests.integration.world import (
    ask,
    configuration,
    connection,
    destination,
    echoes,
    emulator,
    statuses,
    tunnel,
)

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _aws(monkeypatch, tmp_path):
    world.use_loopback_aws(monkeypatch, tmp_path)


@pytest.fixture
async def events():
    async with world.logging() as caught:
        yield caught


def tunnels(service, *tables):
    text = configuration(service.endpoint_url, *tables)
    return parse_config(text, "test.toml", {}).tunnels


@asynccontextmanager
async def sailing(found, inherited=None):
    """Run the tunnels that are ``found``; yield them."""
    context = DaemonContext(start_rate=100, start_burst=100, instance="0123456789ab")
    running = Tunnels(found, context, inherited or {})
    try:
        assert await running.bind()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(running.run(), name="tunnels")
            yield running
            await running.end(5.0)
            task.cancel()
    finally:
        running.close()
        await context.controls.close()


def port_of(running, name):
    return int(running.get(name).server.bound[0].rpartition(":")[2])


async def test_a_tunnel_is_found_by_its_name_and_a_wrong_one_told(events):
    async with emulator() as service:
        found = tunnels(service, tunnel("orders", port=1), tunnel("b", port=1))
        async with sailing(found) as running:
            assert [m.settings.name for m in running] == ["orders", "b"]
            assert len(running) == 2
            assert running.get("b").settings == found[1]
            with pytest.raises(UnknownTunnel) as caught:
                running.get("order")
            assert "orders" in caught.value.advice


async def test_who_is_waited_for_may_go_and_others_may_come(events):
    async with emulator(faults=("offline=i-01234567",)) as service:
        dead = tunnel("dead", target="i-01234567", port=1)
        good = tunnel("good", port=1)
        async with sailing(tunnels(service, dead)) as running:
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(running.wait_ready(), name="wait")
                await events.wait_for("session.ended")
                assert not waiting.done()
                changes = await running.apply(tunnels(service, good), 5.0)
                assert changes == Changes(added=("good",), removed=("dead",))
            assert running.get("good").pool.ready
        removed = events.find("tunnel.removed")
        assert [line["tunnel"] for line in removed] == ["dead"]


async def test_connections_of_a_removed_tunnel_are_reset_at_the_end_of_its_budget(
    events,
):
    async with destination() as port, emulator() as service:
        gone, kept = tunnel("gone", port=port), tunnel("kept", port=port)
        async with sailing(tunnels(service, gone, kept)) as running:
            leaving, staying = running
            async with (
                connection(port_of(running, "gone")) as (reader, writer),
                connection(port_of(running, "kept")) as other,
            ):
                assert await ask(reader, writer, b"hello") == b"hello"
                assert await ask(*other, b"hello") == b"hello"
                await running.apply([staying.settings], 0.05)
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                line = await events.wait_for("tunnel.removed")
                assert (line["tunnel"], line["cut"]) == ("gone", 1)
                assert await ask(*other, b"still there") == b"still there"
            # The same name again is another tunnel.
            await running.apply([leaving.settings, staying.settings], 5.0)
            assert running.get("gone") is not leaving
            assert running.get("kept") is staying
            assert await echoes(port_of(running, "gone"))
        assert set(statuses(service)) == {"Terminated"}


async def test_the_end_includes_those_that_are_leaving(events):
    async with destination() as port, emulator() as service:
        gone, kept = tunnel("gone", port=port), tunnel("kept", port=port)
        async with sailing(tunnels(service, gone, kept)) as running:
            _, staying = running
            async with connection(port_of(running, "gone")) as (reader, writer):
                assert await ask(reader, writer, b"hello") == b"hello"
                await running.apply([staying.settings], 3600.0)
                assert await running.end(0.05) == 1
                with pytest.raises(ConnectionResetError):
                    await reader.read()
        assert set(statuses(service)) == {"Terminated"}


async def test_a_tunnel_that_comes_back_finds_its_inherited_socket(events):
    inherited = socket.create_server(("127.0.0.1", 0))
    address = inherited.getsockname()
    async with destination() as port, emulator() as service:
        one, two = tunnel("one", port=port), tunnel("two", port=port)
        both = tunnels(service, one, two)
        sockets = {"one": [inherited], "nobody": []}
        async with sailing(both, sockets) as running:
            assert await echoes(address)
            await running.apply(both[1:], 5.0)
            await events.wait_for("tunnel.removed")
            async with connection(address) as line:
                line[1].write(b"early")
                await running.apply(both, 5.0)
                assert await line[0].readexactly(5) == b"early"
    assert inherited.fileno() == -1
    (unused,) = events.find("socket.unused")
    assert unused["name"] == "nobody"


EVERYBODY = {"listen": "0.0.0.0:0", "allow": ["127.0.0.0/8"]}


async def test_an_inherited_socket_is_judged_anew_by_each_configuration(events):
    inherited = socket.create_server(("0.0.0.0", 0))
    address = "127.0.0.1", inherited.getsockname()[1]
    async with destination() as port, emulator() as service:
        [wide] = tunnels(service, tunnel("one", port=port, **EVERYBODY))
        [local] = tunnels(service, tunnel("one", port=port))
        async with sailing([wide], {"one": [inherited]}) as running:
            [shown] = running
            assert await echoes(address)
            await running.apply([local], 5.0)
            assert isinstance(shown.unbound, InheritedSocketRefused)
            assert shown.server.bound == ()
            line = events.find("listener.failed")[-1]
            assert f"ListenStream={address[0]}:{address[1]};" in line["advice"]
            # Nobody is served, and to pause it changes nothing about that.
            shown.pause()
            assert shown.server.bound == ()
            await shown.resume()
            assert shown.server.bound == ()
            await running.apply([wide], 5.0)
            assert shown.unbound is None
            assert await echoes(address)


async def test_a_refused_socket_of_one_tunnel_is_nobody_elses_trouble(events):
    inherited = socket.create_server(("0.0.0.0", 0))
    async with destination() as port, emulator() as service:
        found = tunnels(service, tunnel("wide", port=port), tunnel("good", port=port))
        async with sailing(found, {"wide": [inherited]}) as running:
            wide, good = running
            assert wide.status(0.0).state is TunnelState.UNBOUND
            assert wide.server.bound == ()
            assert await echoes(("127.0.0.1", port_of(running, "good")))
            assert good.unbound is None


async def test_a_disabled_tunnel_is_listed_and_nothing_of_it_runs(events):
    async with emulator() as service:
        found = tunnels(
            service,
            tunnel("off", port=1, enabled=False, groups=["a"]),
            tunnel("on", port=1),
        )
        async with sailing(found) as running:
            assert [m.settings.name for m in running] == ["on"]
            assert [running.status_of(e, 0.0).name for e in running.entries] == [
                "off",
                "on",
            ]
            status = running.status_of(running.entries[0], 0.0)
            assert (status.state, status.usable, status.required) == (
                TunnelState.DISABLED,
                False,
                False,
            )
            assert (status.listen, status.groups) == ((), ("a",))
            running.check("off")
            with pytest.raises(TunnelDisabled, match="off is disabled"):
                running.get("off")
            with pytest.raises(UnknownTunnel) as caught:
                running.check("of")
            assert "off" in caught.value.advice
            async with asyncio.timeout(PATIENCE):
                await running.wait_ready()
            assert running.accepting
            assert [*running.readings()] == ["on"]
    bound = events.find("listener.bound")
    assert [line["tunnel"] for line in bound] == ["on"]


async def test_a_reload_ends_what_it_disables_and_starts_what_it_enables(events):
    async with destination() as port, emulator() as service:
        on = tunnels(service, tunnel("a", port=port), tunnel("b", port=port))
        off = [on[0].model_copy(update={"enabled": False}), on[1]]
        async with sailing(on) as running:
            local = port_of(running, "a")
            staying = running.get("b")
            async with connection(local) as (reader, writer):
                assert await ask(reader, writer, b"hello") == b"hello"
                changes = await running.apply(off, 60.0)
                assert changes == Changes(changed=("a",), unchanged=1)
                with pytest.raises(ConnectionRefusedError):
                    await echoes(local)
                # What was open finishes, as that of a tunnel that is gone.
                assert await ask(reader, writer, b"still") == b"still"
            await events.wait_for("tunnel.removed", tunnel="a")
            assert running.get("b") is staying
            changes = await running.apply(on, 5.0)
            assert changes == Changes(changed=("a",), unchanged=1)
            assert await echoes(port_of(running, "a"))
            # Settings of what is off may change without any effect.
            await running.apply(off, 5.0)
            other = [off[0].model_copy(update={"warm": 3}), on[1]]
            assert (await running.apply(other, 5.0)).changed == ("a",)
            assert running.get("b") is staying
            assert await echoes(port_of(running, "b"))
        assert set(statuses(service)) == {"Terminated"}


async def test_a_socket_of_a_disabled_tunnel_is_kept_for_it(events):
    inherited = socket.create_server(("127.0.0.1", 0))
    address = inherited.getsockname()
    async with destination() as port, emulator() as service:
        both = tunnels(
            service,
            tunnel("one", port=port, enabled=False),
            tunnel("two", port=port),
        )
        async with sailing(both, {"one": [inherited]}) as running:
            (line,) = events.find("socket.unused")
            assert (line["name"], line["reason"]) == ("one", "disabled tunnel")
            enabled = both[0].model_copy(update={"enabled": True})
            await running.apply([enabled, both[1]], 5.0)
            assert await echoes(address)
