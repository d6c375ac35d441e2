"""Every setting that is declared live takes effect at once, and touches nothing else.

A setting without a case here fails the first test: whoever declares one as live shows
that it is.
"""

import asyncio
import os
import stat
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.config import DaemonSettings, TunnelSettings, parse_config
from ssmtunneld.config.metadata import Reload, reload_of
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.tunnels import Tunnels
from ssmtunneld.listener import owner
from ssmtunneld.listener.owner import OwnerVisibility
from ssmtunneld.sessions.policy import Phase
from tests.aws.stub import Stub
from tests.integration.test_dynamic import NAMES, SUCCESS, connected, request
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
from tests.support.turns import until

NEVER = "300d"
"""Longer than any test."""
SOON = "50ms"
KEY = "ssh-ed25519 " + "A" * 68

OF_TUNNELS = {}
OF_THE_DAEMON = {}


def live(key, cases=OF_TUNNELS):
    """Register the case of a setting."""

    def register(case):
        assert key not in cases
        cases[key] = case
        return case

    return register


def live_settings(model):
    return {k for k in model.model_fields if reload_of(model, k) is Reload.LIVE}


def test_every_live_setting_has_a_case():
    assert OF_TUNNELS.keys() == live_settings(TunnelSettings)
    assert OF_THE_DAEMON.keys() == live_settings(DaemonSettings)


class Running:
    """One tunnel that runs, and its settings as the file would have them."""

    def __init__(self, fleet, service, settings):
        self.fleet = fleet
        self.service = service
        self._settings = settings

    @property
    def tunnel(self):
        return self.fleet.get("x")

    @property
    def port(self):
        return int(self.tunnel.server.bound[0].rpartition(":")[2])

    @property
    def members(self):
        return self.tunnel.pool.snapshot().members

    def ready(self, count):
        """Say whether there are as many sessions, and all are ready."""
        phases = [member.view.phase for member in self.members]
        return phases == [Phase.READY] * count

    async def reload(self, events, **changes):
        """Change settings; neither sessions nor listeners may be touched."""
        tunnel = self.tunnel
        before = tunnel.pools, tunnel.server.bound
        self._settings = {**self._settings, **changes}
        found = await self.fleet.apply(parsed(self.service, self._settings), 5.0)
        assert found.changed == ("x",)
        assert self.tunnel is tunnel
        assert (tunnel.pools, tunnel.server.bound) == before
        assert len(events.find("listener.bound")) == 1
        assert events.find("session.retired") == []


def parsed(service, settings):
    text = configuration(service.endpoint_url, tunnel("x", **settings))
    return parse_config(text, "test.toml", {}).tunnels


@asynccontextmanager
async def tunnel_of(faults=(), **settings):
    """Run a fleet of one tunnel."""
    async with emulator(host_aliases=NAMES, faults=faults) as service:
        shared = DaemonContext(start_rate=100, start_burst=100, instance="0123456789ab")
        fleet = Tunnels(parsed(service, settings), shared, {})
        try:
            assert await fleet.bind()
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(fleet.run(), name="fleet")
                async with asyncio.timeout(2 * PATIENCE):
                    run = Running(fleet, service, settings)
                    try:
                        yield run
                    except TimeoutError:
                        print([m.view for m in run.members])  # noqa: T201 - pytest shows it
                        raise
                    await fleet.end(0.0)
                task.cancel()
        finally:
            fleet.close()
            await shared.controls.close()


async def silence(reader, writer):
    """Read until the peer has no more, and say nothing."""
    try:
        await reader.read()
    except ConnectionError:
        pass  # the agent is gone
    finally:
        writer.close()


async def is_reset(port):
    """Say whether a new connection is reset, or ended, before it gets an answer."""
    async with connection(port) as (reader, writer):
        try:
            writer.write(b"hello")
            return await reader.read() == b""
        except ConnectionError:
            return True


@live("allow")
async def _allow(events, tmp_path, monkeypatch):
    async with (
        destination() as port,
        tunnel_of(port=port, listen="0.0.0.0:0", allow=["10.0.0.0/8"]) as run,
    ):
        assert await is_reset(run.port)
        await run.reload(events, allow=["127.0.0.0/8"])
        assert await echoes(run.port)


@live("allow_users")
async def _allow_users(events, tmp_path, monkeypatch):
    if owner.sight() not in {OwnerVisibility.CLEAR, OwnerVisibility.SLOW}:
        pytest.skip("this platform does not tell whose a connection is")
    us = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: us + 4242)
    async with destination() as port, tunnel_of(port=port) as run:
        assert await is_reset(run.port)
        await run.reload(events, allow_users=[us])
        assert await echoes(run.port)


@live("connect_timeout")
async def _connect_timeout(events, tmp_path, monkeypatch):
    async with tunnel_of(
        ("offline=i-01234567",), target="i-01234567", port=1, connect_timeout=NEVER
    ) as run:
        await run.reload(events, connect_timeout=SOON)
        assert await is_reset(run.port)


@live("linger")
async def _linger(events, tmp_path, monkeypatch):
    async with (
        destination(silence) as port,
        tunnel_of(port=port, linger=NEVER) as run,
    ):
        await run.reload(events, linger=SOON)
        async with connection(run.port) as (reader, writer):
            writer.write_eof()
            assert await reader.read() == b""


@live("stall_timeout")
async def _stall_timeout(events, tmp_path, monkeypatch):
    async with destination() as port, tunnel_of(port=port) as run:
        # The minutes themselves are in tests/sessions/test_silence.py.
        assert run.tunnel.pool.stall_timeout == 900
        await run.reload(events, stall_timeout="20s")
        assert run.tunnel.pool.stall_timeout == 20


@live("message_size")
async def _message_size(events, tmp_path, monkeypatch):
    async with destination() as port, tunnel_of(port=port) as run:
        await until(lambda: run.ready(1))
        sizes = [member.channel.message_size for member in run.members]
        assert sizes == [8192]
        await run.reload(events, message_size=2048)
        await until(lambda: run.members[0].channel.message_size == 2048)
        await run.reload(events, message_size="32KiB")
        await until(lambda: run.members[0].channel.message_size == 8192)
        # What is larger is tried on the next session: the spare one of a connection.
        async with connection(run.port) as (reader, writer):
            assert await ask(reader, writer, b"hello") == b"hello"
            await until(lambda: run.ready(2))
            await until(
                lambda: {m.channel.message_size for m in run.members} == {32768}
            )


@live("max_connections")
async def _max_connections(events, tmp_path, monkeypatch):
    async with (
        destination() as port,
        tunnel_of(port=port, max_connections=1) as run,
        connection(run.port) as first,
        connection(run.port) as second,
    ):
        assert await ask(*first, b"hello") == b"hello"
        await events.wait_for("connections.saturated")
        await run.reload(events, max_connections=2)
        assert await ask(*second, b"hello") == b"hello"


@live("socket_mode")
async def _socket_mode(events, tmp_path, monkeypatch):
    path = tmp_path / "x.sock"
    async with tunnel_of(port=1, listen=f"unix:{path}") as run:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await run.reload(events, socket_mode="0660")
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


@live("probe")
async def _probe(events, tmp_path, monkeypatch):
    async with destination() as port, tunnel_of(port=port) as run:
        await run.tunnel.wait_usable()
        await run.reload(events, probe="banner:SSH-", probe_timeout=SOON)
        line = await events.wait_for("probe.failed")
        assert line["probe"] == "banner"


@live("probe_interval")
async def _probe_interval(events, tmp_path, monkeypatch):
    visits = []

    async def count(reader, writer):
        visits.append(reader)
        await echo(reader, writer)

    async with (
        destination(count) as port,
        tunnel_of(port=port, probe="tcp", probe_interval=NEVER) as run,
    ):
        await until(lambda: len(visits) == 1)
        await run.reload(events, probe_interval="1s")
        # The first of them is due to the reload itself.
        await until(lambda: len(visits) >= 3)


@live("probe_timeout")
async def _probe_timeout(events, tmp_path, monkeypatch):
    async with (
        destination(silence) as port,
        tunnel_of(port=port, probe="banner:SSH-", probe_timeout=NEVER) as run,
    ):
        await run.tunnel.pool.wait_ready()
        await run.reload(events, probe_timeout=SOON)
        line = await events.wait_for("probe.failed")
        assert line["reason"] == "no answer within 0.05 s"


@live("required")
async def _required(events, tmp_path, monkeypatch):
    async with (
        tunnel_of(("offline=i-01234567",), target="i-01234567", port=1) as run,
        asyncio.TaskGroup() as tasks,
    ):
        waiting = tasks.create_task(run.fleet.wait_ready())
        await events.wait_for("session.ended")
        assert not waiting.done()
        await run.reload(events, required=False)


@live("destinations")
async def _destinations(events, tmp_path, monkeypatch):
    async with (
        destination() as port,
        tunnel_of(mode="socks5", destinations=["one.corp.test:*"]) as run,
    ):
        assert not await is_granted(run.port, "two.corp.test", port)
        await run.reload(events, destinations=["two.corp.test:*"])
        assert await is_granted(run.port, "two.corp.test", port)
        assert not await is_granted(run.port, "one.corp.test", port)


async def is_granted(proxy, host, port):
    """Say whether a SOCKS 5 proxy connects to a destination."""
    async with connection(proxy) as (reader, writer):
        writer.write(request(host, port))
        assert await reader.readexactly(2) == b"\x05\x00"
        return await reader.readexactly(10) == SUCCESS


@live("max_destinations")
async def _max_destinations(events, tmp_path, monkeypatch):
    async with (
        destination() as port,
        tunnel_of(mode="socks5", destinations=["*:*"], max_destinations=1) as run,
        connected(run.port, "one.corp.test", port) as used,
    ):
        assert not await is_granted(run.port, "two.corp.test", port)
        await run.reload(events, max_destinations=2)
        assert await is_granted(run.port, "two.corp.test", port)
        assert await ask(*used, b"still here") == b"still here"


@live("idle_close")
async def _idle_close(events, tmp_path, monkeypatch):
    async with (
        destination() as port,
        tunnel_of(port=port, warm=0, idle_close=NEVER) as run,
    ):
        assert await echoes(run.port)
        await until(lambda: sum(m.view.streams for m in run.members) == 0)
        assert run.ready(1)
        await run.reload(events, idle_close=SOON)
        await until(lambda: not run.members)


@live("max_session_age")
async def _max_session_age(events, tmp_path, monkeypatch):
    async with tunnel_of(port=1) as run:
        await until(lambda: run.ready(1))
        # The emulator tells no limit. A session is replaced by what it has as its end.
        assert [member.view.expires_at for member in run.members] == [None]
        await run.reload(events, max_session_age="1h")
        (member,) = run.members
        assert member.view.expires_at == member.created + 3600


@live("max_sessions")
async def _max_sessions(events, tmp_path, monkeypatch):
    async with (
        destination() as port,
        tunnel_of(port=port, max_sessions=1) as run,
        connection(run.port) as line,
    ):
        assert await ask(*line, b"hello") == b"hello"
        assert run.ready(1)
        await run.reload(events, max_sessions=2)
        await until(lambda: run.ready(2))


@live("streams_per_session")
async def _streams_per_session(events, tmp_path, monkeypatch):
    async with (
        destination() as port,
        tunnel_of(port=port, warm=0) as run,
        connection(run.port) as line,
    ):
        assert await ask(*line, b"hello") == b"hello"
        assert run.ready(1)
        # On demand, another session comes once half of what one takes is in use.
        await run.reload(events, streams_per_session=2)
        await until(lambda: run.ready(2))


@live("warm")
async def _warm(events, tmp_path, monkeypatch):
    async with tunnel_of(port=1) as run:
        await until(lambda: run.ready(1))
        await run.reload(events, warm=2)
        await until(lambda: run.ready(2))


@live("reason")
async def _reason(events, tmp_path, monkeypatch):
    async with tunnel_of(port=1) as run:
        await until(lambda: run.ready(1))
        await run.reload(events, reason="build farm")
        await run.reload(events, warm=2)
        await until(lambda: run.ready(2))
        reasons = [session.request.reason for session in run.service.sessions]
        assert ["build farm" in reason for reason in reasons] == [False, True]


@asynccontextmanager
async def pushing(monkeypatch, **settings):
    """Run a tunnel, and what takes the keys of EC2 Instance Connect."""
    stub = Stub()
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT", stub.url)
    stub.answer("SendSSHPublicKey", {"RequestId": "1", "Success": True})
    try:
        async with destination() as port, tunnel_of(port=port, **settings) as run:
            yield run, lambda: stub.calls("SendSSHPublicKey")
    finally:
        stub.close()


def key_file(path, text=KEY):
    path.write_text(f"{text}\n")
    return str(path)


@live("instance_connect")
async def _instance_connect(events, tmp_path, monkeypatch):
    key = key_file(tmp_path / "key.pub")
    async with pushing(monkeypatch) as (run, pushed):
        assert await echoes(run.port)
        assert pushed() == []
        on = {"instance_connect": True, "instance_connect_user": "ubuntu"}
        await run.reload(events, **on, instance_connect_key=key)
        assert await echoes(run.port)
        assert [push["InstanceOSUser"] for push in pushed()] == ["ubuntu"]


@live("instance_connect_user")
async def _instance_connect_user(events, tmp_path, monkeypatch):
    settings = {
        "instance_connect": True,
        "instance_connect_user": "ubuntu",
        "instance_connect_key": key_file(tmp_path / "key.pub"),
    }
    async with pushing(monkeypatch, **settings) as (run, pushed):
        assert await echoes(run.port)
        await run.reload(events, instance_connect_user="admin")
        assert await echoes(run.port)
        assert [push["InstanceOSUser"] for push in pushed()] == ["ubuntu", "admin"]


@live("instance_connect_key")
async def _instance_connect_key(events, tmp_path, monkeypatch):
    settings = {
        "instance_connect": True,
        "instance_connect_user": "ubuntu",
        "instance_connect_key": key_file(tmp_path / "key.pub"),
    }
    other = "ssh-ed25519 " + "B" * 68
    async with pushing(monkeypatch, **settings) as (run, pushed):
        assert await echoes(run.port)
        path = key_file(tmp_path / "other.pub", other)
        await run.reload(events, instance_connect_key=path)
        assert await echoes(run.port)
        assert [push["SSHPublicKey"].strip() for push in pushed()] == [KEY, other]


@asynccontextmanager
async def daemon_of(path, *, log_as=lambda _: None, settings=None, **daemon):
    """Run a daemon from a file; yields it, and what changes ``[daemon]``."""
    async with destination() as port, emulator() as service:

        def text(**changes):
            return configuration(
                service.endpoint_url,
                tunnel("x", port=port, **(settings or {})),
                **{**daemon, **changes},
            )

        settled = dict(daemon)

        async def reload(**changes):
            nonlocal settled
            earlier, settled = settled, {**daemon, **changes}
            path.write_text(text(**changes))
            (shown,) = running_one.tunnels
            before = shown.pools, shown.server.bound
            found = await running_one.reload()
            assert found["unchanged"] == 1
            keys = earlier.keys() | settled.keys()
            changed = {k for k in keys if earlier.get(k) != settled.get(k)}
            assert set(found["daemon"]) == changed
            assert (shown.pools, shown.server.bound) == before

        path.write_text(text())
        ready = settings is None
        async with running(
            text(), source=path, ready=ready, log_as=log_as
        ) as running_one:
            yield running_one, reload, text


@live("groups")
async def _groups(events, tmp_path, monkeypatch):
    async with tunnel_of(port=1, groups=["a"]) as running:
        await running.tunnel.pool.wait_ready()
        assert running.tunnel.status(0.0).groups == ("a",)
        await running.reload(events, groups=["b", "c"])
        assert running.tunnel.status(0.0).groups == ("b", "c")


@live("log_level", OF_THE_DAEMON)
async def _log_level(events, tmp_path, monkeypatch):
    told = []
    async with daemon_of(tmp_path / "c.toml", log_as=told.append) as (_, reload, _):
        await reload(log_level="debug")
        assert [settings.log_level for settings in told] == ["debug"]


@live("log_format", OF_THE_DAEMON)
async def _log_format(events, tmp_path, monkeypatch):
    told = []
    async with daemon_of(tmp_path / "c.toml", log_as=told.append) as (_, reload, _):
        await reload(log_format="json")
        assert [settings.log_format for settings in told] == ["json"]


@live("drain_timeout", OF_THE_DAEMON)
async def _drain_timeout(events, tmp_path, monkeypatch):
    path = tmp_path / "c.toml"
    async with (
        daemon_of(path, drain_timeout=NEVER) as (daemon, reload, _),
        connection(port_of(daemon, "x")) as line,
    ):
        assert await ask(*line, b"hello") == b"hello"
        await reload(drain_timeout=SOON)
        assert await daemon.drain("x") == {"cut": 1}


@live("start_rate", OF_THE_DAEMON)
async def _start_rate(events, tmp_path, monkeypatch):
    await starts(tmp_path / "c.toml", start_rate=1000)


@live("start_burst", OF_THE_DAEMON)
async def _start_burst(events, tmp_path, monkeypatch):
    await starts(tmp_path / "c.toml", start_burst=2)


async def starts(path, **change):
    """Let a second session wait for the limiter, until ``change``."""
    slow = {"start_rate": 0.0001, "start_burst": 1}
    async with daemon_of(path, settings={"warm": 2}, **slow) as (daemon, reload, _):
        (tunnel,) = daemon.tunnels
        await tunnel.pool.wait_ready()
        phases = sorted(m.view.phase.name for m in tunnel.pool.snapshot().members)
        assert phases == ["READY", "STARTING"]
        await reload(**change)
        await until(
            lambda: (
                [m.view.phase for m in tunnel.pool.snapshot().members]
                == [Phase.READY] * 2
            )
        )


@live("audit_log", OF_THE_DAEMON)
async def _audit_log(events, tmp_path, monkeypatch):
    file = tmp_path / "audit.jsonl"
    async with daemon_of(tmp_path / "c.toml") as (daemon, reload, _):
        async with connection(port_of(daemon, "x")) as line:
            assert await ask(*line, b"hello") == b"hello"
            await reload(audit_log="audit.jsonl")
        await until(lambda: file.exists() and '"ended"' in file.read_text())
        await reload()
        await until(lambda: '"stopped"' in file.read_text())


@live("max_connections", OF_THE_DAEMON)
async def _all_connections(events, tmp_path, monkeypatch):
    path = tmp_path / "c.toml"
    async with daemon_of(path, max_connections=1) as (daemon, reload, _):
        port = port_of(daemon, "x")
        async with connection(port) as first, connection(port) as second:
            assert await ask(*first, b"hello") == b"hello"
            await events.wait_for("connections.saturated")
            await reload(max_connections=4)
            assert await ask(*second, b"hello") == b"hello"


@live("watch_config", OF_THE_DAEMON)
async def _watch_config(events, tmp_path, monkeypatch):
    path = tmp_path / "c.toml"
    async with daemon_of(path) as (daemon, reload, text):
        await reload(watch_config=True)
        path.write_text(text(watch_config=True, drain_timeout="77s"))
        await until(lambda: daemon.settings.drain_timeout == 77)


@live("on_state", OF_THE_DAEMON)
async def _on_state(events, tmp_path, monkeypatch):
    told = tmp_path / "told"
    async with daemon_of(tmp_path / "c.toml") as (daemon, reload, _):
        await reload(on_state=["touch", str(told)])
        await daemon.pause("x")
        await until(told.exists)


@pytest.mark.parametrize("key", sorted(live_settings(TunnelSettings)))
async def test_a_live_setting_of_a_tunnel_takes_effect_at_once(
    key, events, tmp_path, monkeypatch
):
    await OF_TUNNELS[key](events, tmp_path, monkeypatch)


@pytest.mark.parametrize("key", sorted(live_settings(DaemonSettings)))
async def test_a_live_setting_of_the_daemon_takes_effect_at_once(
    key, events, tmp_path, monkeypatch
):
    await OF_THE_DAEMON[key](events, tmp_path, monkeypatch)
