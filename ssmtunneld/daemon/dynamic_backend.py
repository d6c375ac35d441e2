"""The sessions of a tunnel whose clients name the destination: a pool for each.

A session leads to one host and port, so each destination that somebody asks for gets a
backend of its own, for as long as it is used. Their number is bounded: a
client that tries every port of a network must not start a session for each of them.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from ssmtunneld.aws.api.port import Identity
from ssmtunneld.base.compartment import run_compartment
from ssmtunneld.base.sentences import with_advice
from ssmtunneld.config import TunnelSettings
from ssmtunneld.config.destinations import Destination
from ssmtunneld.daemon.backend import Backend, BackendDependencies
from ssmtunneld.errors import TunnelError
from ssmtunneld.listener.proxy.protocol import TooManyDestinations
from ssmtunneld.observe.status import DestinationStatus
from ssmtunneld.sessions.counters import PoolSnapshot
from ssmtunneld.sessions.node_access import NodeAccess
from ssmtunneld.sessions.pool import PoolRetired
from ssmtunneld.transport.streams import StreamDuplex

if TYPE_CHECKING:
    from typing import Self

    from ssmtunneld.sessions.bastion import Bastion

_RETIRED: Final = "the tunnel's settings have changed meanwhile"


class DynamicBackend:
    """The backend of a tunnel, as :class:`Backend` is for one destination.

    Args:
        tunnel: The settings.
        dependencies: See :class:`Backend`.
        first: See :class:`Backend`.
    """

    ready = True
    """True if connections can come, so that sessions follow."""

    def __init__(
        self,
        tunnel: TunnelSettings,
        dependencies: BackendDependencies,
        *,
        first: bool = True,
    ) -> None:
        self._tunnel = tunnel
        self._dependencies = dependencies
        self._log = dependencies.log
        self._counters = dependencies.counters
        self._defects = dependencies.defects
        self._first = first
        self._resting = False
        self._retired = False
        # The least recently used one comes first.
        self._used: dict[Destination, _Place] = {}
        self._leaving: set[_Place] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._running = asyncio.Event()
        self._left = asyncio.Event()
        self._access = dependencies.context.access(tunnel)
        self._bastion = dependencies.context.bastions.get(tunnel)
        controls = dependencies.context.controls
        self._login = controls.get(Identity.of(tunnel)).login

    @property
    def tunnel(self) -> TunnelSettings:
        """The settings; replaceable by settings that need no new session."""
        return self._tunnel

    @tunnel.setter
    def tunnel(self, tunnel: TunnelSettings) -> None:
        self._tunnel = tunnel
        for place in self._places():
            place.backend.tunnel = tunnel.towards(place.destination)

    @property
    def resting(self) -> bool:
        """True if sessions end as soon as no connection needs them."""
        return self._resting

    @resting.setter
    def resting(self, resting: bool) -> None:
        self._resting = resting
        for place in self._places():
            place.backend.resting = resting
        for place in [place for place in self._used.values() if not place.busy]:
            if resting:
                self._dismiss(place)

    @property
    def login(self) -> TunnelError | None:
        """The error that makes the tunnel's identity unusable; None if usable."""
        return self._login.trouble_of(self._tunnel.name)

    @property
    def access(self) -> NodeAccess | None:
        """The access to its node; None where nobody must ask for it."""
        return None if self._access is None else self._access.node

    @property
    def bastion(self) -> "Bastion | None":
        """The instance, where it is started on demand."""
        return self._bastion

    def _places(self) -> Iterator["_Place"]:
        yield from self._leaving
        yield from self._used.values()

    # Life.

    async def run(self) -> None:
        """Keep sessions until cancelled, or until retired and the last one is over.

        Cancelling terminates all of them.
        """
        # After a defect nobody runs what was in use before.
        self._used.clear()
        self._leaving.clear()
        try:
            await self._run()
        finally:
            self._running.clear()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as self._tasks:
            self._running.set()
            attending = self._tasks.create_task(
                run_compartment("login", self._login.attend, self._defects),
                name=f"{self._tunnel.name} login",
            )
            following = self._tasks.create_task(
                run_compartment("access", self._follow_access, self._defects),
                name=f"{self._tunnel.name} access",
            )
            watching = self._tasks.create_task(
                run_compartment("bastion", self._follow_bastion, self._defects),
                name=f"{self._tunnel.name} bastion",
            )
            while not self._retired:
                self._left.clear()
                await self._left.wait()
            await self.emptied()
            attending.cancel()
            following.cancel()
            watching.cancel()

    async def _follow_access(self) -> None:
        """Follow the access request, also while nobody names a destination."""
        if self._access is not None:
            with self._login.telling(self._access.node.hurry):
                await self._access.node.attend()

    async def _follow_bastion(self) -> None:
        """Look after the instance, also while nobody names a destination."""
        if self._bastion is not None:
            with self._login.telling(self._bastion.hurry):
                await self._bastion.attend()

    async def stop(self) -> None:
        """End all sessions politely; streams are cut. Then cancel :meth:`run`."""
        async with asyncio.TaskGroup() as tasks:
            for place in self._places():
                stopping = self._defects.attempt("session", place.backend.pool.stop)
                tasks.create_task(stopping, name=str(place))

    def retire(self) -> None:
        """Start nothing more: sessions end with their last stream, then :meth:`run`."""
        self._retired = True
        for place in list(self._used.values()):
            self._dismiss(place)
        self._left.set()

    async def emptied(self) -> None:
        """Return when no session is left, also at the service. Cancelling is safe.

        For ever, if destinations are still asked for: be it ``resting`` or retired.
        """
        while any(self._places()):
            self._left.clear()
            await self._left.wait()

    # Streams.

    async def open_stream(
        self, destination: Destination, timeout: float
    ) -> StreamDuplex:
        """Return a stream to ``destination``. Cancelling is safe.

        Args:
            destination: One that the patterns allow.
            timeout: Seconds that a session can take.

        Raises:
            NoSessionReady: There was none in time; says why.
            PoolRetired: Ask its successor.
            TooManyDestinations: The limit of destinations is reached.
        """
        await self._running.wait()
        while True:
            if self._retired:
                raise PoolRetired(_RETIRED)
            place = self._place(destination)
            try:
                return await place.open_stream(timeout)
            except PoolRetired:
                # It left because nobody used it, in the very moment: it gets another.
                await asyncio.sleep(0)

    def _place(self, destination: Destination) -> "_Place":
        place = self._used.pop(destination, None)
        if place is None:
            self._make_room(destination)
            place = self._begin(destination)
        self._used[destination] = place  # behind all others
        return place

    def _make_room(self, destination: Destination) -> None:
        limit = self._tunnel.max_destinations
        while len(self._used) >= limit:
            idle = [place for place in self._used.values() if not place.busy]
            # Those that leave are bounded, too: their sessions take a moment to end.
            if not idle or len(self._leaving) >= limit:
                raise TooManyDestinations(destination, limit)
            self._dismiss(min(idle, key=lambda place: place.used_at))

    def _begin(self, destination: Destination) -> "_Place":
        assert self._tasks is not None, "a client before run()"
        log = self._log.bind(destination=str(destination))
        backend = Backend(
            self._tunnel.towards(destination),
            replace(self._dependencies, log=log),
            first=self._first,
        )
        backend.resting = self._resting
        self._first = False
        place = _Place(destination, backend)
        self._tasks.create_task(self._keep(place), name=f"sessions to {destination}")
        self._log.debug("destination.entered", destination=str(destination))
        return place

    async def _keep(self, place: "_Place") -> None:
        try:
            await run_compartment(
                "destination", lambda: self._serve(place), self._defects
            )
        finally:
            self._leaving.discard(place)
            self._left.set()

    async def _serve(self, place: "_Place") -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._attend(place), name=f"end of {place}")
            await place.backend.run()
            watching.cancel()

    async def _attend(self, place: "_Place") -> None:
        """Dismiss a destination when it has been unused for long enough."""
        await place.unused()
        if self._used.get(place.destination) is place:
            self._dismiss(place)

    def _dismiss(self, place: "_Place") -> None:
        del self._used[place.destination]
        self._leaving.add(place)
        place.backend.pool.retire()
        self._log.debug("destination.left", destination=str(place))

    # Observation: what one asks of a pool, answered for all of them.

    @property
    def pool(self) -> "Self":
        """Itself."""
        return self

    async def wait_ready(self) -> None:
        """Return: see ``ready``."""

    def open_probe(self) -> None:
        """Return nothing: there is no destination to probe before a client names it."""

    @property
    def rtt(self) -> float | None:
        """The round-trip time to the destination of the last client, in seconds."""
        known = (p.backend.pool.rtt for p in reversed(self._used.values()))
        return next((rtt for rtt in known if rtt is not None), None)

    def snapshot(self) -> PoolSnapshot:
        """Return what there is to see of all pools together.

        One destination's failure is not a trouble while another works.
        """
        found = [place.backend.pool.snapshot() for place in self._places()]
        troubles = [pool.trouble for pool in found]
        delays = [pool.retry_in for pool in found if pool.retry_in is not None]
        troubled = None not in troubles
        return PoolSnapshot(
            name=self._tunnel.name,
            members=tuple(member for pool in found for member in pool.members),
            waiting=sum(pool.waiting for pool in found),
            trouble=next(iter(troubles), None) if troubled else None,
            retry_in=min(delays, default=None) if troubled else None,
            warm=0,
            counts=self._counters.read(),
        )

    def listing(self) -> tuple[DestinationStatus, ...]:
        """Return the destinations in use, the most recent one last."""
        return tuple(place.status() for place in self._used.values())


class _Place:
    """One destination in use.

    Attributes:
        destination: Where it is.
        backend: Its sessions.
    """

    def __init__(self, destination: Destination, backend: Backend) -> None:
        self.destination = destination
        self.backend = backend
        self._loop = asyncio.get_running_loop()
        self._asked_at = self._loop.time()
        self._asking = 0
        self._accepted = 0

    @override
    def __str__(self) -> str:
        return str(self.destination)

    async def open_stream(self, timeout: float) -> StreamDuplex:
        """Return a stream; see :meth:`Pool.open_stream`."""
        self._asked_at = self._loop.time()
        self._asking += 1
        self._accepted += 1
        try:
            return await self.backend.pool.open_stream(timeout)
        finally:
            self._asking -= 1

    @property
    def busy(self) -> bool:
        """True if a connection uses it or waits for it."""
        members = self.backend.pool.snapshot().members
        return bool(self._asking) or any(member.view.streams for member in members)

    @property
    def used_at(self) -> float:
        """Time of its last use or request by a connection, on the loop's clock."""
        members = self.backend.pool.snapshot().members
        return max([self._asked_at, *(member.view.idle_since for member in members)])

    async def unused(self) -> None:
        """Return once it has no session, nor use for one. Cancelling is safe."""
        pool = self.backend.pool
        while True:
            await pool.wait_for(self._is_unused)
            delay = pool.snapshot().retry_in
            if delay is None or self.backend.resting:
                return
            # What it has learnt from failures is worth keeping as long as it counts.
            await asyncio.sleep(delay)

    def _is_unused(self) -> bool:
        return not self._asking and not self.backend.pool.snapshot().members

    def status(self) -> DestinationStatus:
        """Return how it is."""
        pool = self.backend.pool.snapshot()
        return DestinationStatus(
            name=str(self.destination),
            accepted=self._accepted,
            connections=sum(member.view.streams for member in pool.members),
            waiting=pool.waiting,
            sessions=len(pool.members),
            reason=_explain(pool.trouble),
        )


def _explain(trouble: TunnelError | None) -> str:
    if trouble is None:
        return ""
    return with_advice(str(trouble), trouble.advice)
