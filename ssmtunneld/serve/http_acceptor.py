"""Acceptance of HTTP connections: listening, access, limit of number and age.

Anybody on this machine can connect to a loopback port. So there is a limit to their
number, and one to their age, whatever they are doing; beyond the limit the oldest one
goes, so that a probe gets its answer even while somebody holds on to all the rest.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, cast

from typing_extensions import override

from ssmtunneld.base.bounded_reads import BoundedReads
from ssmtunneld.base.log import EventLog
from ssmtunneld.errors import AddressInUse, SsmtunneldError
from ssmtunneld.listener.acceptor import Acceptor
from ssmtunneld.listener.sockets import ListenAddress, Listener

LIMIT: Final = 64
"""Connections at once."""
REQUEST_LIMIT: Final = 32 << 10
"""Bytes that are taken from one connection: it has one request, of which browsers make
2 KiB. A parser bounds the lines of a request and their number late, or not at all."""
LIFETIME: Final = 15.0
"""Seconds for a connection, from its start to its last byte. Prometheus gives up after
ten, Kubernetes after one."""
SWEEP_INTERVAL: Final = 1.0
"""Seconds between looks at their ages."""
REBIND_INTERVAL: Final = 5.0
"""Seconds between attempts to listen on an address that cannot be bound."""
EXHAUSTED_PAUSE: Final = 1.0
"""Seconds that accepting rests when the process is out of something."""
SOCKET_MODE: Final = 0o600


class HttpConnection(Protocol):
    """A connection's protocol, as far as its life goes."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport; ``None`` once it is closed."""
        ...


class _Doorstep(BoundedReads):
    """Passes on what a client says, so much of it and no more.

    Args:
        inside: The protocol that answers.
    """

    def __init__(self, inside: asyncio.Protocol) -> None:
        super().__init__(inside)
        self._inside = inside
        self._left = REQUEST_LIMIT
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._inside.connection_made(transport)

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self._left -= nbytes
        if self._left >= 0:
            super().buffer_updated(nbytes)
        elif self._transport is not None:
            self._transport.abort()


class HttpAcceptor:
    """Listens, and hands every connection that may come in to a protocol.

    Args:
        addresses: Where to listen.
        admit: Whether a connection from this address may come in; ``None`` stands for
            a Unix socket.
        enter: Makes the protocol of a connection.
        present: Returns the connections of this moment, oldest first.
        log: Where to say what cannot be.
        opened: Called once, when it listens on every address that can be bound now.
        rebind_interval: Seconds between attempts to listen.
    """

    def __init__(
        self,
        addresses: Sequence[ListenAddress],
        *,
        admit: Callable[[str | None], bool],
        enter: Callable[[], asyncio.Protocol],
        present: Callable[[], Sequence[HttpConnection]],
        log: EventLog,
        opened: Callable[[], None] = lambda: None,
        rebind_interval: float = REBIND_INTERVAL,
    ) -> None:
        self._addresses = addresses
        self._admit = admit
        self._enter = enter
        self._present = present
        self._log = log
        self._opened = opened
        self._untried = len(addresses)
        self._rebind_interval = rebind_interval
        self._since: dict[HttpConnection, float] = {}
        self.bound: tuple[str, ...] = ()
        """The addresses with their real ports; empty while there is none."""

    async def run(self) -> None:
        """Listen until cancelled; an address that cannot be bound is tried again."""
        async with asyncio.TaskGroup() as tasks:
            for address in self._addresses:
                tasks.create_task(self._serve(address), name=f"http {address}")
            tasks.create_task(self._sweep(), name="http sweep")

    async def _serve(self, address: ListenAddress) -> None:
        # One for each address: each is bound when it can be, whatever the others do.
        acceptor = Acceptor([address], self._accept)
        try:
            await self._bind(acceptor)
            async with asyncio.TaskGroup() as tasks:
                acceptor.start(tasks)
        finally:
            acceptor.close()

    async def _bind(self, acceptor: Acceptor) -> None:
        try:
            await self._listen(acceptor)
        except (AddressInUse, OSError) as error:
            # Once, however often it is tried.
            advice = error.advice if isinstance(error, SsmtunneldError) else ""
            self._log.warning("http.failed", reason=str(error), advice=advice)
        self._note_attempt()
        while not acceptor.complete:
            await asyncio.sleep(self._rebind_interval)
            with suppress(AddressInUse, OSError):
                await self._listen(acceptor)

    async def _listen(self, acceptor: Acceptor) -> None:
        for name in await acceptor.open(SOCKET_MODE):
            self.bound = (*self.bound, name)
            self._log.info("http.bound", address=name)

    def _note_attempt(self) -> None:
        self._untried -= 1
        if not self._untried:
            self._opened()

    async def _accept(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await listener.readable()
            try:
                sock, peer = listener.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                self._log.warning("http.failed", reason=str(error), advice="")
                await asyncio.sleep(EXHAUSTED_PAUSE)
                continue
            if self._may_enter(sock, peer):
                await loop.connect_accepted_socket(
                    lambda: _Doorstep(self._enter()), sock
                )

    def _may_enter(self, sock: socket.socket, peer: object) -> bool:
        sock.settimeout(0)
        address = str(peer[0]) if isinstance(peer, tuple) else None
        if not self._admit(address):
            sock.close()
            self._log.warning("http.refused", rule="address", peer=address)
            return False
        present = self._present()
        if len(present) >= LIMIT:
            _end(present[0])
        return True

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.end_old(loop.time())
            await asyncio.sleep(SWEEP_INTERVAL)

    def end_old(self, now: float) -> None:
        """End the connections that are too old at ``now``, and note new ones."""
        present = self._present()
        self._since = {each: self._since.get(each, now) for each in present}
        for each, since in self._since.items():
            if now >= since + LIFETIME:
                _end(each)


def _end(conversation: HttpConnection) -> None:
    # Not close(): that would wait for a reader who does not read.
    if conversation.transport is not None:
        conversation.transport.abort()
