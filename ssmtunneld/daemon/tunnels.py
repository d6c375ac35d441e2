"""The set of tunnels that run, and how it changes (design D11, D12).

Those that the file disables are listed, and nothing of them runs. A tunnel's trouble is
its own: nothing that happens to one stops another. Each of them is a compartment
(``base/compartment.py``), whatever is done with it.
"""

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from weakref import WeakKeyDictionary

from ssmtunneld.base.aio import run_until
from ssmtunneld.base.compartment import run_compartment
from ssmtunneld.base.log import get_log
from ssmtunneld.config import TunnelSettings
from ssmtunneld.config.reload import Changes
from ssmtunneld.daemon.context import DaemonContext
from ssmtunneld.daemon.tunnel import Tunnel
from ssmtunneld.errors import TunnelDisabled, UnknownTunnel
from ssmtunneld.observe.history import TrafficSample
from ssmtunneld.observe.status import TunnelStatus, broken_status, disabled_status


class Tunnels:
    """All tunnels of a configuration.

    Args:
        tunnels: Their settings, in the order of the files.
        context: What they use of the process.
        inherited: Listening sockets by the names of tunnels. They stay open for as
            long as the set, so that a tunnel that comes back finds its own again.
    """

    def __init__(
        self,
        tunnels: Sequence[TunnelSettings],
        context: DaemonContext,
        inherited: Mapping[str, Sequence[socket.socket]],
    ) -> None:
        self._context = context
        self._inherited = inherited
        self._log = get_log()
        self._settings = tuple(tunnels)
        self._tunnels = {t.name: self._make(t) for t in tunnels if t.enabled}
        self._leaving: set[Tunnel] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._runs: dict[Tunnel, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._last_seen: WeakKeyDictionary[Tunnel, TunnelStatus] = WeakKeyDictionary()
        names = {tunnel.name for tunnel in tunnels}
        for name in inherited.keys() - self._tunnels.keys():
            reason = "disabled tunnel" if name in names else "unknown tunnel"
            self._log.warning("socket.unused", name=name, reason=reason)

    def __iter__(self) -> Iterator[Tunnel]:
        return iter(self._tunnels.values())

    @property
    def with_leaving(self) -> tuple[Tunnel, ...]:
        """All that have connections: also those that a reload has removed."""
        return (*self, *self._leaving)

    def __len__(self) -> int:
        return len(self._tunnels)

    @property
    def entries(self) -> list[Tunnel | TunnelSettings]:
        """All tunnels, in the order of the files; of disabled ones the settings."""
        return [self._tunnels.get(each.name, each) for each in self._settings]

    def get(self, name: str) -> Tunnel:
        """Return the tunnel called ``name``.

        Raises:
            UnknownTunnel: There is none.
            TunnelDisabled: It does not run.
        """
        self.check(name)
        try:
            return self._tunnels[name]
        except KeyError:
            raise TunnelDisabled(name) from None

    def check(self, name: str) -> None:
        """Make sure that there is a tunnel called ``name``, which can be disabled.

        Raises:
            UnknownTunnel: There is none.
        """
        known = [tunnel.name for tunnel in self._settings]
        if name not in known:
            raise UnknownTunnel(name, known)

    def _make(self, tunnel: TunnelSettings) -> Tunnel:
        return Tunnel(tunnel, self._context, self._inherited.get(tunnel.name, ()))

    async def bind(self) -> bool:
        """Listen for all tunnels; return whether any of them can.

        Before any session is asked for: a taken port costs nothing (design D10).
        """
        return any(
            [await tunnel.defects.attempt("addresses", tunnel.bind) for tunnel in self]
        )

    async def run(self) -> None:
        """Run all tunnels until cancelled, which ends them at once."""
        async with asyncio.TaskGroup() as self._tasks:
            for tunnel in self:
                self._start(tunnel)
            await asyncio.Event().wait()

    def _start(self, tunnel: Tunnel) -> None:
        if self._tasks is not None:
            running = run_compartment("tunnel", tunnel.run, tunnel.defects)
            name = tunnel.settings.name
            self._runs[tunnel] = self._tasks.create_task(running, name=name)

    def status_of(self, tunnel: Tunnel | TunnelSettings, now: float) -> TunnelStatus:
        """Return how one of the ``entries`` is at ``now``, as far as it can tell."""
        if isinstance(tunnel, TunnelSettings):
            return disabled_status(tunnel)
        try:
            status = tunnel.status(now)
        except Exception as error:  # noqa: BLE001 - the boundary of a compartment
            tunnel.defects.note("status", error)
            last = self._last_seen.get(tunnel)
            return broken_status(tunnel.settings, last, tunnel.defects.snapshot(now))
        self._last_seen[tunnel] = status
        return status

    @property
    def accepting(self) -> bool:
        """True if every server that has its addresses accepts from them."""
        found = True
        for tunnel in self:
            with tunnel.defects.guard("status"):
                found &= tunnel.server.accepting or not tunnel.server.bound
        return found

    def readings(self) -> dict[str, TrafficSample]:
        """Return the counters of all tunnels that can tell them."""
        found = {}
        for tunnel in self:
            with tunnel.defects.guard("status"):
                found[tunnel.settings.name] = tunnel.reading()
        return found

    def close(self) -> None:
        """Release the inherited sockets, after :meth:`run`."""
        for sockets in self._inherited.values():
            for sock in sockets:
                sock.close()

    async def wait_ready(self) -> None:
        """Return when every tunnel that is required has been ready for a moment.

        One that is started on demand counts as ready; one that is paused does not.
        Cancelling is safe.
        """
        waiting = self._pending()
        while waiting:
            self._changed.clear()
            await run_until(waiting[0].wait_usable(), self._changed)
            waiting = self._pending()

    def _pending(self) -> list[Tunnel]:
        required = [m for m in self if m.settings.required and m.settings.warm]
        return [m for m in required if not m.usable and not m.settings.start_target]

    async def apply(self, tunnels: Sequence[TunnelSettings], budget: float) -> Changes:
        """Take over another configuration; touch only what is different.

        Must be called by one at a time. Returns when new connections find everything as
        ``tunnels`` say, except what cannot be applied: see ``Tunnel.apply``.

        Args:
            tunnels: The settings of all tunnels.
            budget: Seconds that connections of removed tunnels have to finish.

        Returns:
            What is different.
        """
        changes = Changes.between(self._settings, tunnels)
        self._settings = tuple(tunnels)
        wanted = {settings.name: settings for settings in tunnels if settings.enabled}
        before = self._tunnels
        running = [tunnel.settings for tunnel in before.values()]
        needed = Changes.between(running, [*wanted.values()])
        # All give back before any takes: an address may move from one to another.
        for name in needed.removed:
            self._dismiss(before[name], budget)
        changed, replaced = _divide(needed.changed, before, wanted)
        for name in replaced:
            self._dismiss(before[name], budget)
        for name in changed:
            with before[name].defects.guard("addresses"):
                before[name].release(wanted[name])
        self._tunnels = {
            name: before[name]
            if name in before and name not in replaced
            else self._make(settings)
            for name, settings in wanted.items()
        }
        async with asyncio.TaskGroup() as tasks:
            for name in (*needed.added, *replaced):
                tasks.create_task(self._add(self._tunnels[name]), name=name)
            for name in changed:
                tunnel = self._tunnels[name]
                applying = partial(tunnel.apply, wanted[name])
                change = tunnel.defects.attempt("reload", applying)
                tasks.create_task(change, name=name)
        self._changed.set()
        return changes

    async def _add(self, tunnel: Tunnel) -> None:
        try:
            await tunnel.defects.attempt("addresses", tunnel.bind)
        finally:
            self._start(tunnel)

    def _dismiss(self, tunnel: Tunnel, budget: float) -> None:
        with tunnel.defects.guard("listener"):
            tunnel.server.stop_accepting()
        self._leaving.add(tunnel)
        if self._tasks is not None:
            name = f"end of {tunnel.settings.name}"
            self._tasks.create_task(self._end(tunnel, budget), name=name)

    async def _end(self, tunnel: Tunnel, budget: float) -> None:
        cut = await tunnel.defects.attempt("tunnel", partial(tunnel.end, budget))
        tunnel.log.info("tunnel.removed", cut=cut or 0)
        self._runs.pop(tunnel).cancel()
        self._leaving.discard(tunnel)

    def stop_accepting(self) -> None:
        """Give all addresses back at once; connections go on. Idempotent."""
        for tunnel in self:
            with tunnel.defects.guard("listener"):
                tunnel.server.stop_accepting()

    async def end(self, budget: float) -> int:
        """Let all connections finish, and end all sessions; then cancel :meth:`run`.

        Cancelling is safe: what is left goes on.

        Args:
            budget: Seconds that connections have to finish; then they are reset.

        Returns:
            How many were reset.
        """
        self.stop_accepting()
        tunnels = self.with_leaving
        async with asyncio.TaskGroup() as tasks:
            ends = [
                tasks.create_task(
                    tunnel.defects.attempt("tunnel", partial(tunnel.end, budget)),
                    name=tunnel.settings.name,
                )
                for tunnel in tunnels
            ]
        return sum(end.result() or 0 for end in ends)


def _divide(
    names: Sequence[str],
    before: Mapping[str, Tunnel],
    after: Mapping[str, TunnelSettings],
) -> tuple[list[str], list[str]]:
    """Return which tunnels can change, and which need another in their place.

    One that asks its clients where they want to go has another kind of sessions.
    """
    same = [n for n in names if before[n].settings.is_dynamic == after[n].is_dynamic]
    return same, [name for name in names if name not in same]
