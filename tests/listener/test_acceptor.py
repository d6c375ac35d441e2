"""Listening sockets that come and go while a server works."""

import asyncio
import socket

import pytest

from ssmtunneld.config import TcpAddress, UnixAddress
from ssmtunneld.errors import AddressInUse
from ssmtunneld.listener.acceptor import Acceptor

ANY_PORT = TcpAddress("127.0.0.1", 0)


class Server:
    """Accepts nobody, and notes who wants it to."""

    def __init__(self, *addresses):
        self.begun = []
        self.taken = []
        self.doors = Acceptor(addresses, self.accept, self.take)

    async def accept(self, listener):
        self.begun.append(listener.name)
        await asyncio.Event().wait()

    def take(self, listener):
        self.taken.append(listener.name)

    async def open(self):
        return await self.doors.open(0o600)


@pytest.fixture
async def server():
    made = []

    def make(*addresses):
        made.append(Server(*addresses))
        return made[-1]

    yield make
    for one in made:
        one.doors.leave()
        one.doors.close()


async def turns():
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_stays_wanted_is_not_touched(server, tmp_path):
    unix = UnixAddress(tmp_path / "socket")
    s = server(ANY_PORT, unix)
    names = await s.open()
    assert names == s.doors.bound
    assert s.doors.complete
    async with asyncio.TaskGroup() as tasks:
        s.doors.start(tasks)
        await turns()
        assert s.doors.accepting
        port, path = s.doors.bound
        more = UnixAddress(tmp_path / "more")
        s.doors.addresses = (more, ANY_PORT)
        assert not (tmp_path / "socket").exists()
        assert s.taken == [path]
        assert not s.doors.complete
        assert s.doors.bound == (port,)
        assert await s.open() == (f"unix:{more.path}",)
        assert await s.open() == ()
        assert s.doors.bound == (f"unix:{more.path}", port)
        await turns()
        assert s.begun == [port, path, f"unix:{more.path}"]
        assert s.doors.accepting
        s.doors.close()
        assert s.doors.bound == (f"unix:{more.path}", port)
    assert sorted(s.taken) == sorted([path, f"unix:{more.path}", port])
    assert not s.doors.accepting
    assert s.doors.complete


async def test_the_same_any_port_twice_is_two_ports(server):
    s = server(ANY_PORT, ANY_PORT)
    await s.open()
    first, second = s.doors.bound
    s.doors.addresses = (ANY_PORT,)
    assert s.doors.bound == (first,)
    s.doors.addresses = (ANY_PORT, ANY_PORT)
    (third,) = await s.open()
    assert s.doors.bound == (first, third)
    assert len({first, second}) == 2


async def test_all_that_are_missing_are_had_or_none(server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = TcpAddress(*held.getsockname())
        s = server(ANY_PORT)
        (kept,) = await s.open()
        s.doors.addresses = (ANY_PORT, UnixAddress(tmp_path / "new"), taken)
        with pytest.raises(AddressInUse):
            await s.open()
        assert s.doors.bound == (kept,)
        assert not (tmp_path / "new").exists()
        assert not s.doors.complete


async def test_an_inherited_socket_stays_with_whoever_made_it(server):
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        s = server(inherited)
        async with asyncio.TaskGroup() as tasks:
            s.doors.start(tasks)
            for _ in range(2):
                await s.open()
                s.doors.addresses = ()
                s.doors.addresses = (inherited,)
            s.doors.leave()
            s.doors.close()
        # Who connects now waits for whoever listens next.
        socket.create_connection(inherited.getsockname()).close()
        assert s.taken == []


async def test_what_is_unwanted_before_it_is_ours_is_given_back(
    server, tmp_path, monkeypatch
):
    s = server(UnixAddress(tmp_path / "socket"))

    async def slow(addresses, *, socket_mode):
        listeners = await real(addresses, socket_mode=socket_mode)
        s.doors.addresses = ()
        return listeners

    real = s.doors.open.__globals__["bind"]
    monkeypatch.setattr("ssmtunneld.listener.acceptor.bind", slow)
    assert await s.open() == ()
    assert s.doors.bound == ()
    assert not (tmp_path / "socket").exists()


async def test_permissions_change_in_place(server, tmp_path):
    path = tmp_path / "socket"
    s = server(UnixAddress(path), ANY_PORT)
    await s.open()
    s.doors.set_mode(0o666)
    assert path.stat().st_mode & 0o777 == 0o666
    path.unlink()
    path.touch(0o600)
    s.doors.set_mode(0o640)  # that one is somebody else's
    assert path.stat().st_mode & 0o777 == 0o600


async def test_an_address_whose_file_is_gone_is_missing(server, tmp_path):
    unix = UnixAddress(tmp_path / "socket")
    s = server(ANY_PORT, unix)
    port, path = await s.open()
    assert s.doors.forget_lost() == ()
    async with asyncio.TaskGroup() as tasks:
        s.doors.start(tasks)
        await turns()
        unix.path.unlink()
        assert s.doors.forget_lost() == (path,)
        assert s.doors.bound == (port,)
        assert not s.doors.complete
        assert s.taken == [path]
        assert await s.open() == (path,)
        assert s.doors.complete
        await turns()
        assert s.begun == [port, path, path]
        s.doors.close()
