"""An operator's commands on one tunnel: pause, drain, resume, reload."""

import asyncio
import socket

import pytest

from ssmtunneld.daemon import tunnel as tunnel_module
from ssmtunneld.errors import ConfigError, SsmtunneldError, UnknownTunnel
from ssmtunneld.observe.status import TunnelState
from ssmtunneld.serve.systemd import Notifier, ServiceManager
from tests.integration.world import (
    TARGET,
    ask,
    configuration,
    connection,
    destination,
    echoes,
    emulator,
    port_of,
    running,
    statuses,
    tunnel,
)

PATIENCE = 60.0


async def until(fact):
    """Return once ``fact()`` holds; the loop has many turns before."""
    async with asyncio.timeout(PATIENCE):
        while not fact():
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)


def state_of(daemon, name="x"):
    (found,) = [m for m in daemon.snapshot().tunnels if m.name == name]
    return found


async def test_whoever_looks_can_tell_that_somebody_has_asked_for_a_change(events):
    async with emulator() as service:
        text = configuration(service.endpoint_url, tunnel("x", port=1))
        async with running(text) as daemon:
            seen = [daemon.revision]
            for change in (daemon.pause, daemon.resume, daemon.drain):
                await change("x")
                seen.append(daemon.revision)
            daemon.stop()
            seen.append(daemon.revision)
    assert sorted(set(seen)) == seen


async def test_a_paused_tunnel_refuses_and_its_connections_go_on(events):
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url, tunnel("x", port=port), tunnel("y", port=port)
        )
        async with running(text) as daemon:
            local = port_of(daemon, "x")
            async with connection(local) as line:
                assert await ask(*line, b"before") == b"before"
                await daemon.pause("x")
                await daemon.pause("x")
                with pytest.raises(ConnectionRefusedError):
                    await echoes(local)
                assert await ask(*line, b"after") == b"after"
                paused = state_of(daemon)
                assert paused.state is TunnelState.PAUSED
                assert "ssmtunneld resume x" in paused.advice
                assert not daemon.snapshot().ready
                assert paused.sessions
            # With its last connection the tunnel gives up its sessions.
            await until(lambda: not state_of(daemon).sessions)
            assert state_of(daemon, "y").state is TunnelState.READY
            await daemon.resume("x")
            await daemon.resume("x")
            assert await echoes(port_of(daemon, "x"))
            assert state_of(daemon).state is TunnelState.READY
            assert daemon.snapshot().ready
        assert len(events.find("tunnel.paused", tunnel="x")) == 1
        assert len(events.find("tunnel.resumed", tunnel="x")) == 1
        assert set(statuses(service)) == {"Terminated"}


async def test_a_drained_tunnel_has_neither_connections_nor_sessions(events):
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url, tunnel("x", port=port), drain_timeout="100ms"
        )
        async with running(text) as daemon:
            async with connection(port_of(daemon, "x")) as (reader, writer):
                assert await ask(reader, writer, b"hello") == b"hello"
                assert await daemon.drain("x") == {"cut": 1}
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            assert set(statuses(service)) == {"Terminated"}
            assert await daemon.drain("x") == {"cut": 0}
            assert state_of(daemon).state is TunnelState.PAUSED
            await daemon.resume("x")
            assert await echoes(port_of(daemon, "x"))


async def test_resuming_ends_a_drain_and_cuts_nobody(events):
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url, tunnel("x", port=port), drain_timeout="300s"
        )
        async with running(text) as daemon:
            async with connection(port_of(daemon, "x")) as line:
                assert await ask(*line, b"hello") == b"hello"
                async with asyncio.TaskGroup() as tasks:
                    draining = tasks.create_task(daemon.drain("x"), name="drain")
                    await events.wait_for("tunnel.paused")
                    await daemon.resume("x")
                assert draining.result() == {"cut": 0}
                assert await ask(*line, b"still there") == b"still there"
            daemon.stop()


async def test_a_pause_outlives_a_reload_but_not_its_tunnel(events, tmp_path):
    path = tmp_path / "config.toml"
    async with destination() as port, emulator() as service:
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        other = configuration(service.endpoint_url, tunnel("y", port=port))
        async with running(text, source=path) as daemon:
            await daemon.pause("x")
            await until(lambda: not state_of(daemon).sessions)
            path.write_text(text.replace(str(port), "1") + "linger = 7")
            report = await daemon.reload()
            assert report["changed"] == ["x"]
            assert state_of(daemon).state is TunnelState.PAUSED
            assert state_of(daemon).listen == ()
            path.write_text(text + tunnel("y", port=port))
            assert (await daemon.reload())["added"] == ["y"]
            assert state_of(daemon).state is TunnelState.PAUSED
            assert await echoes(port_of(daemon, "y"))
            path.write_text(other)
            assert (await daemon.reload())["removed"] == ["x"]
            path.write_text(text)
            assert (await daemon.reload())["added"] == ["x"]
            await events.wait_for("session.ready", tunnel="x", count=2)
            assert await echoes(port_of(daemon, "x"))
        assert set(statuses(service)) == {"Terminated"}


async def test_who_connects_to_the_service_managers_socket_waits_for_the_resume(events):
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = held.getsockname()
        manager = ServiceManager(Notifier(None), None, {"x": [held.dup()]})
        async with destination() as port, emulator() as service:
            text = configuration(service.endpoint_url, tunnel("x", port=port))
            async with running(text, manager=manager) as daemon:
                assert await echoes(address)
                await daemon.pause("x")
                async with connection(address) as line:
                    line[1].write(b"early")
                    await until(lambda: not state_of(daemon).sessions)
                    assert state_of(daemon).connections == 0
                    await daemon.resume("x")
                    assert await ask(*line, b" bird") == b"early"
                    assert await line[0].readexactly(5) == b" bird"


async def test_a_name_that_nobody_has_is_told_with_those_that_are_near(events):
    async with emulator() as service:
        text = configuration(service.endpoint_url, tunnel("orders-db", port=1))
        async with running(text) as daemon:
            for request in (daemon.pause, daemon.resume, daemon.drain):
                with pytest.raises(UnknownTunnel, match="'order-db'") as caught:
                    await request("order-db")
                assert caught.value.advice == "did you mean orders-db?"


async def test_a_daemon_that_ends_takes_no_orders(events, tmp_path):
    path = tmp_path / "config.toml"
    async with destination() as port, emulator() as service:
        text = configuration(
            service.endpoint_url, tunnel("x", port=port), drain_timeout="300s"
        )
        path.write_text(text)
        async with (
            running(text, source=path) as daemon,
            connection(port_of(daemon, "x")) as line,
        ):
            assert await ask(*line, b"hello") == b"hello"
            daemon.stop()
            await events.wait_for("daemon.draining")
            for order in (
                daemon.reload,
                lambda: daemon.pause("x"),
                lambda: daemon.resume("x"),
                lambda: daemon.drain("x"),
            ):
                with pytest.raises(SsmtunneldError, match="the daemon is ending"):
                    await order()
            assert await ask(*line, b"goes on") == b"goes on"


async def test_a_file_that_cannot_be_used_changes_nothing(events, tmp_path):
    path = tmp_path / "config.toml"
    async with destination() as port, emulator() as service:
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        async with running(text, source=path) as daemon:
            with pytest.raises(ConfigError, match="cannot be read"):
                await daemon.reload()
            path.write_text("[tunnels.x]\nlisten = 1\n[tunnels.y]\n")
            with pytest.raises(ConfigError) as caught:
                await daemon.reload()
            assert len(caught.value.problems) > 1
            line = await events.wait_for("reload.refused", count=2)
            assert all(problem in line["reason"] for problem in caught.value.problems)
            assert daemon.status()["config_error"] == caught.value.problems[0]
            assert await echoes(port_of(daemon, "x"))
            path.write_text(text)
            assert await daemon.reload() == {
                "added": [],
                "removed": [],
                "changed": [],
                "unchanged": 1,
                "daemon": [],
            }
            assert daemon.status()["config_error"] == ""


async def test_an_address_that_a_reload_cannot_have_is_told_and_tried_again(
    events, tmp_path, monkeypatch
):
    monkeypatch.setattr(tunnel_module, "REBIND_INTERVAL", 0.05)
    path = tmp_path / "config.toml"
    async with destination() as port, emulator() as service:
        kept = f"unix:{tmp_path}/kept"
        text = configuration(
            service.endpoint_url, tunnel("x", port=port, listen=[kept])
        )
        async with running(text, source=path) as daemon:
            with socket.create_server(("127.0.0.1", 0)) as holder:
                taken = holder.getsockname()[1]
                new = tunnel("x", port=port, listen=[taken, kept])
                path.write_text(configuration(service.endpoint_url, new))
                await daemon.reload()
                await events.wait_for("listener.failed", count=2)
                found = state_of(daemon)
                assert found.state is TunnelState.UNBOUND
                assert str(taken) in found.reason
                assert found.advice
                # What was ours is ours, and what waits for nothing works.
                assert await echoes(tmp_path / "kept")
            await events.wait_for("listener.bound", address=f"127.0.0.1:{taken}")
            assert await echoes(taken)
            assert state_of(daemon).state is TunnelState.READY


async def test_what_needs_no_session_applies_to_the_running_ones(events, tmp_path):
    path = tmp_path / "config.toml"
    sock = tmp_path / "sock"
    async with destination() as port, emulator() as service:
        settings = {"port": port, "listen": f"unix:{sock}"}
        text = configuration(service.endpoint_url, tunnel("x", **settings))
        async with running(text, source=path) as daemon:
            (only,) = daemon.tunnels
            async with connection(sock) as line:
                assert await ask(*line, b"hello") == b"hello"
                live = {
                    "linger": 7,
                    "connect_timeout": "3s",
                    "max_connections": 5,
                    "socket_mode": "0660",
                    "idle_close": "1h",
                    "streams_per_session": 9,
                    "max_session_age": "5h",
                    "required": False,
                    "reason": "another one",
                }
                path.write_text(
                    configuration(service.endpoint_url, tunnel("x", **settings, **live))
                )
                await daemon.reload()
                assert only.server.settings.linger == 7
                assert only.server.settings.max_connections == 5
                assert sock.stat().st_mode & 0o777 == 0o660
                assert only.pool.policy.idle_close == 3600
                assert only.pool.policy.streams_per_session == 9
                assert not state_of(daemon).required
                assert statuses(service)[0] == "Connected"
                assert events.find("session.retired") == []
                assert await ask(*line, b"goes on") == b"goes on"


async def test_a_change_of_target_in_trouble_still_takes_the_new_connections(
    events, tmp_path
):
    path = tmp_path / "config.toml"
    faults = ("offline=i-01234567",)
    async with destination() as port, emulator(faults=faults) as service:
        text = configuration(service.endpoint_url, tunnel("x", port=port))
        async with running(text, source=path) as daemon:
            local = port_of(daemon, "x")
            async with connection(local) as line:
                assert await ask(*line, b"hello") == b"hello"
                elsewhere = tunnel(
                    "x", port=port, target="i-01234567", connect_timeout="500ms"
                )
                path.write_text(configuration(service.endpoint_url, elsewhere))
                await daemon.reload()
                async with connection(local) as (reader, _):
                    with pytest.raises(ConnectionResetError):
                        await reader.read()
                assert state_of(daemon).state is TunnelState.WAITING
                assert await ask(*line, b"as before") == b"as before"
            path.write_text(text.replace("port = ", "warm = 0\nport = "))
            await daemon.reload()
            assert state_of(daemon).state in {TunnelState.IDLE, TunnelState.READY}
            assert await echoes(local)
    assert {s.request.target for s in service.sessions} == {TARGET}


async def test_who_waits_for_a_session_gets_one_of_the_new_target(events, tmp_path):
    path = tmp_path / "config.toml"
    faults = ("offline=i-01234567",)
    async with destination() as port, emulator(faults=faults) as service:
        dead = tunnel("x", port=port, target="i-01234567", connect_timeout="60s")
        text = configuration(service.endpoint_url, dead)
        async with running(text, source=path, ready=False) as daemon:
            await events.wait_for("session.ended")
            async with connection(port_of(daemon, "x")) as line:
                await until(lambda: state_of(daemon).waiting)
                path.write_text(
                    configuration(service.endpoint_url, tunnel("x", port=port))
                )
                await daemon.reload()
                assert await ask(*line, b"at last") == b"at last"


async def test_a_tunnel_that_could_not_listen_yet_takes_over_everything(
    events, tmp_path
):
    path = tmp_path / "config.toml"
    async with destination() as port, emulator() as service:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            taken = holder.getsockname()[1]
            held = tunnel("x", port=1, listen=taken, target="i-01234567")
            good = tunnel("y", port=port)
            text = configuration(service.endpoint_url, held, good)
            async with running(text, source=path, ready=False) as daemon:
                await events.wait_for("listener.failed")
                mended = configuration(
                    service.endpoint_url, tunnel("x", port=port), good
                )
                path.write_text(mended)
                assert (await daemon.reload())["changed"] == ["x"]
                assert await echoes(port_of(daemon, "x"))
        assert {s.request.target for s in service.sessions} == {TARGET}


async def test_what_concerns_the_process_applies_at_once(events, tmp_path):
    path = tmp_path / "config.toml"
    taken = []
    async with emulator() as service:
        only = tunnel("x", port=1)
        text = configuration(service.endpoint_url, only)
        async with running(text, source=path, log_as=taken.append) as daemon:
            path.write_text(configuration(service.endpoint_url, only, start_rate=7.5))
            await daemon.reload()
            assert taken == []
            path.write_text(
                configuration(
                    service.endpoint_url, only, log_level="debug", drain_timeout="7s"
                )
            )
            report = await daemon.reload()
            assert (report["changed"], report["unchanged"]) == ([], 1)
            assert [settings.log_level for settings in taken] == ["debug"]
            assert daemon.settings.drain_timeout == 7
