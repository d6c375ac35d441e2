"""The connections of all tunnels and their clients, looked at together.

Thousands of them must not hold up the loop, nor have us look through the files of
all processes for each who asks: a look is good for a second, and for everybody.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from ssmtunneld.daemon.tunnel import Tunnel
from ssmtunneld.listener.client import Client, identify
from ssmtunneld.listener.connection import Connection
from ssmtunneld.observe.connections import ConnectionStatus, connection_status
from ssmtunneld.serve.cached_document import Fresh

RATE_TIME: Final = 0.5
"""Seconds between two looks at the bytes, where there was none lately."""
RATE_AGE: Final = 10.0
"""Seconds after which the look before says nothing of recent rates."""
BATCH: Final = 128
"""Connections that are looked at in one turn of the loop: about 2 ms."""


class ConnectionSurvey:
    """Looks at all connections when somebody asks.

    Args:
        tunnels: Returns the tunnels, in the order of the file.
        wall_clock: Returns the time in Unix seconds.
        find_out: Finds out who clients are; can block, and runs in a thread.
    """

    def __init__(
        self,
        tunnels: Callable[[], Iterable[Tunnel]],
        *,
        wall_clock: Callable[[], float],
        find_out: Callable[[Sequence[Client]], None] = identify,
    ) -> None:
        self._tunnels = tunnels
        self._wall_clock = wall_clock
        self._find_out = find_out
        self._fresh = Fresh(self._look)
        self._before: dict[str, tuple[int, int]] = {}
        self._looked_at = float("-inf")

    async def get(self) -> list[ConnectionStatus]:
        """Return all connections, as of this second. Cancelling is safe.

        Those that have ended since the look are left out: who has killed one would do
        it again.
        """
        found = await self._fresh.get(None)
        left = {connection.name for _, connection in self._open()}
        if all(each.id in left for each in found):
            return found
        return [each for each in found if each.id in left]

    async def _look(self, _: None) -> list[ConnectionStatus]:
        loop = asyncio.get_running_loop()
        if loop.time() - self._looked_at > RATE_AGE:
            self._note(loop.time())
            if self._before:
                await asyncio.sleep(RATE_TIME)
        unknown = [c.client for _, c in self._open() if not c.client.settled]
        if unknown:
            await asyncio.to_thread(self._find_out, unknown)
        found: list[ConnectionStatus] = []
        elapsed = loop.time() - self._looked_at
        for tunnel, connection in list(self._open()):
            found.append(self._status(tunnel, connection, loop.time(), elapsed))
            if len(found) % BATCH == 0:
                await asyncio.sleep(0)
        self._note(loop.time())
        return found

    def _open(self) -> Iterator[tuple[Tunnel, Connection]]:
        for tunnel in self._tunnels():
            for connection in tunnel.server.connections():
                yield tunnel, connection

    def _note(self, now: float) -> None:
        self._before = {
            connection.name: (connection.meter.sent, connection.meter.received)
            for _, connection in self._open()
        }
        self._looked_at = now

    def _status(
        self, tunnel: Tunnel, connection: Connection, now: float, elapsed: float
    ) -> ConnectionStatus:
        meter = connection.meter
        sent, received = self._before.get(connection.name, (0, 0))
        # One that came since the last look has moved all it has since it came.
        time = max(min(elapsed, now - connection.since), 1e-3)
        return connection_status(
            connection,
            tunnel=tunnel.settings.name,
            destination=tunnel.fixed_destination,
            now=now,
            wall_clock=self._wall_clock(),
            rates=((meter.sent - sent) / time, (meter.received - received) / time),
        )
