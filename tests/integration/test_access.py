"""Access of users to tunnels, tried by a real second user (design D15)."""

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

import pytest

from ssmtunneld.config import parse_config
from ssmtunneld.daemon.daemon import Daemon
from ssmtunneld.errors import ConfigError
from ssmtunneld.listener import access, held_fin, owner
from ssmtunneld.listener.owner import OwnerVisibility
from ssmtunneld.serve.systemd import ServiceManager
from tests.integration.stranger import NAME, need_root, uid_of, visit
from tests.integration.world import (
    PATIENCE,
    ask,
    configuration,
    connection,
    destination,
    echoes,
    emulator,
    has_ipv6,
    port_of,
    running,
    tunnel,
)
from tests.support.turns import look_again

ADVICE = f'add "{NAME}" to allow_users if it may connect'
RESET = "ConnectionResetError"

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on loopback")


@contextlib.asynccontextmanager
async def tunnel_table(**settings):
    """Run a daemon with one tunnel to an echo; yield the daemon."""
    async with destination() as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("db", port=port, **settings))
        async with running(text) as daemon:
            yield daemon


def status_of(daemon):
    return daemon.status()["tunnels"][0]


@need_root
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
async def test_another_users_connection_is_refused_counted_and_logged(events, host):
    spelled = f"[{host}]" if ":" in host else host
    async with tunnel_table(listen=f"{spelled}:0") as daemon:
        address = (host, port_of(daemon, "db"))
        assert await visit(address) == [RESET]
        line = await events.wait_for("connection.rejected", tunnel="db")
        facts = {key: line[key] for key in ("level", "rule", "uid", "user", "advice")}
        assert facts == {
            "level": "warning",
            "rule": "owner",
            "uid": uid_of(),
            "user": NAME,
            "advice": ADVICE,
        }
        assert line["peer"].startswith(spelled)
        status = status_of(daemon)
        assert (status["rejected"], status["rejections"]) == (1, {"owner": 1})
        assert (status["accepted"], status["connections"]) == (0, 0)
        assert await echoes(address)
        assert status_of(daemon)["accepted"] == 1


@need_root
@pytest.mark.parametrize("users", [[NAME], ["root", 65534], ["*"]])
async def test_users_that_are_allowed_are_served(users):
    if 65534 in users and uid_of() != 65534:
        pytest.skip(f"{NAME} has another id here")
    async with tunnel_table(allow_users=users) as daemon:
        address = ("127.0.0.1", port_of(daemon, "db"))
        assert await visit(address, words="mine") == ["mine"]
        assert await echoes(address)


@need_root
async def test_many_attempts_are_few_lines_and_cost_others_nothing(events):
    async with tunnel_table() as daemon:
        address = ("127.0.0.1", port_of(daemon, "db"))
        async with asyncio.TaskGroup() as tasks:
            attempts = tasks.create_task(visit(*[address] * 300))
            while not attempts.done():
                assert await echoes(address)
        assert attempts.result() == [RESET] * 300
        assert status_of(daemon)["rejected"] == 300
        lines = events.find("connection.rejected")
        # At most one in ten seconds; each but the first tells how many it stands for.
        assert 1 <= len(lines) <= 6


@need_root
async def test_a_stranger_who_says_something_and_leaves_is_not_heard():
    heard = []

    async def listen(reader, writer):
        heard.append(await reader.read())
        writer.close()

    async with destination(listen) as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("db", port=port))
        async with running(text) as daemon:
            address = ("127.0.0.1", port_of(daemon, "db"))
            # Many, so that some have left before anybody could look at them.
            outcomes = await visit(*[address] * 50, words="DROP TABLE users")
            assert set(outcomes) == {RESET}
            assert status_of(daemon)["accepted"] == 0
    assert heard == []


@need_root
async def test_a_unix_socket_is_as_open_as_its_mode(tmp_path):
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:  # one more where tests run in parallel
        if parent.owner() == tmp_path.owner():
            parent.chmod(parent.stat().st_mode | 0o055)
    path = tmp_path / "db.sock"
    async with tunnel_table(listen=f"unix:{path}"):
        assert await visit(path) == ["PermissionError"]
        assert await echoes(path)
    async with tunnel_table(listen=f"unix:{path}", socket_mode="0666"):
        assert await visit(path, words="mine") == ["mine"]


@need_root
@needs_ipv6
async def test_an_ipv4_stranger_at_a_socket_for_both_families_is_refused(events):
    async with destination() as port, emulator() as aws:
        everybody = {"listen": "[::]:0", "allow": ["0.0.0.0/0", "::/0"]}
        text = configuration(aws.endpoint_url, tunnel("db", port=port, **everybody))
        with socket.create_server(
            ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
        ) as inherited:
            local = inherited.getsockname()[1]
            manager = ServiceManager.none()
            manager.sockets["db"] = [inherited]
            daemon = Daemon(parse_config(text, Path("t.toml"), {}), manager=manager)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(daemon.run())
                await daemon.ready.wait()
                both = ("127.0.0.1", local), ("::1", local)
                assert await visit(*both) == [RESET, RESET]
                for address in both:
                    assert await echoes(address)
                daemon.stop()
    lines = events.find("connection.rejected", rule="owner", uid=uid_of())
    assert lines


@need_root
async def test_this_machines_own_addresses_are_no_way_round(events):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("no address beside loopback")
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("no address beside loopback")
    async with tunnel_table(listen="0.0.0.0:0", allow=["0.0.0.0/0"]) as daemon:
        port = port_of(daemon, "db")
        assert await visit((own, port), ("127.0.0.1", port)) == [RESET, RESET]
        assert await echoes((own, port))


def test_a_user_that_does_not_exist_is_an_error_with_the_nearest_name():
    text = configuration(
        "http://127.0.0.1:1", tunnel("db", port=1, allow_users=["rooot", 0])
    )
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "c.toml", {})
    (problem,) = caught.value.problems
    assert "tunnels.db.allow_users[0]" in problem
    assert "did you mean root?" in problem


@pytest.mark.parametrize(
    ("sight", "served"),
    [(OwnerVisibility.ABSENT, True), (OwnerVisibility.HIDDEN, False)],
)
async def test_a_check_that_cannot_tell_says_so_once(
    events, monkeypatch, sight, served
):
    monkeypatch.setattr(owner, "sight", lambda: sight)
    async with destination() as port, emulator() as aws:
        tables = [tunnel(name, port=port) for name in ("one", "two")]
        async with running(configuration(aws.endpoint_url, *tables)) as daemon:
            (line,) = events.find("access.limited")
            assert line["level"] == "warning"
            assert line["reason"]
            assert line["advice"]
            address = ("127.0.0.1", port_of(daemon, "one"))
            if served:
                assert await echoes(address)
            else:
                with pytest.raises(ConnectionResetError):
                    await echoes(address)


async def test_where_everybody_may_connect_there_is_nothing_to_say(events, monkeypatch):
    monkeypatch.setattr(owner, "sight", lambda: OwnerVisibility.HIDDEN)
    async with tunnel_table(allow_users=["*"]) as daemon:
        assert await echoes(("127.0.0.1", port_of(daemon, "db")))
    assert events.find("access.limited") == []


async def test_users_outside_of_a_user_namespace_are_all_the_same(events, monkeypatch):
    monkeypatch.setattr(owner, "stranger", lambda: 65534)
    async with tunnel_table(allow_users=[1000]):
        (line,) = events.find("access.limited")
    assert "PrivateUsers" in line["advice"]
    assert access.allowed_uids((1000,)) == {1000, os.geteuid()}


@need_root
async def test_a_reload_lets_users_in_and_keeps_them_out_again():
    async with destination() as port, emulator() as aws:

        def config(**settings):
            table = tunnel("db", port=port, **settings)
            text = configuration(aws.endpoint_url, table)
            return text, parse_config(text, Path("test.toml"), {})

        (closed, shut), (_, opened) = config(), config(allow_users=[NAME])
        async with running(closed) as daemon:
            address = ("127.0.0.1", port_of(daemon, "db"))
            assert await visit(address) == [RESET]
            await daemon._apply(opened)
            assert await visit(address, words="mine") == ["mine"]
            await daemon._apply(shut)
            assert await visit(address) == [RESET]


async def test_all_tunnels_together_have_a_limit_and_each_keeps_its_part(events):
    stack = contextlib.AsyncExitStack()
    async with destination() as port, emulator() as aws, stack:
        tables = [tunnel(name, port=port) for name in ("greedy", "modest")]
        text = configuration(aws.endpoint_url, *tables, max_connections=4)
        async with running(text) as daemon:
            greedy, modest = (port_of(daemon, name) for name in ("greedy", "modest"))
            for _ in range(3):
                ends = await stack.enter_async_context(connection(greedy))
                assert await ask(*ends, b"mine") == b"mine"
            waiting = await stack.enter_async_context(connection(greedy))
            waiting[1].write(b"later")
            line = await events.wait_for("connections.saturated", tunnel="greedy")
            assert line["limit"] == 4
            assert await echoes(modest)
            text = configuration(aws.endpoint_url, *tables, max_connections=5)
            await daemon._apply(parse_config(text, Path("test.toml"), {}))
            assert await waiting[0].readexactly(5) == b"later"
            await stack.aclose()


_SAY_AND_LEAVE = """
import os, socket, sys
port, uid = map(int, sys.argv[1:])
if uid != os.getuid():
    os.setgroups([])
    os.setuid(uid)
for number in range(100):
    sock = socket.socket()
    sock.connect(("127.0.0.1", port))
    try:
        sock.send(b"line %d\\n" % number)
    except ConnectionError:
        pass
    sock.close()
"""


async def say_and_leave(port, uid):
    """Connect, send a line and close at once, a hundred times, as a process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", _SAY_AND_LEAVE, str(port), str(uid)
    )
    assert await process.wait() == 0


@pytest.mark.skipif(
    not held_fin.keeps_user(), reason="this kernel forgets whose a closed socket was"
)
async def test_who_closes_at_once_is_served():
    heard = set()
    all_came = asyncio.Event()

    async def listen(reader, writer):
        with contextlib.suppress(ConnectionError):
            heard.add(await reader.read())
        writer.close()
        if len(heard) == 100:
            all_came.set()

    async with destination(listen) as port, emulator() as aws:
        text = configuration(aws.endpoint_url, tunnel("graphite", port=port))
        async with running(text) as daemon:
            await say_and_leave(port_of(daemon, "graphite"), os.getuid())
            async with asyncio.timeout(PATIENCE):
                await all_came.wait()
            assert status_of(daemon)["rejections"] == {}
    assert heard == {b"line %d\n" % number for number in range(100)}


@need_root
@pytest.mark.skipif(
    not held_fin.keeps_user(), reason="this kernel forgets whose a closed socket was"
)
async def test_a_stranger_who_closes_at_once_is_known_for_one():
    async with tunnel_table() as daemon:
        await say_and_leave(port_of(daemon, "db"), uid_of())
        status = status_of(daemon)
        while status["rejected"] < 100:
            await look_again()
            status = status_of(daemon)
        assert (status["accepted"], status["rejections"]) == (0, {"owner": 100})
