"""The listening sockets of one server, and an accept loop for each of them.

The wanted addresses can change at any time: those that stay wanted are not
touched, so that no client is refused at them.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ssmtunneld.listener.sockets import bind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from ssmtunneld.listener.sockets import ListenAddress, Listener


@dataclass(slots=True)
class _Binding:
    """One bound address and its sockets: two for ``localhost``."""

    address: ListenAddress
    listeners: list[Listener]
    acceptors: list[asyncio.Task[None]] = field(default_factory=list)


class Acceptor:
    """The listening sockets of a server.

    Args:
        addresses: The addresses to listen on. An inherited socket stays open at the
            end: connections wait in it for the next process that listens.
        accept: Accepts from a listener until cancelled.
        take: Accepts what waits at a listener that is about to be closed. By default
            that is left to be reset.

    Attributes:
        bound: The bound addresses, with their real ports.
    """

    def __init__(
        self,
        addresses: Sequence[ListenAddress],
        accept: Callable[[Listener], Coroutine[Any, Any, None]],
        take: Callable[[Listener], None] = lambda _: None,
    ) -> None:
        self._addresses = tuple(addresses)
        self._accept = accept
        self._take = take
        self._bindings: list[_Binding] = []
        self._tasks: asyncio.TaskGroup | None = None
        self.bound: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """The addresses to listen on; a removed one is closed at once.

        Connections that wait at a removed address are accepted first. Added addresses
        are bound by :meth:`open`.
        """
        return self._addresses

    @addresses.setter
    def addresses(self, addresses: Sequence[ListenAddress]) -> None:
        self._addresses = tuple(addresses)
        wanted = list(addresses)
        for binding in list(self._bindings):
            if binding.address in wanted:
                wanted.remove(binding.address)
            else:
                self._bindings.remove(binding)
                self._close(binding)
        self._name()

    @property
    def complete(self) -> bool:
        """True if every address is bound."""
        return not self._missing()

    @property
    def accepting(self) -> bool:
        """True if every accept loop is alive, even if it pauses at the moment."""
        return bool(self._bindings) and all(
            binding.acceptors and not any(a.done() for a in binding.acceptors)
            for binding in self._bindings
        )

    async def open(self, socket_mode: int) -> tuple[str, ...]:
        """Bind all missing addresses, or none of them.

        Cancelling is safe: nothing stays bound that was not before. Calls must not
        overlap.

        Returns:
            The addresses that this call has bound.

        Raises:
            AddressInUse: An address is taken; names the holder if it is known.
            AddressForbidden: This user must not bind an address.
        """
        bindings = await _open(self._missing(), socket_mode)
        self._bindings += bindings
        # Finding the holder of an address takes a while; it can be unwanted by now.
        self.addresses = self._addresses
        for binding in bindings:
            if binding in self._bindings:
                self._begin(binding)
        return tuple(
            listener.name
            for binding in bindings
            if binding in self._bindings
            for listener in binding.listeners
        )

    @property
    def listeners(self) -> list[Listener]:
        """All listening sockets."""
        return [
            listener for binding in self._bindings for listener in binding.listeners
        ]

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Accept in ``tasks`` from now on."""
        self._tasks = tasks
        for binding in self._bindings:
            self._begin(binding)

    def leave(self) -> None:
        """Start nothing more in the tasks of :meth:`start`: they are ending."""
        self._tasks = None

    def close(self) -> None:
        """Close all sockets; :attr:`bound` still names them. Idempotent."""
        bindings, self._bindings, self._addresses = self._bindings, [], ()
        for binding in bindings:
            self._close(binding)

    def forget_lost(self) -> tuple[str, ...]:
        """Close the sockets whose files were removed; :meth:`open` makes them again.

        Connections that wait there are accepted first.

        Returns:
            The names of their addresses.
        """
        lost = [b for b in self._bindings if any(x.lost for x in b.listeners)]
        for binding in lost:
            self._bindings.remove(binding)
            self._close(binding)
        if lost:
            self._name()
        return tuple(x.name for binding in lost for x in binding.listeners)

    def set_mode(self, socket_mode: int) -> None:
        """Change the permissions of the Unix sockets."""
        for listener in self.listeners:
            listener.set_mode(socket_mode)

    def _missing(self) -> list[ListenAddress]:
        held = [binding.address for binding in self._bindings]
        missing = []
        for address in self._addresses:
            if address in held:
                held.remove(address)
            else:
                missing.append(address)
        return missing

    def _begin(self, binding: _Binding) -> None:
        if self._tasks is not None:
            binding.acceptors = [
                self._tasks.create_task(self._accept(x), name=f"accept {x.name}")
                for x in binding.listeners
            ]

    def _close(self, binding: _Binding) -> None:
        inherited = isinstance(binding.address, socket.socket)
        for listener in binding.listeners:
            if self._tasks is not None and not inherited and not listener.closed:
                self._take(listener)
            listener.close()
        for acceptor in binding.acceptors:
            acceptor.cancel()

    def _name(self) -> None:
        # In the order of the configuration, not in that of binding.
        remaining = list(self._bindings)
        names: list[str] = []
        for address in self._addresses:
            binding = next((b for b in remaining if b.address == address), None)
            if binding is not None:
                remaining.remove(binding)
                names += [listener.name for listener in binding.listeners]
        self.bound = tuple(names)


async def _open(addresses: Sequence[ListenAddress], socket_mode: int) -> list[_Binding]:
    """Listen on all of ``addresses``, or on none."""
    bindings: list[_Binding] = []
    with ExitStack() as undo:
        for address in addresses:
            own = address.dup() if isinstance(address, socket.socket) else address
            listeners = await bind([own], socket_mode=socket_mode)
            for listener in listeners:
                undo.callback(listener.close)
            bindings.append(_Binding(address, listeners))
        undo.pop_all()
    return bindings
