import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from ssmtunneld.sessions.network_watch import (
    JUMP,
    POLL_INTERVAL,
    NetworkWatch,
    local_addresses,
    open_route_socket,
)
from tests.sessions.rig import now
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse

HOME = ("192.0.2.10",)
CAFE = ("198.51.100.7",)


class Machine:
    """A machine whose clock and addresses the test changes."""

    def __init__(self) -> None:
        self.slept = 1_700_000_000.0
        self.addresses = HOME
        self.seen: list[str] = []

    def wall_clock(self) -> float:
        return self.slept + now()


@asynccontextmanager
async def watched(
    route: socket.socket | None = None,
) -> AsyncIterator[Machine]:
    machine = Machine()
    watch = NetworkWatch(
        machine.seen.append,
        wall_clock=machine.wall_clock,
        route=route,
        addresses=lambda: machine.addresses,
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch.run(), name="watch")
        await asyncio.sleep(0)
        yield machine
        task.cancel()


@virtual
async def test_nothing_is_seen_while_nothing_changes():
    async with watched() as machine:
        await elapse(3600)
        assert machine.seen == []


@virtual
async def test_a_jump_of_the_wall_clock_is_a_sleep():
    async with watched() as machine:
        await elapse(60)
        machine.slept += 3600
        await elapse(POLL_INTERVAL)
        assert machine.seen == ["sleep"]
        await elapse(600)
        assert machine.seen == ["sleep"]


@virtual
async def test_a_clock_that_is_set_back_is_noticed_too():
    async with watched() as machine:
        machine.slept -= 3600
        await elapse(POLL_INTERVAL)
        assert machine.seen == ["sleep"]


@virtual
async def test_a_clock_that_is_corrected_slowly_is_no_sleep():
    async with watched() as machine:
        for _ in range(100):
            machine.slept += JUMP / 2
            await elapse(POLL_INTERVAL)
        assert machine.seen == []


@virtual
async def test_another_address_is_another_network_where_nothing_tells_us():
    async with watched() as machine:
        machine.addresses = CAFE
        await elapse(POLL_INTERVAL)
        machine.addresses = ()
        await elapse(POLL_INTERVAL)
        assert machine.seen == ["network", "network"]


@virtual
async def test_waking_up_somewhere_else_is_both():
    async with watched() as machine:
        machine.slept += 3600
        machine.addresses = CAFE
        await elapse(POLL_INTERVAL)
        assert machine.seen == ["sleep", "network"]


@pytest.fixture
def kernel():
    """The kernel's end of a route socket, and ours."""
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    yield theirs, ours
    theirs.close()
    ours.close()


def told(theirs: socket.socket, messages: int = 3) -> None:
    for _ in range(messages):
        theirs.send(b"something about a route")


@pytest.mark.parametrize(("addresses", "seen"), [(CAFE, "network"), (HOME, "route")])
def test_what_the_kernel_tells_is_judged_by_the_addresses(kernel, addresses, seen):
    theirs, ours = kernel

    @virtual
    async def main():
        async with watched(ours) as machine:
            machine.addresses = addresses
            told(theirs)
            await elapse(2)
            assert machine.seen == [seen], "a burst is one change"
            await elapse(600)
            assert machine.seen == [seen]

    main()


def test_messages_that_did_not_fit_are_a_change_too():
    # ENOBUFS comes from a full queue; a refused datagram is the error at hand.
    address = ("127.0.0.1", 9)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.connect(address)

        @virtual
        async def main():
            async with watched(udp) as machine:
                udp.send(b"nobody listens")
                await elapse(2)
                assert machine.seen == ["route"]

        main()


def test_a_cancelled_watch_closes_its_socket(kernel):
    _, ours = kernel

    @virtual
    async def main():
        async with watched(ours):
            assert ours.fileno() >= 0
        assert ours.fileno() == -1

    main()


# The real machine.


def test_the_addresses_of_this_machine_are_addresses():
    for address in local_addresses():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        assert socket.inet_pton(family, address)


class Refusing(socket.socket):
    """A socket on a machine without any route, or in a sandbox."""

    def connect(self, address: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    def bind(self, address: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")


def test_without_a_route_there_is_no_address(monkeypatch):
    monkeypatch.setattr(socket, "socket", Refusing)
    assert local_addresses() == ()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has netlink")
def test_linux_tells_of_its_routes_where_it_is_allowed_to():
    route = open_route_socket()
    if route is not None:
        with route:
            assert not route.getblocking()


def test_other_systems_have_no_route_socket(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert open_route_socket() is None


def forbidden(*_: object) -> socket.socket:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has netlink")
@pytest.mark.parametrize("make", [forbidden, Refusing], ids=["socket", "bind"])
def test_a_sandbox_may_forbid_it(monkeypatch, make: Callable[..., socket.socket]):
    monkeypatch.setattr(socket, "socket", make)
    assert open_route_socket() is None
