"""The set of mappings that run, and how it changes (design D11, D12).

A mapping's trouble is its own: nothing that happens to one stops another. Each of them
is a compartment (``base/compartment.py``), whatever is done with it.
"""

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from weakref import WeakKeyDictionary

from ssmtunneld.base.compartment import run_compartment
from ssmtunneld.config import Tunnel
from ssmtunneld.config.reload import Changes
from ssmtunneld.errors import UnknownMapping
from ssmtunneld.log import get_log
from ssmtunneld.mapping import Mapping as RunningMapping
from ssmtunneld.ops.history import Reading
from ssmtunneld.ops.status import MappingStatus, broken_status
from ssmtunneld.race import unless
from ssmtunneld.shared import Shared


class Fleet:
    """All mappings of a configuration.

    Args:
        tunnels: Their settings, in the order of the file.
        shared: What they use of the process.
        inherited: Listening sockets by the names of mappings. They stay open for as
            long as the fleet, so that a mapping that comes back finds its own again.
    """

    def __init__(
        self,
        tunnels: Sequence[Tunnel],
        shared: Shared,
        inherited: Mapping[str, Sequence[socket.socket]],
    ) -> None:
        self._shared = shared
        self._inherited = inherited
        self._log = get_log()
        self._mappings = {tunnel.name: self._make(tunnel) for tunnel in tunnels}
        self._leaving: set[RunningMapping] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._runs: dict[RunningMapping, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._last_seen: WeakKeyDictionary[RunningMapping, MappingStatus] = (
            WeakKeyDictionary()
        )
        for name in inherited.keys() - self._mappings.keys():
            self._log.warning(
                "socket.unused", name=name, reason="no tunnel of this name"
            )

    def __iter__(self) -> Iterator[RunningMapping]:
        return iter(self._mappings.values())

    def __len__(self) -> int:
        return len(self._mappings)

    def get(self, name: str) -> RunningMapping:
        """Return the mapping called ``name``.

        Raises:
            UnknownMapping: There is none.
        """
        try:
            return self._mappings[name]
        except KeyError:
            raise UnknownMapping(name, self._mappings) from None

    def _make(self, tunnel: Tunnel) -> RunningMapping:
        return RunningMapping(
            tunnel, self._shared, self._inherited.get(tunnel.name, ())
        )

    async def bind(self) -> bool:
        """Listen for all mappings; return whether any of them can.

        Before any session is asked for: a taken port costs nothing (design D10).
        """
        return any(
            [
                await mapping.defects.attempt("addresses", mapping.bind)
                for mapping in self
            ]
        )

    async def run(self) -> None:
        """Run all mappings until cancelled, which ends them at once."""
        async with asyncio.TaskGroup() as self._tasks:
            for mapping in self:
                self._start(mapping)
            await asyncio.Event().wait()

    def _start(self, mapping: RunningMapping) -> None:
        if self._tasks is not None:
            running = run_compartment("tunnel", mapping.run, mapping.defects)
            name = mapping.tunnel.name
            self._runs[mapping] = self._tasks.create_task(running, name=name)

    def status_of(self, mapping: RunningMapping, now: float) -> MappingStatus:
        """Return how ``mapping`` is at ``now``, as far as it can tell."""
        try:
            status = mapping.status(now)
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            mapping.defects.note("status", error)
            last = self._last_seen.get(mapping)
            return broken_status(mapping.tunnel, last, mapping.defects.snapshot(now))
        self._last_seen[mapping] = status
        return status

    @property
    def accepting(self) -> bool:
        """Whether every server that has its addresses accepts from them."""
        found = True
        for mapping in self:
            with mapping.defects.guard("status"):
                found &= mapping.server.accepting or not mapping.server.bound
        return found

    def readings(self) -> dict[str, Reading]:
        """Return the counters of all mappings that can tell them."""
        found = {}
        for mapping in self:
            with mapping.defects.guard("status"):
                found[mapping.tunnel.name] = mapping.reading()
        return found

    def close(self) -> None:
        """Release the inherited sockets, after :meth:`run`."""
        for sockets in self._inherited.values():
            for sock in sockets:
                sock.close()

    async def wait_ready(self) -> None:
        """Return when every mapping that is required has been ready for a moment.

        One that is started on demand counts as ready; one that is paused does not.
        Cancelling is safe.
        """
        waiting = self._pending()
        while waiting:
            self._changed.clear()
            await unless(self._changed, waiting[0].wait_usable())
            waiting = self._pending()

    def _pending(self) -> list[RunningMapping]:
        required = [m for m in self if m.tunnel.required and m.tunnel.warm]
        return [mapping for mapping in required if not mapping.usable]

    async def apply(self, tunnels: Sequence[Tunnel], budget: float) -> Changes:
        """Take over another configuration; touch only what is different.

        To be called by one at a time. Returns when new connections find everything as
        ``tunnels`` say, except what cannot be had: see ``Mapping.apply``.

        Args:
            tunnels: The settings of all mappings.
            budget: Seconds that connections of removed mappings have to finish.

        Returns:
            What is different.
        """
        changes = Changes.between([mapping.tunnel for mapping in self], tunnels)
        wanted = {tunnel.name: tunnel for tunnel in tunnels}
        before = self._mappings
        # All give back before any takes: an address may move from one to another.
        for name in changes.removed:
            self._dismiss(before[name], budget)
        changed, replaced = _divide(changes.changed, before, wanted)
        for name in replaced:
            self._dismiss(before[name], budget)
        for name in changed:
            with before[name].defects.guard("addresses"):
                before[name].release(wanted[name])
        self._mappings = {
            name: before[name]
            if name in before and name not in replaced
            else self._make(tunnel)
            for name, tunnel in wanted.items()
        }
        async with asyncio.TaskGroup() as tasks:
            for name in (*changes.added, *replaced):
                tasks.create_task(self._add(self._mappings[name]), name=name)
            for name in changed:
                mapping = self._mappings[name]
                applying = partial(mapping.apply, wanted[name])
                change = mapping.defects.attempt("reload", applying)
                tasks.create_task(change, name=name)
        self._changed.set()
        return changes

    async def _add(self, mapping: RunningMapping) -> None:
        try:
            await mapping.defects.attempt("addresses", mapping.bind)
        finally:
            self._start(mapping)

    def _dismiss(self, mapping: RunningMapping, budget: float) -> None:
        with mapping.defects.guard("listener"):
            mapping.server.stop_accepting()
        self._leaving.add(mapping)
        if self._tasks is not None:
            name = f"end of {mapping.tunnel.name}"
            self._tasks.create_task(self._end(mapping, budget), name=name)

    async def _end(self, mapping: RunningMapping, budget: float) -> None:
        cut = await mapping.defects.attempt("tunnel", partial(mapping.end, budget))
        mapping.log.info("mapping.removed", cut=cut or 0)
        self._runs.pop(mapping).cancel()
        self._leaving.discard(mapping)

    def stop_accepting(self) -> None:
        """Give all addresses back at once; connections go on. Idempotent."""
        for mapping in self:
            with mapping.defects.guard("listener"):
                mapping.server.stop_accepting()

    async def end(self, budget: float) -> int:
        """Let all connections finish, and end all sessions; then cancel :meth:`run`.

        Cancelling is safe: what is left goes on.

        Args:
            budget: Seconds that connections have to finish; then they are reset.

        Returns:
            How many were reset.
        """
        self.stop_accepting()
        mappings = [*self, *self._leaving]
        async with asyncio.TaskGroup() as tasks:
            ends = [
                tasks.create_task(
                    mapping.defects.attempt("tunnel", partial(mapping.end, budget)),
                    name=mapping.tunnel.name,
                )
                for mapping in mappings
            ]
        return sum(end.result() or 0 for end in ends)


def _divide(
    names: Sequence[str],
    before: Mapping[str, RunningMapping],
    after: Mapping[str, Tunnel],
) -> tuple[list[str], list[str]]:
    """Return which mappings can change, and which need another in their place.

    One that asks its clients where they want to go has another kind of sessions.
    """
    same = [n for n in names if before[n].tunnel.is_dynamic == after[n].is_dynamic]
    return same, [name for name in names if name not in same]
