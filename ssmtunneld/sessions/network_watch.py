"""Notices that the machine slept or that its network is another one (design D4).

A process that slept finds the monotonic clock where it left it (Linux, macOS), while
the wall clock has jumped. A change of network shows on Linux as a message on a netlink
route socket; elsewhere the addresses of the default route are asked for now and then.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Final

POLL_INTERVAL: Final = 5.0
"""Seconds between looks at the clocks, and at the addresses where nothing tells us."""
JUMP: Final = 10.0
"""Seconds by which the clocks must differ: a slow correction of the time is less."""
BURST_TIME: Final = 1.0
"""Seconds to wait after a first sign of change: routes and addresses come in bursts."""

_RTMGRP_LINK: Final = 0x1
_RTMGRP_IPV4_IFADDR: Final = 0x10
_RTMGRP_IPV4_ROUTE: Final = 0x40
_RTMGRP_IPV6_IFADDR: Final = 0x100
_RTMGRP_IPV6_ROUTE: Final = 0x400
_GROUPS: Final = (
    _RTMGRP_LINK
    | _RTMGRP_IPV4_IFADDR
    | _RTMGRP_IPV4_ROUTE
    | _RTMGRP_IPV6_IFADDR
    | _RTMGRP_IPV6_ROUTE
)
# Documentation addresses (RFC 5737, RFC 3849): connect() on UDP only looks up a route.
_PROBES: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def open_route_socket() -> socket.socket | None:
    """Return a socket that becomes readable when links, addresses or routes change.

    ``None`` where there is no such thing (not Linux, or forbidden by a sandbox).
    """
    if sys.platform != "linux":
        return None
    try:
        route = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
        )
    except OSError:
        return None
    try:
        route.bind((0, _GROUPS))
    except OSError:
        route.close()
        return None
    return route


def local_addresses() -> tuple[str, ...]:
    """Return the addresses that this machine would use towards the internet.

    Nothing is sent. Without a route there is no address.
    """
    found: list[str] = []
    for family, probe in _PROBES:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as udp:
                udp.connect((probe, 9))
                found.append(str(udp.getsockname()[0]))
        except OSError:
            continue
    return tuple(found)


class NetworkWatch:
    """Calls back when old connections could be dead, or new ones possible.

    Args:
        changed: Called with ``"sleep"``, ``"network"`` or, where our own address is as
            before and only some route or interface is not, ``"route"``.
        wall_clock: Returns the Unix time in seconds.
        route: Becomes readable on change; ``None`` to compare addresses instead. It is
            owned from here on: :meth:`run` closes it.
        addresses: Returns the addresses to compare.
    """

    def __init__(
        self,
        changed: Callable[[str], None],
        *,
        wall_clock: Callable[[], float],
        route: socket.socket | None,
        addresses: Callable[[], tuple[str, ...]] = local_addresses,
    ) -> None:
        self._changed = changed
        self._wall_clock = wall_clock
        self._route = route
        self._addresses = addresses
        self._told = asyncio.Event()
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Watch until cancelled; to be called once."""
        loop = asyncio.get_running_loop()
        if self._route is not None:
            loop.add_reader(self._route.fileno(), self._on_event, self._route)
        try:
            await self._watch(loop)
        finally:
            if self._route is not None:
                loop.remove_reader(self._route.fileno())
                self._route.close()

    async def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        offset = self._wall_clock() - loop.time()
        known = self._addresses()
        while True:
            try:
                async with asyncio.timeout(POLL_INTERVAL):
                    await self._told.wait()
            except TimeoutError:
                pass
            if self._failure is not None:
                raise self._failure
            now_offset = self._wall_clock() - loop.time()
            if abs(now_offset - offset) > JUMP:
                self._changed("sleep")
            offset = now_offset
            told = self._told.is_set()
            if told:
                await asyncio.sleep(BURST_TIME)
                self._told.clear()
            addresses = self._addresses()
            if addresses != known:
                self._changed("network")
            elif told:
                # Perhaps a VPN; more often a container, which is not about us.
                self._changed("route")
            known = addresses

    def _on_event(self, route: socket.socket) -> None:
        try:
            self._on_readable(route)
        except Exception as error:  # noqa: BLE001 - run() raises it instead
            # Or the loop would call us again in each turn.
            asyncio.get_running_loop().remove_reader(route.fileno())
            self._failure = error
            self._told.set()

    def _on_readable(self, route: socket.socket) -> None:
        try:
            while route.recv(65536):
                self._told.set()
        except BlockingIOError:
            pass
        except OSError:
            # ENOBUFS: more has changed than fits; that is a change too.
            self._told.set()
