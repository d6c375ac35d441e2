import asyncio
import errno
import os
import resource
import socket
import threading
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network

import pytest

from ssmtunneld.config import TcpAddress, UnixAddress
from ssmtunneld.errors import DestinationRefused, NoSessionReady, StreamReset
from ssmtunneld.listener import process_table
from ssmtunneld.listener import server as server_module
from ssmtunneld.listener.access import Rejection
from ssmtunneld.listener.client import Client
from ssmtunneld.listener.connection import Connection, StreamSource
from ssmtunneld.listener.limits import ConnectionLimit
from ssmtunneld.listener.process_table import user_name
from ssmtunneld.listener.relay import ConnectionOutcome
from ssmtunneld.listener.server import Server, ServerSettings
from ssmtunneld.listener.sockets import peer_name
from tests.support.conformance import receive_all
from tests.support.memory import memory_pair
from tests.support.sockets import read_all, reset
from tests.support.turns import turns, until

ANY_PORT = TcpAddress("127.0.0.1", 0)
SETTINGS = ServerSettings(linger=60.0, max_connections=100)
ME = os.getuid()


class Scene:
    """A server whose streams end at the test."""

    def __init__(
        self, log, addresses, quota=None, *, names=None, observer=None, **settings
    ):
        self.streams = []
        self.remotes = []
        self.open = self._open
        self.server = Server(
            name="db",
            addresses=addresses,
            opening=StreamSource(lambda: None, self._open_stream),
            settings=replace(SETTINGS, **settings),
            log=log,
            quota=quota,
            names=names,
            observer=observer,
        )

    async def _open_stream(self):
        return await self.open()  # tests replace it

    async def _open(self):
        stream, remote = memory_pair(half_close=False)
        self.streams.append(stream)
        self.remotes.append(remote)
        return stream

    def connect(self, number=0):
        listening = self.server._acceptor.listeners[number].socket
        client = socket.socket(listening.family)
        client.connect(listening.getsockname())
        client.setblocking(False)
        return client

    async def remote(self, number=0):
        """Return the far end of the stream that was opened as number so many."""
        await until(lambda: len(self.remotes) > number)
        return self.remotes[number]

    @asynccontextmanager
    async def serving(self):
        await self.server.bind()
        try:
            async with asyncio.TaskGroup() as tasks:
                self.task = tasks.create_task(self.server.serve())
                yield self
                self.task.cancel()
        finally:
            self.server.stop_accepting()  # `serve` may not have begun


@pytest.fixture
async def scene(log):
    yield lambda *addresses, **settings: Scene(
        log, addresses or (ANY_PORT,), **settings
    )
    await turns(5)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def assert_reset(client):
    with pytest.raises(ConnectionResetError):
        await read_all(client)
    client.close()


async def test_a_connection_is_joined_to_a_stream_of_its_own(scene, tmp_path):
    addresses = TcpAddress("localhost", 0), UnixAddress(tmp_path / "socket")
    async with scene(*addresses).serving() as s:
        for number in range(3):
            with s.connect(number) as client:
                remote = await s.remote(number)
                client.send(b"question")
                assert await remote.receive() == b"question"
                await remote.send(b"answer")
                await remote.send_eof()
                assert await read_all(client) == b"answer"
        await until(lambda: s.server.statistics().active == 0)
        statistics = s.server.statistics()
    assert (statistics.accepted, statistics.sent, statistics.received) == (3, 24, 18)
    assert statistics.endings == {ConnectionOutcome.COMPLETED: 3}


async def test_a_stream_that_is_ready_has_the_first_bytes_before_any_task(
    scene, monkeypatch
):
    async def never(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(Connection, "join", never)
    async with scene().serving() as s:
        stream, remote = memory_pair()
        s.server._opening = StreamSource(lambda: stream, s._open_stream)
        with s.connect() as client:
            client.send(b"question")
            assert await remote.receive() == b"question"
        (connection,) = s.server.connections()
        assert s.server.kill(connection.name) is connection
        await until(lambda: stream.aborted)


async def test_the_connections_of_the_moment_can_be_seen(scene, tmp_path):
    async with scene(ANY_PORT, UnixAddress(tmp_path / "socket")).serving() as s:
        with s.connect(0) as first:
            (await s.remote(0)).abort  # noqa: B018 - it is there
            with s.connect(1) as second:
                await s.remote(1)
                first.send(b"12345")
                second.send(b"123")
                await until(lambda: s.server.statistics().sent == 8)
                found = s.server.connections()
                name = "{}:{}".format(*first.getsockname())
                assert [each.peer for each in found] == [name, f"uid {ME}"]
                assert [each.meter.sent for each in found] == [5, 3]
                assert [each.name for each in found] == ["1", "2"]
                assert [each.remote for each in found] == s.streams
                assert found[1].client.pid == os.getpid()
                assert found[0].since <= found[1].since


async def test_one_connection_can_be_killed_by_its_name(scene):
    async with scene().serving() as s:
        with s.connect() as victim, s.connect() as other:
            remote = await s.remote(0)
            await s.remote(1)
            assert s.server.kill("3") is None
            killed = s.server.kill("1")
            assert killed.peer == "{}:{}".format(*victim.getsockname())
            await assert_reset(victim)
            assert killed.client.gone
            with pytest.raises(StreamReset):
                await remote.receive()
            other.send(b"alive")
            assert await (await s.remote(1)).receive() == b"alive"
            await until(lambda: s.server.statistics().active == 1)
            assert s.server.statistics().endings == {ConnectionOutcome.KILLED: 1}
            assert s.server.kill("1") is None


class Observer:
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def opened(self, connection):
        self.told.append(("opened", connection.name, connection.remote is not None))

    def ended(self, connection, transfer):
        ending = transfer.ending.value
        self.told.append(("ended", connection.name, ending, connection.meter.sent))


async def test_an_observer_is_told_of_every_begin_and_end(log):
    names = iter(["a", "b"])
    s = Scene(log, (ANY_PORT,), names=names.__next__, observer=Observer())
    told = s.server._observer.told
    async with s.serving():
        with s.connect() as client:
            remote = await s.remote()
            client.send(b"12345")
            assert await remote.receive() == b"12345"
            await remote.send_eof()
            assert await read_all(client) == b""
        await until(lambda: len(told) == 2)

        async def refuse():
            raise DestinationRefused("no")

        s.open = refuse
        await assert_reset(s.connect())
        await until(lambda: len(told) == 3)
    assert told == [
        ("opened", "a", True),
        ("ended", "a", "completed", 5),
        ("ended", "b", "refused", 0),
    ]


async def test_a_peer_that_has_no_name_is_unknown():
    gone = socket.socket(socket.AF_UNIX)
    gone.close()
    assert peer_name(gone, "") == "unknown"


@pytest.mark.parametrize("named", [{"destination": "db:5432"}, {}])
async def test_a_refusal_is_a_reset_counted_and_logged_once(scene, lines, named):
    async with scene(**named).serving() as s:

        async def refuse():
            raise DestinationRefused("connection refused by 10.0.0.5:5432")

        s.open = refuse
        for _ in range(3):
            await assert_reset(s.connect())
        await until(lambda: s.server.statistics().refused == 3)
    assert s.server.statistics().endings == {ConnectionOutcome.REFUSED: 3}
    refusals = [facts for _, event, facts in lines if event == "connection.refused"]
    assert refusals == [
        {
            "destination": named.get("destination", "unknown"),
            "reason": "connection refused by 10.0.0.5:5432",
            "advice": DestinationRefused.advice,
        }
    ]


async def test_one_connection_without_a_session_does_not_touch_another(scene):
    async with scene().serving() as s:
        with s.connect() as client:
            remote = await s.remote()

            async def fail():
                raise NoSessionReady("no session in 15 s")

            s.open = fail
            await assert_reset(s.connect())
            await remote.send(b"still here")
            assert await asyncio.get_running_loop().sock_recv(client, 99)


async def test_a_defect_met_by_one_connection_does_not_touch_another(scene):
    async with scene().serving() as s:
        with s.connect() as client:
            remote = await s.remote()

            async def fail():
                raise ZeroDivisionError

            s.open = fail
            await assert_reset(s.connect())
            await remote.send(b"still here")
            assert await asyncio.get_running_loop().sock_recv(client, 99)
            await until(lambda: s.server.statistics().active == 1)
    assert s.server.statistics().endings[ConnectionOutcome.FAILED] == 1
    [found] = s.server._defects.snapshot(asyncio.get_running_loop().time())
    assert (found.compartment, found.count) == ("connection", 1)
    assert found.last.startswith("defect: ZeroDivisionError at listener/")


async def test_connections_beyond_the_limit_wait_until_one_ends(scene, lines):
    async with scene(max_connections=2).serving() as s:
        clients = [s.connect() for _ in range(4)]
        for client in clients:
            client.send(b"x")
        await s.remote(1)
        await turns(100)
        assert len(s.remotes) == 2
        statistics = s.server.statistics()
        assert (statistics.active, statistics.saturated) == (2, 1)
        reset(clients[0])
        await s.remote(2)
        s.server.settings = replace(s.server.settings, max_connections=3)
        await s.remote(3)
        assert s.server.settings.max_connections == 3
        for client in clients:
            client.close()
    assert ("warning", "connections.saturated", {"limit": 2}) in lines


async def test_all_tunnels_together_have_a_limit_too(log, lines):
    connection_limit = ConnectionLimit(4)
    greedy, modest = (
        Scene(log, (ANY_PORT,), quota=connection_limit.join(100)) for _ in range(2)
    )
    async with greedy.serving(), modest.serving():
        clients = [greedy.connect() for _ in range(5)]
        await greedy.remote(2)
        await turns(100)
        assert len(greedy.remotes) == 3
        assert ("warning", "connections.saturated", {"limit": 4}) in lines
        # One was kept for the other tunnel, and is free again after it.
        for number in range(2):
            client = modest.connect()
            await modest.remote(number)
            assert connection_limit.taken == 4
            reset(client)
            await until(lambda: connection_limit.taken == 3)
        connection_limit.limit = 5
        await greedy.remote(3)
        reset(clients[0])
        await greedy.remote(4)
        for client in clients[1:]:
            client.close()
    assert connection_limit.taken == 0


async def test_a_server_that_ends_leaves_its_part_to_others(log):
    connection_limit = ConnectionLimit(4)
    one, two = (
        Scene(log, (ANY_PORT,), quota=connection_limit.join(100)) for _ in range(2)
    )
    async with one.serving():
        async with two.serving():
            clients = [one.connect() for _ in range(4)]
            await one.remote(2)
        await one.remote(3)
        for client in clients:
            client.close()


async def test_those_that_wait_to_be_accepted_can_be_counted(scene):
    async with scene(max_connections=1).serving() as s:
        clients = [s.connect() for _ in range(4)]
        await s.remote(0)
        assert s.server.queued == 3
        for client in clients:
            client.close()


async def test_a_crowd_is_accepted_in_several_turns(scene):
    s = scene(max_connections=1000)
    await s.server.bind()
    clients = [s.connect() for _ in range(2 * server_module.BATCH)]
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(s.server.serve())
        await until(lambda: s.server.statistics().accepted)
        assert s.server.statistics().accepted == server_module.BATCH
        await s.remote(2 * server_module.BATCH - 1)
        serving.cancel()
    for client in clients:
        client.close()


async def test_two_addresses_share_one_limit(scene, tmp_path):
    addresses = ANY_PORT, UnixAddress(tmp_path / "socket")
    async with scene(*addresses, max_connections=1).serving() as s:
        with s.connect(0) as first, s.connect(1):
            await s.remote(0)
            await turns(100)
            assert len(s.remotes) == 1
            reset(first)
            await s.remote(1)


async def test_a_client_from_elsewhere_is_reset(scene, lines):
    async with scene(allow=(ip_network("192.0.2.0/24"),)).serving() as s:
        await assert_reset(s.connect())
        await until(lambda: lines)
        assert s.server.statistics().accepted == 0
    assert s.server.statistics().rejections == {Rejection.ADDRESS: 1}
    [(_, event, facts)] = lines
    assert (event, facts["rule"], facts["uid"]) == (
        "connection.rejected",
        "address",
        "unknown",
    )


async def test_another_users_client_is_reset_and_named(scene, lines):
    async with scene(allow_uids=frozenset({ME + 1})).serving() as s:
        await assert_reset(s.connect())
        await until(lambda: lines)
    assert s.server.statistics().rejections == {Rejection.OWNER: 1}
    facts = lines[0][2]
    assert (facts["rule"], facts["uid"]) == ("owner", ME)
    assert facts["user"] == user_name(ME)
    assert user_name(ME) in facts["advice"]


async def test_a_name_that_nobody_tells_keeps_nobody_waiting(scene, lines, monkeypatch):
    asked, answer = threading.Event(), threading.Event()

    def ask(uid):
        asked.set()
        assert answer.wait(30)
        raise KeyError(uid)

    user_name.cache_clear()
    monkeypatch.setattr(process_table.pwd, "getpwuid", ask)
    try:
        async with scene(allow_uids=frozenset({ME + 1})).serving() as s:
            await assert_reset(s.connect())
            assert await asyncio.to_thread(asked.wait, 30)
            # The directory is silent, and whoever comes next is dealt with.
            await assert_reset(s.connect())
            assert s.server.statistics().rejections == {Rejection.OWNER: 2}
            assert lines == []
        # It ends meanwhile: the line comes with what is known.
        assert lines[0][2]["user"] == str(ME)
    finally:
        answer.set()
        await asyncio.get_running_loop().shutdown_default_executor()
        user_name.cache_clear()


async def test_our_own_client_is_welcome_and_unix_sockets_have_their_mode(
    scene, tmp_path
):
    addresses = ANY_PORT, UnixAddress(tmp_path / "socket")
    async with scene(*addresses, allow_uids=frozenset({ME})).serving() as s:
        with s.connect(0):
            await s.remote(0)
        s.server.settings = replace(s.server.settings, allow_uids=frozenset())
        with s.connect(1):
            await s.remote(1)


async def test_a_process_without_descriptors_rests_and_goes_on(scene, lines):
    s = scene()
    await s.server.bind()
    client = s.connect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    async with asyncio.TaskGroup() as tasks:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            serving = tasks.create_task(s.server.serve())
            await until(lambda: lines)
            await turns(100)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert [event for _, event, _ in lines] == ["accept.failed"]
        assert "Too many open files" in lines[0][2]["reason"]
        assert s.server.statistics().accepted == 0
        s.server.settings = SETTINGS  # wakes it before its rest is over
        await s.remote()
        serving.cancel()
    await assert_reset(client)


async def test_a_client_that_has_reset_already_holds_up_nobody(
    scene, lines, monkeypatch
):
    """macOS refuses calls on such a socket, as if the machine lacked something."""
    async with scene().serving() as s:
        first, second = s.connect(), s.connect()
        with monkeypatch.context() as patch:

            def refuse(sock, *_):
                patch.undo()  # all is well from the next client on
                raise OSError(errno.EINVAL, "Invalid argument")

            patch.setattr(socket.socket, "setsockopt", refuse)
            await s.remote()
        await assert_reset(first)
        assert not lines
        assert s.server.statistics().accepted == 1
    second.close()


async def test_a_rest_ends_by_itself(scene, monkeypatch):
    monkeypatch.setattr(server_module, "EXHAUSTED_PAUSE", 0.0)
    await scene().server._pause(OSError("out of something"))


async def test_a_shared_socket_whose_connection_another_took_is_no_trouble(scene):
    """Two processes may have inherited it; here they are two servers."""
    with socket.create_server(("127.0.0.1", 0)) as shared:
        async with (
            scene(shared).serving() as s,
            scene(shared).serving() as t,
        ):
            await turns(5)
            for _ in range(5):
                s.connect().close()
            await until(lambda: _accepted(s) + _accepted(t) == 5)


def _accepted(scene):
    return scene.server.statistics().accepted


async def test_draining_lets_connections_finish(scene):
    async with scene().serving() as s:
        with s.connect() as client:
            remote = await s.remote()
            async with asyncio.TaskGroup() as tasks:
                draining = tasks.create_task(s.server.drain(60))
                await turns(20)
                assert not draining.done()
                with pytest.raises(OSError, match="refused"):
                    socket.create_connection(client.getpeername())
                await remote.send(b"the rest")
                await remote.send_eof()
                assert await read_all(client) == b"the rest"
                client.close()
            assert draining.result() == 0
        await s.task  # nothing is left to serve


async def test_draining_resets_what_does_not_finish_in_time(scene):
    async with scene().serving() as s:
        with s.connect() as client:
            await s.remote()
            assert await s.server.drain(0.01) == 1
            assert s.streams[0].aborted
            await assert_reset(client)
    assert s.server.statistics().endings == {ConnectionOutcome.CANCELLED: 1}


async def test_draining_a_server_that_never_served_frees_its_address(scene):
    s = scene()
    await s.server.bind()
    [name] = s.server.bound
    assert await s.server.drain(1) == 0
    address = TcpAddress("127.0.0.1", int(name.rpartition(":")[2]))
    async with scene(address).serving() as successor:
        assert successor.server.bound == (name,)


async def test_an_address_is_free_as_soon_as_accepting_stops(scene):
    async with scene().serving() as s:
        with s.connect() as client:
            remote = await s.remote()
            s.server.stop_accepting()
            address = TcpAddress(*client.getpeername())
            async with scene(address).serving():
                await remote.send(b"still here")
                assert await asyncio.get_running_loop().sock_recv(client, 99)


async def test_what_waits_in_the_backlog_is_served_later(scene):
    s = scene()
    await s.server.bind()
    client = s.connect()
    client.send(b"early")
    client.shutdown(socket.SHUT_WR)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(s.server.serve())
        remote = await s.remote()
        assert await remote.receive() == b"early"
        await remote.send_eof()
        assert await receive_all(remote) == b""
        serving.cancel()
    client.close()


@pytest.mark.parametrize("moment", range(25))
async def test_cancelling_at_any_moment_leaves_nothing(scene, tmp_path, moment):
    path = tmp_path / "socket"
    s = scene(ANY_PORT, UnixAddress(path))
    await s.server.bind()
    clients = [s.connect(number % 2) for number in range(6)]
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(s.server.serve())
        await turns(moment)
        serving.cancel()
    s.server.stop_accepting()
    await turns(5)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert all(stream.aborted for stream in s.streams)
    assert not path.exists()
    statistics = s.server.statistics()
    assert statistics.active == 0
    assert sum(statistics.endings.values()) == statistics.accepted
    seen = Counter([await _fate(client) for client in clients])
    assert seen["open"] == 0


async def _fate(client):
    """Return how a client's connection ended."""
    with client:
        try:
            async with asyncio.timeout(5):
                await read_all(client)
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "open"
    return "ended"


async def test_cancelling_a_bind_leaves_nothing_bound(scene):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        s = scene(ANY_PORT, TcpAddress(*taken.getsockname()))
        async with asyncio.TaskGroup() as tasks:
            binding = tasks.create_task(s.server.bind())
            await turns(2)  # it is looking for the holder by now
            binding.cancel()
        assert binding.cancelled()
    assert s.server.bound == ()


async def test_a_connection_without_a_listener_counts_and_ends_like_any_other(scene):
    async with scene().serving() as here:
        await until(lambda: here.server.accepting)
        client = here.server.connect("uid 7", Client(uid=7))
        assert client is not None
        assert client.gettimeout() is None
        with client:
            client.settimeout(0)
            client.send(b"request")
            remote = await here.remote()
            assert await remote.receive() == b"request"
            await remote.send(b"answer")
            assert await asyncio.get_running_loop().sock_recv(client, 100) == b"answer"
            (present,) = here.server.connections()
            assert (present.peer, present.client.uid) == ("uid 7", 7)
            assert (present.meter.sent, present.meter.received) == (7, 6)
            await remote.aclose()
            assert await read_all(client) == b""
        await until(lambda: not here.server.connections())
        assert here.server.statistics().accepted == 1


async def test_there_is_none_without_room_or_while_nothing_is_accepted(scene):
    async with scene(max_connections=1).serving() as here:
        await until(lambda: here.server.accepting)
        client = here.server.connect("uid 7", Client(uid=7))
        assert client is not None
        assert here.server.connect("uid 7", Client(uid=7)) is None
        client.close()
        await until(lambda: not here.server.connections())
        here.server.stop_accepting()
        assert here.server.connect("uid 7", Client(uid=7)) is None
