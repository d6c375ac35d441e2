"""The acceptor of HTTP connections: it binds, screens, counts, and ends them."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.base.log import get_log
from ssmtunneld.config import TcpAddress
from ssmtunneld.errors import AddressInUse
from ssmtunneld.listener.sockets import bind
from ssmtunneld.serve.http_acceptor import (
    LIFETIME,
    LIMIT,
    REQUEST_LIMIT,
    HttpAcceptor,
)
from tests.integration.world import PATIENCE, logging
from tests.support.turns import until


@pytest.fixture
async def events():
    async with logging() as caught:
        yield caught


class Conversation(asyncio.Protocol):
    """A connection that says hello and then waits."""

    def __init__(self, present):
        self._present = present
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.heard = 0
        self._present.append(self)
        transport.write(b"hello")

    def data_received(self, data):
        self.heard += len(data)

    def connection_lost(self, exc):
        self._present.remove(self)
        self.transport = None


class House:
    """A doorway and who is inside."""

    def __init__(self, *addresses, admit=lambda _: True):
        self.present = []
        self.opened = []
        self.doorway = HttpAcceptor(
            addresses,
            admit=admit,
            enter=lambda: Conversation(self.present),
            present=lambda: list(self.present),
            log=get_log(),
            opened=lambda: self.opened.append(self.doorway.bound),
            rebind_interval=0.01,
        )

    @asynccontextmanager
    async def open(self):
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.doorway.run())
            try:
                yield
            finally:
                for each in self.present:
                    each.transport.abort()
                task.cancel()

    @property
    def port(self):
        return int(self.doorway.bound[0].rpartition(":")[2])


ANY = TcpAddress("127.0.0.1", 0)


async def enter(house):
    """Connect, and return the streams once we have been greeted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    async with asyncio.timeout(PATIENCE):
        assert await reader.readexactly(5) == b"hello"
    return reader, writer


async def ended(reader):
    """Return once the other side has cut the connection."""
    async with asyncio.timeout(PATIENCE):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)


async def test_connections_come_in(events):
    house = House(ANY)
    async with house.open():
        await events.wait_for("http.bound")
        _, writer = await enter(house)
        writer.transport.abort()


async def test_localhost_is_two_addresses(events):
    house = House(TcpAddress("localhost", 0))
    async with house.open():
        await events.wait_for("http.bound")
        assert house.doorway.bound


async def test_beyond_the_limit_the_oldest_goes(events):
    house = House(ANY)
    async with house.open():
        await events.wait_for("http.bound")
        crowd = [await enter(house) for _ in range(LIMIT)]
        newest = await enter(house)
        await ended(crowd[0][0])
        assert len(house.present) == LIMIT
        for _, writer in [*crowd, newest]:
            writer.transport.abort()


async def test_whoever_says_too_much_is_ended(events):
    house = House(ANY)
    async with house.open():
        await events.wait_for("http.bound")
        reader, writer = await enter(house)
        (inside,) = house.present
        writer.write(bytes(REQUEST_LIMIT))
        await until(lambda: inside.heard == REQUEST_LIMIT)
        assert house.present == [inside]
        writer.write(b"x")
        await ended(reader)
        await until(lambda: house.present == [])
        assert inside.heard == REQUEST_LIMIT
        writer.transport.abort()


async def test_whoever_is_too_old_is_ended_whatever_it_does(events):
    house = House(ANY)
    async with house.open():
        await events.wait_for("http.bound")
        reader, writer = await enter(house)
        now = asyncio.get_running_loop().time()
        house.doorway.end_old(now)
        house.doorway.end_old(now + LIFETIME - 1)
        assert len(house.present) == 1
        house.doorway.end_old(now + LIFETIME + 1)
        await ended(reader)
        writer.transport.abort()


def test_one_that_has_gone_already_is_left_alone():
    house = House(ANY)
    gone = Conversation(house.present)
    house.present.append(gone)
    house.doorway.end_old(0.0)
    house.doorway.end_old(LIFETIME)
    house.present.clear()
    house.doorway.end_old(LIFETIME)
    assert house.doorway._since == {}


async def test_whoever_may_not_come_in_is_told_nothing(events):
    asked = []
    house = House(ANY, admit=asked.append)
    async with house.open():
        await events.wait_for("http.bound")
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        await ended(reader)
        writer.transport.abort()
        line = await events.wait_for("http.refused")
    assert asked == ["127.0.0.1"]
    assert (line["rule"], line["peer"], line["level"]) == (
        "address",
        "127.0.0.1",
        "warning",
    )


async def test_a_taken_address_is_said_once_and_had_in_the_end(events):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        house = House(TcpAddress("127.0.0.1", port))
        async with house.open():
            line = await events.wait_for("http.failed")
            assert len(house.opened) == 1  # nobody need wait for it
            # Some attempts later there is still only one line.
            for _ in range(3):
                with pytest.raises(AddressInUse):
                    await bind([TcpAddress("127.0.0.1", port)], socket_mode=0o600)
            holder.close()
            await events.wait_for("http.bound")
            assert house.port == port
    assert str(port) in line["reason"]
    assert line["advice"]
    assert len(events.find("http.failed")) == 1
    assert len(house.opened) == 1


async def test_it_says_once_that_all_addresses_are_open(events):
    house = House(ANY, ANY, ANY)
    async with house.open():
        await events.wait_for("http.bound", count=3)
        (bound,) = house.opened
        assert len(bound) == 3


async def test_running_out_of_files_is_a_pause(events, monkeypatch):
    house = House(ANY)
    errors = [OSError(24, "Too many open files"), ConnectionAbortedError()]
    real = socket.socket.accept

    def accept(sock):
        if errors:
            raise errors.pop(0)
        return real(sock)

    async with house.open():
        await events.wait_for("http.bound")
        monkeypatch.setattr(socket.socket, "accept", accept)
        _, writer = await enter(house)
        writer.transport.abort()
    assert errors == []
    assert "Too many open files" in (await events.wait_for("http.failed"))["reason"]
