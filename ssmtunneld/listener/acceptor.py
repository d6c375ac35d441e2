"""The listening sockets of one server, and an accept loop for each of them.

Which addresses are wanted may change at any time: those that stay wanted are not
touched, so that nobody is refused at them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ssmtunneld.listener.sockets import bind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from ssmtunneld.listener.sockets import ListenAddress, Listener


@dataclass(slots=True)
class _ListeningSocket:
    """One address that is ours: two sockets for ``localhost``."""

    address: ListenAddress
    listeners: list[Listener]
    acceptors: list[asyncio.Task[None]] = field(default_factory=list)


class Acceptor:
    """Where a server listens.

    Args:
        addresses: Where to listen. A socket that somebody else made stays theirs, open:
            connections wait in it for whoever listens next.
        accept: Accepts from a listener until cancelled.
        take: Accepts what waits at a listener that is about to be closed.

    Attributes:
        bound: The addresses that are ours, spelled with their real ports.
    """

    def __init__(
        self,
        addresses: Sequence[ListenAddress],
        accept: Callable[[Listener], Coroutine[Any, Any, None]],
        take: Callable[[Listener], None],
    ) -> None:
        self._addresses = tuple(addresses)
        self._accept = accept
        self._take = take
        self._acceptor: list[_ListeningSocket] = []
        self._tasks: asyncio.TaskGroup | None = None
        self.bound: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """Where to listen; what a change leaves out is given back at once.

        Whoever had connected there by then is accepted. What a change adds is for
        :meth:`open`.
        """
        return self._addresses

    @addresses.setter
    def addresses(self, addresses: Sequence[ListenAddress]) -> None:
        self._addresses = tuple(addresses)
        wanted = list(addresses)
        for door in list(self._acceptor):
            if door.address in wanted:
                wanted.remove(door.address)
            else:
                self._acceptor.remove(door)
                self._shut(door)
        self._name()

    @property
    def complete(self) -> bool:
        """Whether every address that is wanted is ours."""
        return not self._missing()

    @property
    def accepting(self) -> bool:
        """Whether every accept loop is alive, even if it rests at the moment."""
        return bool(self._acceptor) and all(
            door.acceptors and not any(a.done() for a in door.acceptors)
            for door in self._acceptor
        )

    async def open(self, socket_mode: int) -> tuple[str, ...]:
        """Listen on the addresses that are missing, on all of them or on none.

        Cancelling is safe: nothing stays bound that was not before. To be called by one
        at a time.

        Returns:
            The addresses that became ours by this.

        Raises:
            AddressInUse: An address cannot be had; names the holder where it can.
            PermissionError: We may not bind an address; says what would help.
        """
        doors = await _open(self._missing(), socket_mode)
        self._acceptor += doors
        # Finding out who holds an address takes a while; it may be unwanted by now.
        self.addresses = self._addresses
        for door in doors:
            if door in self._acceptor:
                self._begin(door)
        return tuple(
            listener.name
            for door in doors
            if door in self._acceptor
            for listener in door.listeners
        )

    @property
    def listeners(self) -> list[Listener]:
        """Every listening socket that is ours."""
        return [listener for door in self._acceptor for listener in door.listeners]

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Accept in ``tasks`` from now on."""
        self._tasks = tasks
        for door in self._acceptor:
            self._begin(door)

    def leave(self) -> None:
        """Start nothing more in the tasks of :meth:`start`: they are ending."""
        self._tasks = None

    def close(self) -> None:
        """Give everything back; :attr:`bound` goes on naming it. Idempotent."""
        doors, self._acceptor, self._addresses = self._acceptor, [], ()
        for door in doors:
            self._shut(door)

    def forget_lost(self) -> tuple[str, ...]:
        """Give back the addresses whose files are gone: :meth:`open` makes them again.

        Whoever had connected there by then is accepted.

        Returns:
            How they are spelled.
        """
        lost = [d for d in self._acceptor if any(x.lost for x in d.listeners)]
        for door in lost:
            self._acceptor.remove(door)
            self._shut(door)
        if lost:
            self._name()
        return tuple(listener.name for door in lost for listener in door.listeners)

    def set_mode(self, socket_mode: int) -> None:
        """Change the permissions of the Unix sockets that are ours."""
        for listener in self.listeners:
            listener.set_mode(socket_mode)

    def _missing(self) -> list[ListenAddress]:
        held = [door.address for door in self._acceptor]
        missing = []
        for address in self._addresses:
            if address in held:
                held.remove(address)
            else:
                missing.append(address)
        return missing

    def _begin(self, door: _ListeningSocket) -> None:
        if self._tasks is not None:
            door.acceptors = [
                self._tasks.create_task(self._accept(x), name=f"accept {x.name}")
                for x in door.listeners
            ]

    def _shut(self, door: _ListeningSocket) -> None:
        inherited = isinstance(door.address, socket.socket)
        for listener in door.listeners:
            if self._tasks is not None and not inherited and not listener.closed:
                self._take(listener)
            listener.close()
        for acceptor in door.acceptors:
            acceptor.cancel()

    def _name(self) -> None:
        # In the order of the configuration, whatever was bound first.
        rest = list(self._acceptor)
        names: list[str] = []
        for address in self._addresses:
            door = next((d for d in rest if d.address == address), None)
            if door is not None:
                rest.remove(door)
                names += [listener.name for listener in door.listeners]
        self.bound = tuple(names)


async def _open(
    addresses: Sequence[ListenAddress], socket_mode: int
) -> list[_ListeningSocket]:
    """Listen on all of ``addresses``, or on none."""
    doors: list[_ListeningSocket] = []
    try:
        for address in addresses:
            own = address.dup() if isinstance(address, socket.socket) else address
            doors.append(
                _ListeningSocket(address, await bind([own], socket_mode=socket_mode))
            )
    except BaseException:
        for door in doors:
            for listener in door.listeners:
                listener.close()
        raise
    return doors
